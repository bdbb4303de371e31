from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Invertd

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.transforms.ct_volume import (
    HU_WINDOWS,
    CropToRegion,
    CropToRegiond,
    HUWindow,
    HUWindowd,
    body_mask,
    ct_volume,
    lung_mask,
)
from medresnet3d.transforms.load import LoadVolumed

SPACING = (4.0, 4.0, 5.0)


def chest() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """HU, the body and the lungs: an ellipse with two lungs, a nodule, a windpipe, gas below, on a table."""
    i, j, k = np.indices((90, 80, 36)).astype(float)
    body = ((i - 45) / 34) ** 2 + ((j - 36) / 24) ** 2 < 1
    lungs = np.zeros(body.shape, bool)
    for side in (-15, 15):
        lungs |= ((i - 45 - side) / 11) ** 2 + ((j - 36) / 16) ** 2 + ((k - 24) / 11) ** 2 < 1
    hu = np.where(body, 40.0, -1000.0)
    hu[lungs] = -850
    hu[(np.hypot(np.hypot(i - 28, j - 36), k - 24)) < 2] = 30  # a nodule
    hu[(np.hypot(i - 45, j - 30) < 2) & (k > 30)] = -1000  # the windpipe
    hu[np.hypot(np.hypot(i - 45, j - 36), k - 5) < 3] = -900  # gas in the bowel
    hu[10:80, 62:65] = 100  # the table
    hu[44:46, 60:62] = 100  # a cloth between patient and table
    return hu + np.random.default_rng(0).normal(0, 15, hu.shape), body, lungs


def scan(values: np.ndarray) -> MetaTensor:
    affine = torch.diag(torch.tensor([-SPACING[0], SPACING[1], SPACING[2], 1.0], dtype=torch.float64))
    return MetaTensor(torch.as_tensor(values, dtype=torch.float32)[None], affine=affine)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def test_windows_become_channels() -> None:
    hu = torch.tensor([-2000.0, -1350.0, -600.0, 50.0, 150.0, 3000.0]).reshape(1, 6, 1)
    result = HUWindow(["lung", "mediastinum", (100.0, 100.0)])(hu)
    lung, mediastinum, own = result[:, :, 0]
    np.testing.assert_allclose(lung, [0, 0, 0.5, 1400 / 1500, 1, 1], atol=1e-6)
    np.testing.assert_allclose(mediastinum, [0, 0, 0, 0.5, 275 / 350, 1], atol=1e-6)
    np.testing.assert_allclose(own, [0, 0, 0, 0, 1, 1], atol=1e-6)


def test_channels_and_metadata_of_the_scan_are_kept() -> None:
    image = scan(chest()[0])
    two = MetaTensor(torch.cat([image, image + 100])).copy_meta_from(image)
    result = HUWindowd("image", ["bone", "lung"])({"image": two})["image"]
    assert result.shape[0] == 4 and isinstance(result, MetaTensor)
    assert torch.equal(result.affine, image.affine)
    assert torch.equal(result[2].as_tensor(), HUWindow("lung")(image)[0].as_tensor())
    assert torch.equal(result[1].as_tensor(), HUWindow("bone")(image + 100)[0].as_tensor())


def test_every_preset_has_a_width_and_unknown_ones_are_listed() -> None:
    assert all(width > 0 for _, width in HU_WINDOWS.values())
    with pytest.raises(ConfigError, match="no window 'lungs'; use lung, nodule"):
        HUWindow("lungs")
    with pytest.raises(ConfigError, match="the width above 0"):
        HUWindow([(40, 0)])
    with pytest.raises(ConfigError, match="windows is empty"):
        HUWindow([])


def test_body_without_table_and_lungs_without_gas_and_with_their_nodule() -> None:
    hu, body, lungs = chest()
    assert dice(body_mask(hu), body) > 0.98
    found = lung_mask(hu)
    assert dice(found, lungs) > 0.9
    assert found[28, 36, 24]  # the nodule
    assert not found[:, :, :10].any()  # the gas


