from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medresnet3d.data.phantoms.brain import brain_phantom
from medresnet3d.errors import ConfigError
from medresnet3d.transforms.brain_slices import (
    RandSliced,
    SlicesToChannelsd,
    brain_class_inference,
    brain_class_training,
)

SHAPE = (40, 44, 6)


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> str:
    phantom = brain_phantom(0, 48, spacing=4.0, axes=(0.66, 0.82, 0.54), hippocampi=0.6)
    path = tmp_path_factory.mktemp("scan") / "brain.nii.gz"
    nib.save(nib.Nifti1Image(phantom.image, phantom.affine), path)
    return str(path)


def test_slices_become_channels_in_order() -> None:
    volume = torch.arange(24.0).reshape(1, 2, 3, 4)
    stack = SlicesToChannelsd("image")({"image": MetaTensor(volume, affine=3 * torch.eye(4))})["image"]
    assert stack.shape == (4, 2, 3) and torch.equal(stack.affine, 3 * torch.eye(4))
    assert torch.equal(stack.as_tensor()[1], volume[0, :, :, 1])


def test_one_slice_is_drawn_by_the_seed_and_all_are_drawn_in_time() -> None:
    stack = torch.arange(5.0)[:, None, None].expand(5, 2, 2)
    draw = RandSliced("image")
    draw.set_random_state(0)
    seen = [draw({"image": stack})["image"] for _ in range(40)]
    assert all(one.shape == (1, 2, 2) for one in seen)
    assert {int(one[0, 0, 0]) for one in seen} == set(range(5))


def test_the_same_part_is_a_volume_or_a_stack(scan: str) -> None:
    volume, stack = (brain_class_inference(SHAPE, dims, 4.0, align=False)({"image": scan})["image"] for dims in (3, 2))
    assert volume.shape == (1, *SHAPE) and stack.shape == (6, 40, 44)
    assert torch.equal(stack.as_tensor(), volume.as_tensor()[0].movedim(-1, 0))


def test_the_slices_go_through_the_hippocampi(scan: str) -> None:
    """The middle of the part lies, in mm, where the phantom has them."""
    image = brain_class_inference(SHAPE, 3, 4.0, align=False)({"image": scan})["image"]
    middle = np.asarray(image.affine) @ [*(np.array(SHAPE) - 1) / 2, 1]
    phantom = brain_phantom(0, 48, spacing=4.0, axes=(0.66, 0.82, 0.54), hippocampi=0.6)
    truth = (np.argwhere(phantom.hippocampi > 0) @ phantom.affine[:3, :3].T + phantom.affine[:3, 3]).mean(0)
    assert abs(middle[2] - truth[2]) < 5


def test_training_gives_one_varied_slice_or_a_volume(scan: str) -> None:
    for dims, shape in ((2, (1, 40, 44)), (3, (1, *SHAPE))):
        chain = brain_class_training(SHAPE, dims, 4.0, align=False, augmentation="strong")
        chain.set_random_state(1)
        item = chain({"image": scan, "label": 2})
        assert item["image"].shape == shape and item["label"] == 2


def test_other_dimensions_are_refused() -> None:
    with pytest.raises(ConfigError, match="use 2 for slices or 3 for a volume"):
        brain_class_inference(SHAPE, 4)
