"""What is special about this bundle: slices that vote or a volume, and kernels side by side, by one id each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from medresnet3d.bundle.load import load_config
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.data.phantoms.mri import write_brain_cohort
from medresnet3d.networks.msresnet import MSResNet
from medresnet3d.networks.slice_vote import SliceVote
from tests.bundles.as_configured import parameter_count

BUNDLE = find_bundle("alzheimer_msresnet")


def network(**overrides: Any) -> torch.nn.Module:
    built: torch.nn.Module = load_config(BUNDLE, ("inference.json",), overrides).get_parsed_content("network_def")
    return built


@pytest.mark.parametrize(
    ("overrides", "kind", "parameters"),
    [
        ({}, SliceVote, 238_643),
        ({"size": "paper"}, SliceVote, 2_165_907),
        ({"spatial_dims": 3}, MSResNet, 1_345_587),
        ({"spatial_dims": 3, "size": "paper"}, MSResNet, 12_305_331),
    ],
)
def test_dimension_and_size_are_one_id_each(overrides: dict[str, Any], kind: type, parameters: int) -> None:
    with torch.device("meta"):
        built = network(**overrides)
    assert isinstance(built, kind)
    assert parameter_count(built) == parameters


def test_the_part_of_the_brain_follows_dimension_and_size() -> None:
    found = [
        load_config(BUNDLE, ("inference.json",), {"size": size, "spatial_dims": dims}).get_parsed_content("grid")
        for size in ("slim", "paper")
        for dims in (2, 3)
    ]
    assert found == [[56, 64, 8], [56, 64, 16], [112, 128, 16], [112, 128, 32]]


def test_one_scale_and_every_vote_are_one_id() -> None:
    for overrides in ({"kernels": [5, 5, 5]}, {"vote": "majority"}, {"vote": "product"}):
        with torch.inference_mode():
            assert network(**overrides).eval()(torch.zeros(1, 4, 32, 32)).shape == (1, 3)


@pytest.mark.parametrize("overrides", [{"spatial_dims": 3}, {"loss": "cosface"}, {"activation": "elu"}])
def test_other_parts_train_two_steps(overrides: dict[str, Any], tmp_path: Path) -> None:
    manifest = write_brain_cohort(tmp_path / "cohort", "adni", "diagnosis", people=15, size=24, turn_degrees=0.0)
    settings = {"data": str(manifest), "output_dir": str(tmp_path), "device": "cpu", "align": False, "batch_size": 4}
    settings |= {"steps": 2, "train::handlers": [], "grids": {"slim": [[24, 28, 4], [24, 28, 8]]}} | overrides
    parser = load_config(BUNDLE, ("train.json",), settings)
    before = [each.detach().clone() for each in parser.get_parsed_content("network").parameters()]
    trainer = parser.get_parsed_content("train#trainer")
    trainer.run()
    after = list(parser.get_parsed_content("network").parameters())
    assert trainer.state.iteration == 2
    assert sum(not torch.equal(one, other) for one, other in zip(before, after, strict=True)) > len(after) / 2
