from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor, list_data_collate
from monai.transforms import Compose, CropForegroundd, Invertd, LoadImaged, Orientationd, Spacingd
from PIL import Image

from medresnet3d.errors import DataError, GeometryError
from medresnet3d.io import Volume, load, save_nifti
from medresnet3d.transforms.load import LoadVolumed
from tests.io.dicom_maker import Series, stored_values

VALUES = stored_values((12, 10, 8))
AFFINE = np.array([[-1.5, 0, 0, 10], [0, 2.0, 0, -20], [0, 0, 3.0, 30], [0, 0, 0, 1.0]])
MASK = (VALUES > 400).astype(np.uint8) + (VALUES > 700)


@pytest.fixture
def item(tmp_path: Path) -> dict[str, Any]:
    return {
        "image": str(save_nifti(VALUES, AFFINE, tmp_path / "image.nii.gz")),
        "label": str(save_nifti(MASK, AFFINE, tmp_path / "label.nii.gz")),
        "patient": "p1",
    }


def test_image_and_label_map(item: dict[str, Any]) -> None:
    before = dict(item)
    result = LoadVolumed("image", label_keys="label", num_classes=3)(item)
    image, label = result["image"], result["label"]
    assert isinstance(image, MetaTensor)
    assert image.shape == label.shape == (1, 12, 10, 8)
    assert (image.dtype, label.dtype) == (torch.float32, torch.uint8)
    assert image.is_contiguous()
    assert np.array_equal(image[0], VALUES)
    assert np.array_equal(label[0], MASK)
    np.testing.assert_allclose(image.affine, AFFINE)
    assert image.meta["filename_or_obj"] == before["image"]
    assert (result["warnings"], result["patient"]) == ("", "p1")
    assert item == before


def test_agrees_with_monai(item: dict[str, Any]) -> None:
    ours = LoadVolumed("image")(item)["image"]
    theirs = LoadImaged("image", image_only=True, ensure_channel_first=True)(item)["image"]
    assert torch.equal(ours, theirs)
    assert torch.equal(ours.affine, theirs.affine)
    assert {"filename_or_obj", "spatial_shape", "original_affine", "original_channel_dim", "space"} <= set(ours.meta)
    assert ours.meta["space"] == theirs.meta["space"]


def test_modalities_become_channels(item: dict[str, Any], tmp_path: Path) -> None:
    second = save_nifti(VALUES[::-1], AFFINE, tmp_path / "second.nii.gz")
    image = LoadVolumed("image")({"image": [item["image"], str(second)]})["image"]
    assert image.shape == (2, 12, 10, 8)
    assert np.array_equal(image[1], VALUES[::-1])


def test_modalities_on_other_grids(item: dict[str, Any], tmp_path: Path) -> None:
    second = save_nifti(VALUES, AFFINE @ np.diag([1, 1, 1.1, 1]), tmp_path / "second.nii.gz")
    with pytest.raises(GeometryError, match=r"second\.nii\.gz and .*image\.nii\.gz have the same shape but"):
        LoadVolumed("image")({"image": [item["image"], second]})


def test_label_map_on_another_grid(item: dict[str, Any], tmp_path: Path) -> None:
    item["label"] = save_nifti(MASK[:-1], AFFINE, tmp_path / "short.nii.gz")
    with pytest.raises(GeometryError, match=r"short\.nii\.gz and .*image\.nii\.gz have different shapes"):
        LoadVolumed("image", "label")(item)


def test_grid_is_checked_whatever_the_order_of_keys(item: dict[str, Any], tmp_path: Path) -> None:
    item["label"] = save_nifti(MASK[:-1], AFFINE, tmp_path / "short.nii.gz")
    with pytest.raises(GeometryError):
        LoadVolumed(("label", "image"), "label")(item)


def test_label_outside_the_class_list(item: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"label\.nii\.gz: label 2 is outside the class list \(0 to 1\)"):
        LoadVolumed("image", "label", num_classes=2)(item)


@pytest.mark.parametrize("values,named", [([0, 300], "300"), ([0, -1], "-1"), (range(250, 280), "and 19 more")])
def test_label_that_its_type_cannot_hold(tmp_path: Path, values: Any, named: str) -> None:
    mask = np.resize(np.array(values), (6, 6, 6))
    item = {"label": save_nifti(mask, AFFINE, tmp_path / "label.nii.gz")}
    with pytest.raises(DataError, match=named):
        LoadVolumed((), "label")(item)


def test_wider_label_type(tmp_path: Path) -> None:
    item = {"label": save_nifti(np.resize([0, 300], (6, 6, 6)), AFFINE, tmp_path / "label.nii.gz")}
    assert LoadVolumed((), "label", label_dtype=np.int16)(item)["label"].max() == 300


