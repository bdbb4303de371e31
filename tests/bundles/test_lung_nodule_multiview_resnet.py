"""What is special about this bundle: three views, trunks of their own or one, and a curriculum over ratings."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch

from medresnet3d.bundle.load import load_config
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.data import items
from medresnet3d.data.phantoms.lidc import write_nodule_cohort
from tests.bundles.as_configured import parameter_count

BUNDLE = find_bundle("lung_nodule_multiview_resnet")


@pytest.mark.parametrize(
    ("overrides", "parameters"),
    [
        ({}, 2_102_354),
        ({"share_weights": True}, 701_298),
        ({"size": "paper"}, 33_513_794),
        ({"size": "paper", "share_weights": True}, 11_173_314),
        ({"size": "paper", "arch": "resnet50"}, 70_517_570),
    ],
)
def test_size_depth_and_sharing_are_one_id_each(overrides: dict[str, Any], parameters: int) -> None:
    parser = load_config(BUNDLE, ("inference.json",), overrides)
    with torch.device("meta"):
        network = parser.get_parsed_content("network_def")
    assert parameter_count(network) == parameters


@pytest.mark.parametrize("arch", ["resnet10", "resnet34"])
def test_other_depths_give_two_logits(arch: str) -> None:
    network = load_config(BUNDLE, ("inference.json",), {"arch": arch}).get_parsed_content("network_def").eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 2)


def test_training_begins_with_what_readers_are_sure_of(tmp_path: Path) -> None:
    manifest = write_nodule_cohort(tmp_path, patients=16, size=24)
    overrides = {"data": str(manifest), "device": "cpu", "output_dir": str(tmp_path), "batch_size": 4}
    parser = load_config(BUNDLE, ("train.json",), overrides)
    loader = parser.get_parsed_content("train#dataloader")
    listed = items(manifest, "training")
    loader.set_epoch(1)
    drawn = [index[0] if isinstance(index, tuple) else index for index in loader.sampler]
    first = [median(listed[index]["malignancy"]) for index in drawn]
    assert set(first) == {1, 5}
    loader.set_epoch(11)
    assert sorted(loader.sampler) == list(range(len(listed)))


def test_without_ratings_the_curriculum_is_left_out_by_its_id(tmp_path: Path) -> None:
    manifest = write_nodule_cohort(tmp_path, patients=12, size=24)
    content = json.loads(manifest.read_text())
    for entry in (entry for section in ("training", "validation", "test") for entry in content[section]):
        entry.pop("malignancy")
    manifest.write_text(json.dumps(content))
    overrides = {"data": str(manifest), "device": "cpu", "output_dir": str(tmp_path), "curriculum": []}
    loader = load_config(BUNDLE, ("train.json",), overrides).get_parsed_content("train#dataloader")
    assert len(loader.sampler) == len(items(manifest, "training"))
