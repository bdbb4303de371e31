from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from medresnet3d.data import items
from medresnet3d.data.phantoms.hippocampus import write_hippocampus_cohort
from medresnet3d.errors import ConfigError
from medresnet3d.networks.hippocampus import mask_centre
from medresnet3d.transforms.hippocampus_regions import (
    NO_MASK,
    RandSwapSidesd,
    SidesToChannelsd,
    hippocampus_regions_inference,
    hippocampus_regions_training,
)

REGION = {"shape": (12, 20, 12), "spacing": 4.0}


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    manifest = write_hippocampus_cohort(tmp_path_factory.mktemp("adni"), people=9, size=48, masked=2)
    return items(manifest, "all")


def test_left_and_right_are_channels_and_the_left_one_is_mirrored() -> None:
    volume = torch.arange(8.0)[None, :, None, None].expand(1, 8, 2, 3)
    sides = SidesToChannelsd("image")({"image": volume})["image"]
    assert sides[:, :, 0, 0].tolist() == [[3.0, 2.0, 1.0, 0.0], [4.0, 5.0, 6.0, 7.0]]
    symmetric = torch.cat([volume.flip(1), volume], 1)
    left, right = SidesToChannelsd("image")({"image": symmetric})["image"]
    assert torch.equal(left, right)


def test_sides_change_places_in_image_and_mask_together() -> None:
    item = {key: torch.tensor([0.0, 1.0])[:, None, None, None] for key in ("image", "mask")}
    seen = set()
    for seed in range(10):
        swap = RandSwapSidesd(["image", "mask"])
        swap.set_random_state(seed=seed)
        moved = swap(item)
        assert torch.equal(moved["image"], moved["mask"])
        seen.add(float(moved["image"][0]))
    assert seen == {0.0, 1.0}


def test_both_hippocampi_lie_in_the_middle_of_their_regions(people: list[dict[str, Any]]) -> None:
    """Whatever the pose of the head: within 12 mm of the middle, where an empty mask has its patch."""
    prepare = hippocampus_regions_training(**REGION, augmentation="none")
    for person in [person for person in people if "mask" in person][:3]:
        item = prepare(dict(person))
        assert item["image"].shape == item["mask"].shape == (2, 12, 20, 12)
        assert ((item["mask"] > 0).flatten(1).sum(1) > 10).all()
        centres = mask_centre(torch.stack([1 - item["mask"], item["mask"]], 1)).numpy()
        assert np.abs(4.0 * (centres - np.array([6, 10, 6]))).max() <= 12


def test_whoever_has_no_mask_is_told_by_its_values(people: list[dict[str, Any]]) -> None:
    prepare = hippocampus_regions_training(**REGION, augmentation="light")
    item = prepare(dict(next(person for person in people if "mask" not in person)))
    assert (item["mask"] == NO_MASK).all()
    assert item["mask"].shape == item["image"].shape


def test_inference_needs_no_mask_and_sees_what_training_without_variation_sees(people: list[dict[str, Any]]) -> None:
    person = people[0]
    trained = hippocampus_regions_training(**REGION, augmentation="none")(dict(person))["image"]
    seen = hippocampus_regions_inference(**REGION)({"image": person["image"], "case": "a"})
    torch.testing.assert_close(torch.as_tensor(seen["image"]).as_subclass(torch.Tensor), trained)
    assert "mask" not in seen


def test_an_unknown_augmentation_is_refused() -> None:
    with pytest.raises(ConfigError, match="light"):
        hippocampus_regions_training(**REGION, augmentation="mild")
