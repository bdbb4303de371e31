from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from medresnet3d.errors import AmbiguousInputError, ConfigError, DataError
from medresnet3d.transforms.load import LoadVolumed
from medresnet3d.transforms.lung_patch import LungPatchd, lung_patch_inference, lung_patch_training


def save(path: Path, array: np.ndarray, origin: tuple[float, float, float] = (0, 0, 0)) -> str:
    affine = np.eye(4)
    affine[:3, 3] = origin
    nib.save(nib.Nifti1Image(array.astype(np.float32), affine), path)
    return str(path)


@pytest.fixture
def cube(tmp_path: Path) -> tuple[str, np.ndarray]:
    array = np.random.default_rng(0).uniform(-900, 300, (32, 32, 32))
    return save(tmp_path / "cube.nii.gz", array, (-16, -16, -16)), array


def test_a_plane_is_the_windowed_middle_of_the_cube(cube: tuple[str, np.ndarray]) -> None:
    path, array = cube
    image = lung_patch_inference(20)({"image": path})["image"]
    expected = (array[6:26, 6:26, 16] + 1000) / 1400
    np.testing.assert_allclose(image.as_tensor().numpy()[0], expected, atol=1e-5)
    np.testing.assert_allclose(image.affine[:3, 3], [-10, -10, 0])


def test_the_plane_goes_through_the_point_of_a_scan(tmp_path: Path) -> None:
    scan = np.full((80, 80, 80), -1000.0)
    scan[50, 30, 61] = 400
    path = save(tmp_path / "scan.nii.gz", scan, (-40, -40, -40))
    image = lung_patch_inference(28)({"image": path, "position": [10.0, -10.0, 21.0]})["image"]
    assert image.shape == (1, 28, 28) and np.argwhere(image.numpy()[0] > 0.9).tolist() == [[14, 14]]
    with pytest.raises(AmbiguousInputError, match="give the point"):
        LungPatchd("image", 28)(LoadVolumed("image")({"image": path}))


def test_three_dimensions_are_one_id(cube: tuple[str, np.ndarray]) -> None:
    path, array = cube
    image = lung_patch_inference(20, spatial_dims=3)({"image": path})["image"]
    np.testing.assert_allclose(image.numpy()[0], (array[6:26, 6:26, 6:26] + 1000) / 1400, atol=1e-5)


def test_a_picture_is_grey_from_black_to_white_whatever_its_colours_and_size(tmp_path: Path) -> None:
    pixels = np.zeros((40, 56, 3), np.uint8)
    pixels[:, 28:] = [255, 127, 128]
    Image.fromarray(pixels).save(tmp_path / "patch.png")
    image = lung_patch_inference(28)({"image": str(tmp_path / "patch.png")})["image"]
    assert image.shape == (1, 28, 28)
    columns = image.numpy()[0].mean(axis=1)  # i counts columns from the left
    np.testing.assert_allclose(columns[[0, 10, 17, 27]], [0, 0, 2 / 3, 2 / 3], atol=0.01)


def test_a_slice_in_hu_is_windowed(tmp_path: Path) -> None:
    path = save(tmp_path / "slice.nii.gz", np.linspace(-1300, 400, 28)[:, None, None].repeat(28, 1))
    image = lung_patch_inference(28)({"image": path})["image"].numpy()[0]
    assert image[0, 0] == 0 and image[-1, 0] == pytest.approx(1)


def test_a_picture_has_no_third_dimension(tmp_path: Path) -> None:
    Image.fromarray(np.arange(900, dtype=np.uint16).reshape(30, 30).astype(np.uint8)).save(tmp_path / "patch.png")
    with pytest.raises(DataError, match="picture of one slice, but spatial_dims is 3"):
        LungPatchd("image", spatial_dims=3)(LoadVolumed("image")({"image": str(tmp_path / "patch.png")}))
    with pytest.raises(ConfigError, match="choose 2 or 3"):
        LungPatchd("image", spatial_dims=4)


def test_a_volume_of_several_channels_is_refused(cube: tuple[str, np.ndarray]) -> None:
    with pytest.raises(DataError, match="from one channel, but the image has 2"):
        LungPatchd("image", 20)(LoadVolumed("image")({"image": [cube[0], cube[0]]}))


@pytest.mark.parametrize("strength", ["none", "light", "medium", "strong"])
@pytest.mark.parametrize("dims", [2, 3])
def test_training_varies_and_keeps_the_shape(cube: tuple[str, np.ndarray], strength: str, dims: int) -> None:
    transform = lung_patch_training(20, spatial_dims=dims, augmentation=strength)
    seen: list[torch.Tensor] = []
    for seed in range(3):
        transform.set_random_state(seed=seed)
        seen.append(transform({"image": cube[0], "label": 1})["image"])
    assert all(type(image) is torch.Tensor and image.shape == (1, *[20] * dims) for image in seen)
    assert torch.equal(seen[0], seen[1]) == (strength == "none")


def test_a_shift_keeps_the_scale_of_a_picture(tmp_path: Path) -> None:
    pixels = np.zeros((28, 28), np.uint8)
    pixels[10:18, 10:18] = 255
    Image.fromarray(pixels).save(tmp_path / "patch.png")
    item: dict[str, Any] = {"image": str(tmp_path / "patch.png"), "label": 0}
    shifted = lung_patch_training(28, shift=3, augmentation="light")
    for seed in range(4):
        shifted.set_random_state(seed=seed)
        assert int((shifted(item)["image"] > 0.5).sum()) == 64