@pytest.mark.parametrize("region", ["body", "lung"])
def test_the_crop_holds_the_region_with_its_margin_and_goes_back(region: str) -> None:
    hu, body, lungs = chest()
    truth = body if region == "body" else lungs
    item = {"image": scan(hu), "label": scan(truth)}
    crop = CropToRegiond(["image", "label"], region=region, margin_mm=8.0)
    cut = crop(item)
    low, high = cut["foreground_start_coord"], cut["foreground_end_coord"]
    where = np.argwhere(truth)
    slack = np.array([2, 2, 2]) + np.ceil(8.0 / np.array(SPACING))
    assert (low <= where.min(0)).all() and (high > where.max(0)).all()
    assert (low >= where.min(0) - slack - 2).all() and (high <= where.max(0) + 1 + slack + 2).all()
    assert cut["image"].shape == cut["label"].shape and cut["label"].sum() == truth.sum()
    back = crop.inverse(cut)
    assert back["image"].shape == item["image"].shape
    assert torch.equal(back["label"].as_tensor(), item["label"].as_tensor())
    torch.testing.assert_close(back["image"].affine, item["image"].affine)


def test_fine_voxels_give_the_same_box() -> None:
    """The search goes in steps of about 3 mm; the box is that of all voxels, within a step."""
    hu, _, lungs = chest()
    affine = torch.diag(torch.tensor([1.5, 1.5, 1.5, 1.0], dtype=torch.float64))
    hu, lungs = (each.repeat(2, 0).repeat(2, 1).repeat(2, 2) for each in (hu, lungs))
    fine = MetaTensor(torch.as_tensor(hu, dtype=torch.float32)[None], affine=affine)
    low, high = CropToRegion("lung", margin_mm=0.0).compute_bounding_box(fine)
    where = np.argwhere(lungs)
    assert (low <= where.min(0)).all() and (high > where.max(0)).all()
    assert (where.min(0) - low <= 4).all() and (high - where.max(0) <= 5).all()


def test_what_has_no_body_or_lungs_is_refused() -> None:
    with pytest.raises(DataError, match="no body in the scan"):
        body_mask(np.full((9, 9, 9), -1000.0))
    with pytest.raises(DataError, match="no lungs in the scan"):
        lung_mask(np.full((9, 9, 9), 40.0))
    with pytest.raises(ConfigError, match="no region 'head'"):
        CropToRegion("head")


def test_the_pipeline_is_isotropic_and_a_prediction_goes_back(tmp_path: Path) -> None:
    hu, _, lungs = chest()
    affine = np.diag([*SPACING, 1.0])
    nibabel.save(nibabel.Nifti1Image(hu.astype(np.int16), affine), tmp_path / "scan.nii.gz")
    nibabel.save(nibabel.Nifti1Image(lungs.astype(np.uint8), affine), tmp_path / "lungs.nii.gz")
    chain = ct_volume("image", "label", spacing=5.0, region="lung", windows=["lung", "bone"])
    item = chain({"image": str(tmp_path / "scan.nii.gz"), "label": str(tmp_path / "lungs.nii.gz")})
    np.testing.assert_allclose(item["image"].pixdim, 5.0, atol=1e-4)
    assert item["image"].shape == (2, *item["label"].shape[1:])
    item["pred"] = item["label"].clone()
    back = Invertd("pred", chain, orig_keys="label", nearest_interp=True)(item)["pred"]
    assert dice(back[0].numpy() > 0.5, lungs) > 0.9


@pytest.mark.realdata
def test_a_real_chest(realdata: Path) -> None:
    image = LoadVolumed("image")({"image": str(realdata / "chest_ct_dicom" / "series.zip")})["image"]
    litres = np.prod(np.asarray(image.pixdim)) / 1e6
    values = image[0].numpy()
    assert 4 < body_mask(values).sum() * litres < 15
    assert 0.5 < lung_mask(values).sum() * litres < 4
    cut = CropToRegion("lung")(image)
    assert all(small < large for small, large in zip(cut.shape[1:3], image.shape[1:3], strict=True))