def test_float_label_map_with_whole_numbers(tmp_path: Path) -> None:
    item = {"label": save_nifti(MASK.astype(np.float32), AFFINE, tmp_path / "label.nii.gz")}
    assert np.array_equal(LoadVolumed((), "label")(item)["label"][0], MASK)


def test_label_map_with_fractions(tmp_path: Path) -> None:
    item = {"label": save_nifti(MASK * np.float32(0.75), AFFINE, tmp_path / "label.nii.gz")}
    with pytest.raises(DataError, match=r"needs whole numbers, but it has 0\.75, 1\.5"):
        LoadVolumed((), "label")(item)


def test_empty_label_map_is_fine_and_constant_image_is_not(item: dict[str, Any], tmp_path: Path) -> None:
    empty = save_nifti(MASK * 0, AFFINE, tmp_path / "empty.nii.gz")
    assert not LoadVolumed("image", "label")({**item, "label": empty})["label"].any()
    with pytest.raises(DataError, match="every voxel has the value 0"):
        LoadVolumed("image")({"image": empty})


def test_missing_keys(item: dict[str, Any]) -> None:
    del item["label"]
    with pytest.raises(KeyError):
        LoadVolumed("image", "label")(item)
    assert "label" not in LoadVolumed("image", "label", allow_missing_keys=True)(item)


def test_what_is_in_memory(item: dict[str, Any]) -> None:
    volume = load(item["image"])
    reader = LoadVolumed("image", dtype=np.int16)
    for source in (volume, (VALUES, AFFINE), Volume(VALUES, AFFINE)):
        image = reader({"image": source})["image"]
        assert np.array_equal(image[0], VALUES)
        assert image.dtype == torch.int16
        np.testing.assert_allclose(image.affine, AFFINE)
    assert reader({"image": [volume, volume]})["image"].shape == (2, 12, 10, 8)
    bare = reader({"image": VALUES})
    assert "1 mm voxels" in bare["warnings"]
    assert np.array_equal(volume.array, VALUES)


@pytest.mark.parametrize("source", [None, 5, [], torch.zeros(3)])
def test_what_is_no_image(source: Any) -> None:
    with pytest.raises(DataError, match="an image is given as"):
        LoadVolumed("image")({"image": source})


def test_warnings_of_the_reader_reach_the_item(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(VALUES[..., None], AFFINE), tmp_path / "a.nii")
    result = LoadVolumed("image")({"image": tmp_path / "a.nii"})
    assert "length one" in result["warnings"]
    assert len(result["warnings"].splitlines()) == 1


def test_dicom_folder(tmp_path: Path) -> None:
    series = Series(stored_values())
    image = LoadVolumed("image")({"image": series.write(tmp_path / "scan")})["image"]
    assert np.array_equal(image[0], series.stored - 1024)
    np.testing.assert_allclose(image.affine, series.affine, atol=1e-5)


def test_items_can_be_collated(item: dict[str, Any]) -> None:
    reader = LoadVolumed("image", "label")
    batch = list_data_collate([reader(item), reader(item)])
    assert batch["image"].shape == (2, 1, 12, 10, 8)
    assert batch["warnings"] == ["", ""]


def test_inversion_ends_on_the_grid_of_the_file(item: dict[str, Any]) -> None:
    pipeline = Compose(
        [
            LoadVolumed("image", "label"),
            Orientationd(("image", "label"), axcodes="LAS", labels=None),
            Spacingd(("image", "label"), (1.5, 1.0, 1.5), mode=("bilinear", "nearest")),
            CropForegroundd(("image", "label"), source_key="label", margin=1),
        ]
    )
    result = pipeline(item)
    assert result["image"].shape != (1, 12, 10, 8)
    result["pred"] = MetaTensor(result["label"].clone().float())
    invert = Invertd("pred", pipeline, "image", nearest_interp=True)
    pred = invert(result)["pred"]
    assert pred.shape == (1, 12, 10, 8)
    np.testing.assert_allclose(pred.affine, AFFINE, atol=1e-5)
    assert np.mean(pred[0].numpy() == MASK) > 0.95


def test_colour_pictures_give_three_channels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = LoadVolumed("image")({"image": tmp_path / "a.png"})["image"]
    assert image.shape == (3, 8, 6, 1)
    assert np.array_equal(image[..., 0].numpy(), pixels.transpose(2, 1, 0))
    with pytest.raises(DataError, match="one value for each pixel"):
        LoadVolumed((), label_keys="label")({"label": tmp_path / "a.png"})
