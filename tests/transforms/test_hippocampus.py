from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medresnet3d.data.phantoms.hippocampus import hippocampus_phantom
from medresnet3d.errors import AmbiguousInputError, ConfigError, DataError
from medresnet3d.transforms.hippocampus import (
    HippocampusBoxd,
    NormalizeCropd,
    RandHippocampusd,
    hippocampus_answer,
    hippocampus_augmentation,
    hippocampus_inference,
    hippocampus_training,
    hippocampus_validation,
)
from medresnet3d.transforms.load import LoadVolumed

PHANTOM = hippocampus_phantom(0)


def answer(image: np.ndarray, affine: np.ndarray, labels: np.ndarray, **item: Any) -> np.ndarray:
    """Prepare a scan, let a perfect network label what it sees, and bring that back."""
    prepare, truth = hippocampus_inference(), hippocampus_validation()
    data = prepare({"image": (image, affine), **item})
    seen = truth({"image": (image, affine), "label": (labels, affine), **item})["label"]
    assert data["image"].shape == seen.shape and not [size for size in seen.shape[1:] if size % 8]
    logits = torch.stack([(seen[0].as_tensor() == part).float() for part in range(3)])
    pred = MetaTensor(logits, meta=data["image"].meta, applied_operations=data["image"].applied_operations)
    return np.asarray(hippocampus_answer(prepare)({**data, "pred": pred})["pred"][0])


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1), (-1, -1, 1)])
def test_the_answer_lies_on_the_grid_of_the_file(axes: tuple[int, ...], signs: tuple[int, ...]) -> None:
    image, labels = (each[tuple(slice(None, None, s) for s in signs)] for each in (PHANTOM.image, PHANTOM.labels))
    affine = PHANTOM.affine @ np.diag([*signs, 1.0])
    affine[:3, 3] = [(0 if s == 1 else size - 1) + 1.0 for s, size in zip(signs, image.shape, strict=True)]
    turned = affine[:, [*axes, 3]]
    found = answer(image.transpose(axes).copy(), turned, labels.transpose(axes).copy())
    assert np.array_equal(found, labels.transpose(axes))


def test_voxels_of_another_size_are_resampled_and_brought_back() -> None:
    step = np.diag([0.5, 0.5, 1.0, 1.0])
    image, labels = (each.repeat(2, 0).repeat(2, 1) for each in (PHANTOM.image, PHANTOM.labels))
    affine = PHANTOM.affine @ step
    found = answer(image, affine, labels)
    assert found.shape == image.shape
    overlap = 2 * ((found > 0) & (labels > 0)).sum() / ((found > 0).sum() + (labels > 0).sum())
    assert overlap > 0.93


def test_a_factor_an_offset_and_rare_peaks_change_nothing_or_little() -> None:
    prepare = hippocampus_inference()
    plain = prepare({"image": (PHANTOM.image, PHANTOM.affine)})["image"]
    other = prepare({"image": (PHANTOM.image * 37.5 + 1000, PHANTOM.affine)})["image"]
    torch.testing.assert_close(plain, other, atol=1e-3, rtol=0)
    peaks = PHANTOM.image.astype(np.float32)
    peaks[0, 0, :5] = 1e6
    spoiled = prepare({"image": (peaks, PHANTOM.affine)})["image"]
    assert (spoiled - plain).abs().mean() < 0.02


def test_padding_is_zero_and_the_crop_has_mean_zero_and_deviation_one() -> None:
    data = hippocampus_inference()({"image": (PHANTOM.image, PHANTOM.affine)})
    inside = data["box"][0] > 0
    assert int(inside.sum()) == PHANTOM.image.size
    assert (data["image"][0][~inside] == 0).all()
    assert abs(float(data["image"][0][inside].mean())) < 1e-3
    assert float(data["image"][0][inside].std()) == pytest.approx(1, abs=0.01)


def test_padding_that_a_crop_came_with_changes_nothing() -> None:
    sides = ((9, 3), (0, 12), (5, 5))
    image, labels = np.pad(PHANTOM.image, sides), np.pad(PHANTOM.labels, sides)
    affine = PHANTOM.affine.copy()
    affine[:3, 3] -= [9, 0, 5]
    plain, padded = (
        hippocampus_inference()({"image": pair})["image"].as_tensor()
        for pair in ((PHANTOM.image, PHANTOM.affine), (image, affine))
    )
    torch.testing.assert_close(plain, padded)
    assert np.array_equal(answer(image, affine, labels), labels)


