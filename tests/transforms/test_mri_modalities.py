from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from medresnet3d.data.phantoms.brain import brain_phantom
from medresnet3d.errors import DataError
from medresnet3d.transforms.mri_modalities import AppendDetaild, RequireModalitiesd

PHANTOM = brain_phantom(0, 32)
BRAIN = PHANTOM.labels > 0


def item(*channels: np.ndarray, spacing: float = 1.0) -> dict[str, MetaTensor]:
    affine = torch.diag(torch.tensor([spacing] * 3 + [1.0], dtype=torch.float64))
    image = torch.from_numpy(np.stack([channel * BRAIN for channel in channels]).astype(np.float32))
    return {
        "image": MetaTensor(image, affine=affine),
        "brain": MetaTensor(torch.from_numpy(BRAIN[None]), affine=affine),
    }


def detail(made: dict[str, MetaTensor], channel: int = 1) -> np.ndarray:
    return np.asarray(made["image"].as_tensor()[channel])


def test_images_stay_and_each_gets_a_copy_from_0_to_1() -> None:
    one, two = PHANTOM.image / 1000, 1 - PHANTOM.image / 2000
    before = item(one, two)
    after = AppendDetaild("image")(before)["image"]
    assert after.shape == (4, 32, 32, 32) and torch.equal(after.affine, before["image"].affine)
    assert torch.equal(after.as_tensor()[:2], before["image"].as_tensor())
    for copy in (detail({"image": after}, 2), detail({"image": after}, 3)):
        assert (copy[~BRAIN] == 0).all() and copy.min() >= 0 and 0.5 < copy.max() <= 1


def test_what_changes_slowly_is_taken_out() -> None:
    """A slope over the whole brain, stronger than the tissues differ, is in the image and no longer in its copy."""
    tissue = PHANTOM.labels.astype(float) / 3
    slope = np.linspace(0, 3, 32)[:, None, None] * np.ones((32, 32, 32))
    made = AppendDetaild("image", sigma_mm=1.5)(item(tissue + slope))  # a small brain, so a narrow Gaussian
    copy = detail(made)[BRAIN]
    assert abs(np.corrcoef(np.asarray(made["image"].as_tensor()[0])[BRAIN], slope[BRAIN])[0, 1]) > 0.6
    assert abs(np.corrcoef(copy, slope[BRAIN])[0, 1]) < 0.15
    assert np.corrcoef(copy, tissue[BRAIN])[0, 1] > 0.7


def test_the_width_of_the_gaussian_is_in_millimetres() -> None:
    texture = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(32, 32, 32)), 2)
    one, two = (detail(AppendDetaild("image", sigma_mm=4 * size)(item(texture, spacing=size))) for size in (1.0, 0.5))
    other = detail(AppendDetaild("image", sigma_mm=4.0)(item(texture, spacing=0.5)))
    np.testing.assert_allclose(one, two, atol=1e-5)
    assert np.abs(one - other).max() > 0.05


def test_a_constant_brain_has_no_detail() -> None:
    assert not detail(AppendDetaild("image", sigma_mm=0.0)(item(BRAIN.astype(float)))).any()


def test_another_number_of_images_is_refused_by_name() -> None:
    require = RequireModalitiesd("image", ["T1", "T1-IR", "T2-FLAIR"])
    three = item(*[PHANTOM.image] * 3)
    assert require(three)["image"] is three["image"]
    with pytest.raises(DataError, match=r"has 1 image\(s\), but the network takes 3: T1, T1-IR, T2-FLAIR"):
        require(item(PHANTOM.image))
