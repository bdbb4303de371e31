from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor

from medresnet3d.data.phantoms.brain import brain_phantom
from medresnet3d.errors import DataError
from medresnet3d.transforms.mri_intensity import (
    MedicalNetNormalise,
    MedicalNetNormalised,
    N4BiasField,
    ZScoreInMask,
    ZScoreInMaskd,
    brain_mri,
)


def head(size: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """A ball of two tissues with shading, and the same without."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, size)] * 3, indexing="ij"))
    radius = np.sqrt((grid**2).sum(0))
    flat = np.where(radius < 0.85, 60.0, 0) + np.where(radius < 0.5, 40.0, 0)
    flat *= 1 + 0.02 * np.random.default_rng(0).normal(size=flat.shape)
    return flat * np.exp(0.35 * grid[0]), flat


def test_n4_takes_the_shading_away() -> None:
    shaded, flat = head()
    image = MetaTensor(torch.as_tensor(shaded, dtype=torch.float32)[None])
    result = N4BiasField(shrink=2)(image)
    assert isinstance(result, MetaTensor) and result.dtype == torch.float32

    def unevenness(volume: np.ndarray) -> float:
        ratio = volume[flat > 30] / flat[flat > 30]
        return float(ratio.std() / ratio.mean())

    assert unevenness(result[0].numpy()) < 0.3 * unevenness(shaded)
    assert (result[0].numpy()[flat == 0] == 0).all()


def test_n4_refuses_what_has_no_logarithm() -> None:
    with pytest.raises(DataError, match="negative intensities"):
        N4BiasField()(np.full((1, 8, 8, 8), -1.0))
    with pytest.raises(DataError, match="mask for the bias field is empty"):
        N4BiasField()(np.zeros((1, 8, 8, 8)))


@settings(max_examples=25, deadline=None)
@given(factor=st.floats(0.01, 1000), offset=st.floats(-100, 100))
def test_z_scores_do_not_see_the_scale(factor: float, offset: float) -> None:
    volume = np.random.default_rng(0).random((2, 6, 6, 6), dtype=np.float32)
    mask = np.zeros((1, 6, 6, 6), np.uint8)
    mask[:, 1:5, 1:5, 2:] = 1
    result = ZScoreInMask()(volume * np.float32(factor) + np.float32(offset * factor), mask)
    np.testing.assert_allclose(result, ZScoreInMask()(volume, mask), atol=0.02)
    for channel in result:
        assert channel[mask[0] > 0].mean() == pytest.approx(0, abs=1e-4)
        assert channel[mask[0] > 0].std() == pytest.approx(1, abs=1e-3)
        assert (channel[mask[0] == 0] == 0).all()


def test_z_scores_need_a_mask_with_contrast() -> None:
    with pytest.raises(DataError, match="mask is empty or the image has one value"):
        ZScoreInMaskd("image")({"image": np.ones((1, 4, 4)), "brain": np.ones((1, 4, 4))})


def test_medicalnet_as_its_authors_wrote_it() -> None:
    volume = np.zeros((1, 12, 12, 12), np.float32)
    volume[:, 3:9, 3:9, 3:9] = np.random.default_rng(1).uniform(50, 300, (6, 6, 6))
    volume[0, 0, 0, 0] = -7.0  # not background: only what is exactly 0 is
    result = MedicalNetNormalise()(volume)
    pixels = volume[volume > 0]
    expected = (volume - pixels.mean()) / pixels.std()
    np.testing.assert_allclose(result[volume != 0], expected[volume != 0], rtol=1e-4)
    noise = result[volume == 0]
    assert abs(noise.mean()) < 0.1 and abs(noise.std() - 1) < 0.1 and len(np.unique(noise)) > 0.99 * noise.size


def test_its_noise_depends_on_the_seed_alone() -> None:
    volume = np.zeros((1, 8, 8, 8), np.float32)
    volume[:, 2:6, 2:6, 2:6] = np.arange(64).reshape(4, 4, 4) + 1
    first = MedicalNetNormalised("image")({"image": volume})["image"]
    np.testing.assert_array_equal(first, MedicalNetNormalise()(volume))
    assert (first != MedicalNetNormalise(seed=1)(volume)).any()
    with pytest.raises(DataError, match="no voxels above 0"):
        MedicalNetNormalise()(volume * 0)


@pytest.mark.parametrize("medicalnet", [False, True])
def test_the_pipeline_turns_and_normalises(medicalnet: bool, tmp_path: Path) -> None:
    image, affine = brain_phantom(seed=0, size=48).image, np.diag([-2.0, 2.0, 2.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(np.asarray(image, dtype=np.float32), affine), tmp_path / "t1.nii.gz")
    item = brain_mri(spacing=3.0, medicalnet=medicalnet)({"image": str(tmp_path / "t1.nii.gz")})
    result = item["image"]
    assert (np.diag(np.asarray(result.affine))[:3] > 0).all()
    np.testing.assert_allclose(result.pixdim, 3.0, atol=1e-4)
    inside = item["brain"][0].numpy() > 0
    assert 0.05 < inside.mean() < 0.7
    assert abs(float(result[0].numpy()[inside].mean())) < 0.2
    outside = result[0].numpy()[~inside]
    assert (outside.std() > 0.5) == medicalnet
