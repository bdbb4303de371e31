"""What is special about this bundle: the mode is one id, and whatever it is, a scan gives one map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from medresnet3d.bundle.load import load_config
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.data.phantoms.luna16 import write_nodule_scans
from tests.bundles.as_configured import parameter_count

BUNDLE = find_bundle("lung_nodule_detection_dense_unet")


@pytest.mark.parametrize(("mode", "parameters"), [("2d", 651_803), ("2.5d", 652_379), ("3d", 1_741_467)])
def test_the_published_size_of_every_mode(mode: str, parameters: int) -> None:
    parser = load_config(BUNDLE, ("inference.json",), {"size": "paper", "mode": mode})
    with torch.device("meta"):
        network = parser.get_parsed_content("network_def")
    assert parameter_count(network) == parameters
    assert parser.get_parsed_content("voxel_size_mm") == 1.0


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nodule_scans(
        tmp_path_factory.mktemp("chests"), 3, 1, shape=(40, 34, 24), spacing=(4.0, 4.0, 4.0), nodules=2, distractors=2,
        diameters_mm=(14.0, 24.0),
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["2d", "2.5d", "3d"])
def test_every_mode_trains_and_gives_one_map_of_a_scan(mode: str, cohort: Path, tmp_path: Path) -> None:
    overrides: dict[str, Any] = {"mode": mode, "data": str(cohort), "output_dir": str(tmp_path), "device": "cpu"}
    overrides |= {"steps": 2, "batch_size": 1, "voxel_size_mm": 4.0, "precision": "fp32", "train::handlers": []}
    parser = load_config(BUNDLE, ("train.json",), overrides)
    network = parser.get_parsed_content("network")
    before = [each.detach().clone() for each in network.parameters()]
    trainer = parser.get_parsed_content("train#trainer")
    trainer.run()
    assert trainer.state.iteration == 2
    changed = [not torch.equal(one, other) for one, other in zip(before, network.parameters(), strict=True)]
    assert sum(changed) > 0.9 * len(changed)
    scan = parser.get_parsed_content("validate#dataset")[0]["image"].as_tensor()[None]
    with torch.no_grad():
        answer = parser.get_parsed_content("validate#inferer")(scan, network.eval())
    assert answer.shape == scan.shape and torch.isfinite(answer).all()


@pytest.mark.parametrize(("size", "rate"), [("slim", 3e-3), ("paper", 1e-4)])
def test_the_optimizer_is_adam(size: str, rate: float) -> None:
    parser = load_config(BUNDLE, ("train.json",), {"device": "cpu", "steps": 10, "size": size})
    assert type(parser.get_parsed_content("optimizer")) is torch.optim.Adam
    assert parser.get_parsed_content("learning_rate") == rate


def test_the_loss_is_dice_and_cross_entropy() -> None:
    parser = load_config(BUNDLE, ("train.json",), {"device": "cpu", "steps": 10})
    loss = parser.get_parsed_content("loss")
    truth = (torch.rand(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0)) > 0.7).float()
    assert float(loss(40 * truth - 20, truth)) < 1e-3
    output = torch.zeros(1, 1, 8, 8, 8)
    dice = 1 - 2 * 0.5 * truth.sum() / (0.5 * truth.numel() + truth.sum())
    expected = nn.functional.binary_cross_entropy_with_logits(output, truth) + dice
    torch.testing.assert_close(loss(output, truth), expected, atol=1e-3, rtol=1e-3)
