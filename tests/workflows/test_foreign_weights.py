from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medresnet3d import Predictor
from medresnet3d.errors import UntrustedBundleError, WeightsError
from medresnet3d.workflows.foreign_weights import WeightsPlan, fill
from tests.workflows import foreign_bundles as zoo


def plan(tmp_path: Path, content: object, strict: bool = True) -> WeightsPlan:
    torch.save(content, tmp_path / "model.pt")
    return WeightsPlan(tmp_path / "model.pt", {}, strict)


@pytest.fixture
def layer() -> torch.nn.Module:
    return torch.nn.Linear(2, 2)


def state(value: float = 1.0) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((2, 2), value), "bias": torch.full((2,), value)}


@pytest.mark.parametrize(
    "content",
    [
        state(),
        {"model": state()},
        {"state_dict": state(), "epoch": 3},
        {f"module.{name}": value for name, value in state().items()},
        {name: value.half() for name, value in state().items()},
    ],
)
def test_every_usual_form_of_a_state_dict(tmp_path: Path, layer: torch.nn.Module, content: object) -> None:
    assert fill(plan(tmp_path, content), {"model": layer}) == []
    assert all((value == 1).all() and value.dtype == torch.float32 for value in layer.state_dict().values())


def test_two_networks_of_one_file(tmp_path: Path, layer: torch.nn.Module) -> None:
    other = torch.nn.Linear(2, 2)
    both = plan(tmp_path, {"first": state(1.0), "second": state(2.0)})
    assert fill(both, {"first": layer, "second": other}) == []
    assert other.state_dict()["bias"].tolist() == [2.0, 2.0]
    with pytest.raises(WeightsError, match="holds no weights called first, third"):
        fill(both, {"first": layer, "third": other})


def test_what_the_bundle_allows_to_be_missing(tmp_path: Path, layer: torch.nn.Module) -> None:
    part = {"weight": state()["weight"], "head": torch.zeros(3)}
    with pytest.raises(WeightsError, match="bias is missing; head is not part of the network"):
        fill(plan(tmp_path, part), {"model": layer})
    (note,) = fill(plan(tmp_path, part, strict=False), {"model": layer})
    assert "no weights for 1 of the network's 2 tensors" in note
    with pytest.raises(WeightsError, match="do not fit"):
        fill(plan(tmp_path, {"head": torch.zeros(3)}, strict=False), {"model": layer})


def test_objects_are_not_loaded(tmp_path: Path, layer: torch.nn.Module) -> None:
    with pytest.raises(WeightsError, match="not a state dict of plain tensors"):
        fill(plan(tmp_path, layer), {"model": layer})


def test_only_torchscript_is_there(tmp_path: Path) -> None:
    bundle = zoo.spleen(tmp_path / "spleen")
    from monai.bundle import ConfigParser

    network = ConfigParser({"network": zoo.unet()}).get_parsed_content("network").eval()
    network.load_state_dict(torch.load(bundle / "models" / "model.pt", weights_only=True))
    (bundle / "models" / "model.pt").unlink()
    torch.jit.trace(network, torch.zeros(1, 1, 16, 16, 16)).save(str(bundle / "models" / "model.ts"))
    with pytest.raises(UntrustedBundleError) as caught:
        Predictor(bundle, "cpu")
    assert any("TorchScript program" in finding for finding in caught.value.findings)
    trusted = Predictor(bundle, "cpu", True).network.state_dict()
    assert all(torch.equal(value, trusted[name]) for name, value in network.state_dict().items())
