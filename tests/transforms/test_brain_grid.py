from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medresnet3d.data.phantoms.brain import brain_phantom
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.transforms.brain_grid import brain_age_inference, brain_age_training, brain_augmentation

GRID = (36, 44, 36)


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> str:
    phantom = brain_phantom(0, 40, spacing=4.5, axes=(0.66, 0.82, 0.54), shift_mm=(12.0, -8.0, 4.0))
    path = tmp_path_factory.mktemp("scan") / "brain.nii.gz"
    nib.save(nib.Nifti1Image(phantom.image, phantom.affine), path)
    return str(path)


def test_the_brain_lies_in_the_middle_of_the_grid_and_is_normalised(scan: str) -> None:
    item = brain_age_inference(GRID, 4.5, align=False)({"image": scan, "label": 61.5, "case": "a", "path": scan})
    image = item["image"]
    assert image.shape == (1, *GRID) and image.dtype == torch.float32
    inside = image.numpy()[0] != 0
    values = image.numpy()[0][inside]
    assert abs(values.mean()) < 1e-4 and abs(values.std() - 1) < 1e-3
    middle = np.argwhere(inside).mean(0)
    np.testing.assert_allclose(middle, (np.array(GRID) - 1) / 2, atol=0.6)
    assert item["label"].tolist() == [61.5]


def test_the_affine_says_where_the_voxels_lie_in_the_scan(scan: str) -> None:
    """Reading the scan at the grid's places gives the grid's values, up to the factor of the normalisation."""
    from scipy.ndimage import map_coordinates

    image = brain_age_inference(GRID, 4.5)({"image": scan})["image"]
    source = nib.load(scan)
    places = np.stack(np.meshgrid(*map(np.arange, GRID), indexing="ij"), -1).reshape(-1, 3)
    world = nib.affines.apply_affine(np.asarray(image.affine), places)
    voxels = nib.affines.apply_affine(np.linalg.inv(source.affine), world)
    there = map_coordinates(np.asarray(source.dataobj, float), voxels.T, order=1)
    seen = image.numpy()[0].ravel()
    inside = (seen != 0) & (there > 0)
    assert np.corrcoef(seen[inside], there[inside])[0, 1] > 0.999


def test_training_varies_and_keeps_the_grid(scan: str) -> None:
    chain = brain_age_training(GRID, 4.5, align=False, shift=2, augmentation="strong")
    images = []
    for seed in (0, 0, 1):
        chain.set_random_state(seed)
        item = chain({"image": scan, "label": 40})
        assert item["image"].shape == (1, *GRID) and not hasattr(item["image"], "affine")
        images.append(item["image"])
    assert torch.equal(images[0], images[1]) and not torch.equal(images[0], images[2])


def test_without_augmentation_training_sees_what_inference_sees(scan: str) -> None:
    plain = brain_age_training(GRID, 4.5, align=False, augmentation="none")({"image": scan, "label": 40})
    other = brain_age_inference(GRID, 4.5, align=False)({"image": scan})
    assert torch.equal(plain["image"], other["image"].as_tensor())


def test_medicalnets_rule_puts_noise_outside_of_the_brain(scan: str) -> None:
    plain, noisy = (
        brain_age_inference(GRID, 4.5, align=False, intensity=name)({"image": scan})["image"].numpy()[0]
        for name in ("zscore", "medicalnet")
    )
    inside = plain != 0
    np.testing.assert_allclose(noisy[inside], plain[inside], atol=1e-4)
    assert abs(noisy[~inside].std() - 1) < 0.05
    training = brain_age_training(GRID, 4.5, align=False, augmentation="none", intensity="medicalnet")
    np.testing.assert_array_equal(training({"image": scan, "label": 40})["image"].numpy()[0], noisy)
    with pytest.raises(ConfigError, match="choose one of zscore, medicalnet"):
        brain_age_inference(GRID, intensity="window")


def test_an_unknown_strength_lists_the_choices() -> None:
    with pytest.raises(ConfigError, match="use none, light, medium, strong"):
        brain_augmentation("heavy")


def test_a_whole_head_is_refused(tmp_path: Path) -> None:
    head = brain_phantom(0, 40, spacing=4.5, head=True)
    nib.save(nib.Nifti1Image(head.image, head.affine), tmp_path / "head.nii.gz")
    with pytest.raises(RuntimeError) as raised:
        brain_age_inference(GRID, 4.5)({"image": str(tmp_path / "head.nii.gz")})
    assert isinstance(raised.value.__cause__, DataError) and "whole head" in str(raised.value.__cause__)