def scan() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A crop somewhere in a scan of 120 mm, its labels, the affine and a point inside the hippocampus."""
    image, labels = np.full((120,) * 3, 500, np.int16), np.zeros((120,) * 3, np.uint8)
    place = tuple(slice(30, 30 + size) for size in PHANTOM.image.shape)
    image[place], labels[place] = PHANTOM.image, PHANTOM.labels
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = (-60, -80, -40)
    return image, labels, affine, affine[:3, :3] @ np.argwhere(labels).mean(0) + affine[:3, 3]


def test_a_whole_scan_needs_a_point_and_is_labelled_around_it() -> None:
    image, labels, affine, point = scan()
    with pytest.raises(AmbiguousInputError, match=r"120 x 120 x 120 mm.*--at"):
        HippocampusBoxd("image")(LoadVolumed("image")({"image": (image, affine)}))
    assert np.array_equal(answer(image, affine, labels, position=point.tolist()), labels)


@pytest.mark.parametrize("point", [[500, 0, 0], [1, 2], ["a", 1, 2]])
def test_a_point_outside_or_malformed_is_told(point: Any) -> None:
    image, _, affine, _ = scan()
    with pytest.raises(DataError, match="point"):
        HippocampusBoxd("image")(LoadVolumed("image")({"image": (image, affine), "position": point}))


def test_a_crop_of_one_intensity_is_refused() -> None:
    flat = {"image": MetaTensor(torch.full((1, 8, 8, 8), 3.0)), "box": torch.ones(1, 8, 8, 8)}
    with pytest.raises(DataError, match="one intensity"):
        NormalizeCropd("image")(flat)


def prepared() -> dict[str, torch.Tensor]:
    """Labels in the place of intensities, so that image and labels can be compared after any change of place."""
    label = torch.from_numpy(PHANTOM.labels.astype(np.float32))[None]
    return {"image": label.clone(), "label": label}


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_boxes_have_their_size_and_image_and_labels_stay_together(strength: float) -> None:
    transform = RandHippocampusd(size=(32, 48, 32), strength=strength)
    flipped = set()
    for seed in range(8):
        transform.set_random_state(seed=seed)
        box = transform(prepared())
        assert box["image"].shape == box["label"].shape == (1, 32, 48, 32)
        assert float((box["image"] - box["label"]).abs().mean()) <= 0.02 * strength + 1e-6
        assert set(box["label"].unique().tolist()) == {0.0, 1.0, 2.0}
        flipped.add(float((box["label"][0, :16] > 0).sum() > (box["label"][0, 16:] > 0).sum()))
        transform.set_random_state(seed=seed)
        assert torch.equal(transform(prepared())["image"], box["image"])
    assert len(flipped) == 2 or strength


def test_without_warp_a_box_is_a_piece_of_the_crop() -> None:
    transform = RandHippocampusd(size=(64, 64, 64), strength=0.0, flip=0.0)
    transform.set_random_state(seed=0)
    box = transform(prepared())
    assert int((box["label"] > 0).sum()) == int((PHANTOM.labels > 0).sum())
    torch.testing.assert_close(box["image"], box["label"], atol=1e-4, rtol=0)


def test_the_training_pipeline_reads_files_and_follows_its_seed(tmp_path: Path) -> None:
    paths = {"image": str(tmp_path / "t1.nii.gz"), "label": str(tmp_path / "label.nii.gz")}
    nib.save(nib.Nifti1Image(PHANTOM.image, PHANTOM.affine), paths["image"])
    nib.save(nib.Nifti1Image(PHANTOM.labels, PHANTOM.affine), paths["label"])
    pipeline = hippocampus_training(augmentation="strong")
    boxes = []
    for seed in (1, 1, 2):
        pipeline.set_random_state(seed=seed)
        boxes.append(pipeline(dict(paths)))
    assert boxes[0]["image"].shape == (1, 32, 48, 32)
    assert torch.equal(boxes[0]["image"], boxes[1]["image"])
    assert not torch.equal(boxes[0]["image"], boxes[2]["image"])
    with pytest.raises(ConfigError, match="medium"):
        hippocampus_training(augmentation="mild")


def test_no_augmentation_leaves_shift_and_mirror_image_alone() -> None:
    assert len(hippocampus_augmentation(strength=0).transforms) == 1
