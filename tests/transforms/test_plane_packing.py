from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate

from medresnet3d.transforms.brain_slices import SlicesToChannelsd
from medresnet3d.transforms.plane_packing import are_planes, unpack_planes
from medresnet3d.transforms.projection import IntermediateDenseProjectiond


def cube(edge: int = 9) -> MetaTensor:
    values = torch.rand(1, edge, edge, edge, generator=torch.Generator().manual_seed(0))
    return MetaTensor(values, affine=2 * torch.eye(4))


def test_slices_go_back_to_the_volume_that_they_are_of() -> None:
    volume = cube()[:, :, :, :5]
    stack = SlicesToChannelsd("image")({"image": volume})["image"]
    np.testing.assert_array_equal(unpack_planes(stack.numpy(), stack.meta), volume.numpy()[0])


@pytest.mark.parametrize(("kind", "count"), [("gaussian", 1), ("stack", 5)])
def test_views_go_back_to_their_places_and_nothing_lies_elsewhere(kind: str, count: int) -> None:
    volume = cube()
    planes = IntermediateDenseProjectiond("image", count=count, kind=kind)({"image": volume})["image"]
    back = unpack_planes(planes.numpy(), planes.meta)
    filled = back != 0
    np.testing.assert_array_equal(back[filled], volume.numpy()[0][filled])
    indices = [4] if count == 1 else [1, 3, 4, 5, 7]
    expected = np.zeros((9, 9, 9), dtype=bool)
    for axis in range(3):
        np.moveaxis(expected, axis, 0)[indices] = True
    np.testing.assert_array_equal(filled, expected)


def test_a_projection_lies_in_the_middle_and_crossings_take_the_larger_value() -> None:
    planes = IntermediateDenseProjectiond("image", count=3)({"image": cube()})["image"]
    values = np.stack([np.full((9, 9), value, dtype=np.float32) for value in (0.2, -0.5, 0.7)])
    back = unpack_planes(values, planes.meta)
    assert [back[4, 1, 1], back[1, 4, 1], back[1, 1, 4]] == pytest.approx([0.7, -0.5, 0.2])
    assert back[4, 1, 4] == pytest.approx(0.7) and back[1, 4, 4] == pytest.approx(0.2) and back[0, 0, 0] == 0


def test_the_places_survive_batches() -> None:
    planes = [IntermediateDenseProjectiond("image", count=1)({"image": cube()}) for _ in range(2)]
    (first, _) = decollate_batch(list_data_collate(planes))
    assert are_planes(first["image"].meta)
    expected = unpack_planes(planes[0]["image"].numpy(), planes[0]["image"].meta)
    np.testing.assert_array_equal(unpack_planes(first["image"].numpy(), first["image"].meta), expected)


def test_plain_images_are_no_planes() -> None:
    assert not are_planes(cube().meta)
    assert not are_planes(getattr(SlicesToChannelsd("image")({"image": torch.zeros(1, 2, 2, 2)})["image"], "meta", {}))
