from __future__ import annotations

import gc
import weakref
from typing import Any, NamedTuple

import pytest
import torch
from monai.data import MetaTensor
from monai.networks.nets import UNet
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.inferers import execution
from medresnet3d.inferers.execution import prepare, resolve_precision
from medresnet3d.networks.voxresnet import VoxResNet

CPU = torch.device("cpu")
X = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))


def unet() -> UNet:
    torch.manual_seed(0)
    return UNet(3, 1, 3, (4, 8, 16), (2, 2), num_res_units=1, norm="batch")


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 0.02)])
@pytest.mark.parametrize("make", [unet, lambda: VoxResNet(3, 1, 4, width=8)], ids=["unet", "voxresnet"])
def test_the_copy_answers_as_the_network_does(make: Any, precision: str, tolerance: float) -> None:
    network = make()
    prepared = prepare(network, device="cpu", precision=precision)
    found = prepared.agreement(X)
    assert found.largest_difference < tolerance
    assert found.labels > (0.999999 if precision == "fp32" else 0.97)
    assert (prepared.precision, prepared.memory_format) == (precision, "channels_last")
    assert prepared.description.startswith(f"{precision}, channels last, ")
    assert "batch normalisations folded" in prepared.description


def test_the_network_itself_stays_as_it_is() -> None:
    network = unet().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    layers = [type(module) for module in network.modules()]
    prepare(network, device="cpu", precision="bf16", example=X)
    assert network.training
    assert [type(module) for module in network.modules()] == layers
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_prepared_once_until_the_weights_change() -> None:
    network = unet()
    first = prepare(network, device="cpu")
    assert prepare(network, device=CPU) is first
    assert prepare(network, device="cpu", fold=False) is not first
    answer = first(X).float()
    next(network.parameters()).data.mul_(3)
    second = prepare(network, device="cpu")
    assert second is not first
    assert not torch.equal(second(X).float(), answer)


def test_the_network_can_be_freed() -> None:
    network = unet()
    prepared = prepare(network, device="cpu")
    prepared(X)
    alive = weakref.ref(network)
    del network
    gc.collect()
    assert alive() is None
    with pytest.raises(ConfigError, match="no longer exists"):
        prepared.agreement(X)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float64, torch.float16])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_any_number_type_goes_in(dtype: torch.dtype, precision: str) -> None:
    network = unet()
    numbers = (X * 3).round().abs()
    prepared = prepare(network, device="cpu", precision=precision)
    torch.testing.assert_close(prepared(numbers.to(dtype)), prepared(numbers))


def test_metadata_is_left_behind() -> None:
    network = unet()
    assert type(prepare(network, device="cpu")(MetaTensor(X))) is torch.Tensor


class Pair(NamedTuple):
    one: torch.Tensor
    two: torch.Tensor


class Several(nn.Module):
    """A network with a nested output and a second argument."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv3d(1, 2, 3, padding=1)

    def forward(self, x: torch.Tensor, factor: float = 1.0) -> dict[str, Any]:
        y = self.layer(x)
        return {"pair": Pair(y, factor * y), "list": [y]}


def test_the_output_keeps_its_structure() -> None:
    network = Several()
    result = prepare(network, device="cpu", precision="fp32")(X, factor=2.0)
    assert isinstance(result["pair"], Pair)
    torch.testing.assert_close(result["pair"].two, 2 * result["list"][0])


class Upcasting(nn.Module):
    """Makes a fp32 tensor of its own, which a bf16 layer would not take."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv3d(2, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(torch.cat([x, torch.zeros(x.shape)], dim=1))


def test_what_cannot_run_in_bf16_throughout_runs_by_autocast() -> None:
    network = Upcasting()
    prepared = prepare(network, device="cpu", precision="bf16", example=X)
    assert prepared.description == "bf16 by autocast"
    (fallback,) = prepared.fallbacks
    assert fallback.startswith("the network does not run in bf16, channels last: ")
    assert prepared.memory_format == "contiguous"
    assert prepared.agreement(X).largest_difference < 0.02


class Viewing(nn.Module):
    """Needs contiguous features."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv3d(1, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).view(len(x), 8, -1)


def test_what_cannot_run_channels_last_runs_contiguous() -> None:
    network = Viewing()
    pair = torch.cat([X, -X])
    prepared = prepare(network, device="cpu", precision="fp32", example=pair)
    assert prepared.memory_format == "contiguous"
    torch.testing.assert_close(prepared(pair), network(pair).detach())


def test_a_networks_own_error_comes_through() -> None:
    with pytest.raises(RuntimeError, match="channels"):
        prepare(nn.Conv3d(2, 1, 3), device="cpu")(X)


def test_too_little_memory_is_no_reason_for_another_form(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Conv3d(1, 1, 3))
    prepared = prepare(network, device="cpu", precision="bf16")
    full = [True]

    def forward(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
        if full[0]:
            raise torch.OutOfMemoryError("no memory")
        return x

    monkeypatch.setattr(nn.Conv3d, "forward", forward)
    with pytest.raises(torch.OutOfMemoryError):
        prepared(X)
    full[0] = False
    prepared(X)
    assert prepared.description == "bf16, channels last"


def test_a_2d_network() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    x = torch.randn(2, 3, 9, 9)
    prepared = prepare(network, device="cpu", precision="fp32")
    assert prepared(x).is_contiguous(memory_format=torch.channels_last)
    assert prepared.agreement(x).largest_difference < 1e-5
    assert prepared.description.endswith("1 of 1 batch normalisations folded")


def test_auto_takes_bf16_where_the_cpu_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for capable, name in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(execution, "cpu_has_bf16", lambda capable=capable: capable)
        assert resolve_precision("auto", CPU) == name
    assert resolve_precision("auto", torch.device("cuda")) == "fp16"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"precision": "int8"}, 'precision is "int8"'),
        ({"precision": "fp16"}, "needs a CUDA device"),
        ({"backend": "tensorrt"}, 'backend is "tensorrt"'),
    ],
)
def test_options_that_do_not_exist(options: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        prepare(nn.Identity(), device="cpu", **options)
