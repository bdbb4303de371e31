"""Every fault that is planted into a sound cohort is found, at its place and under its name, and nothing else is."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from medresnet3d.data import Finding, check_manifest
from tests.data.checking.cohorts import (
    COUNT,
    SHAPE,
    Cohort,
    Plant,
    affine_of,
    all_of,
    changed,
    copied,
    cut,
    lung,
    picture,
    pictures,
    regridded,
    rewritten,
    save_scan,
    scans,
    texture,
)


class Fault(NamedTuple):
    """A fault, and what is to be said of it; ``deep_only`` is None where it depends on the size of the file."""

    plant: Plant
    kind: str
    words: str
    level: str = "error"
    entry: int | None = 3
    deep_only: bool | None = False
    grave: bool = False


def scaled(factor: float, offset: float = 0.0, dtype: type = np.int16) -> Plant:
    return rewritten(3, lambda a: np.clip(a.astype(float) * factor + offset, -32000, 32000).astype(dtype))


def padded(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array[:2] = -3024
    return array


def uncompressed(cohort: Cohort) -> None:
    cohort.file("s3.nii").write_bytes(gzip.decompress(cohort.file("s3.nii.gz").read_bytes()))


def shifted(cohort: Cohort) -> None:
    affine = affine_of()
    affine[0, 3] = 9.0
    save_scan(cohort.file("m3.nii.gz"), lung(), affine)


SCANS = {
    "missing image": Fault(lambda c: c.file("s3.nii.gz").unlink(), "file", "s3.nii.gz does not exist"),
    "missing mask": Fault(lambda c: c.file("m3.nii.gz").unlink(), "file", "m3.nii.gz does not exist"),
    "empty file": Fault(lambda c: c.file("s3.nii.gz").write_bytes(b"") and None, "file", "is an empty file"),
    "no image at all": Fault(lambda c: c.file("s3.nii.gz").write_text("?" * 500) and None, "file", "s3.nii.gz"),
    "cut short": Fault(cut("s3.nii.gz", 0.8), "file", "damaged or cut short", deep_only=None),
    "not a number": Fault(
        rewritten(3, lambda a: np.where(a > 0, np.nan, a).astype(np.float32)), "file", "NaN", deep_only=True
    ),
    "constant": Fault(rewritten(3, lambda a: np.zeros_like(a)), "file", "every voxel has the value 0", deep_only=True),
    "label that is none": Fault(
        rewritten(3, lambda a: a * 7, "m"), "mask", "has the values 7, but the labels go from 0 to 1", deep_only=True
    ),
    "label that is no number of a class": Fault(
        rewritten(3, lambda a: (a * 0.5).astype(np.float32), "m"), "mask", "no whole numbers", deep_only=True
    ),
    "empty mask": Fault(rewritten(3, lambda a: a * 0, "m"), "mask", "is empty", "warning", deep_only=True),
    "full mask": Fault(rewritten(3, lambda a: a * 0 + 1, "m"), "mask", "value 1 everywhere", "warning", deep_only=True),
    "mask of another size": Fault(rewritten(3, lambda a: a[:, :, 1:], "m"), "geometry", "different shapes"),
    "mask elsewhere": Fault(
        shifted,
        "geometry",
        "at different places",
    ),
    "label that nobody has": Fault(
        lambda c: c.write({**c.raw, "labels": ["background", "lung", "heart"]}),
        "mask",
        "label 2 (heart) is in no mask",
        "warning",
        None,
        deep_only=True,
    ),
    "no mask listed": Fault(changed(3, mask=None), "truth", "has no `mask`, but other entries of `training` have one"),
    "another spacing": Fault(
        regridded(3, affine_of((0.8, 0.8, 5.0))), "outlier", "spacing along k, mm: 5 (usual 2.08 to 3)", "warning"
    ),
    "another size": Fault(
        regridded(3, affine_of(), (26, 24, 30)), "outlier", "size along k, voxels: 30 (usual 8 to 12.5)", "warning"
    ),
    "another orientation": Fault(
        regridded(3, affine_of() * [[-1], [1], [1], [1]]),
        "orientation",
        "the orientation is LAS, while 11 of 12 images have RAS",
        "warning",
    ),
    "the same file for another patient": Fault(
        copied("s2.nii.gz", "s3.nii.gz"), "duplicate", "same image as entry 2 of `training`, but of another patient"
    ),
    "the same file twice": Fault(
        all_of(copied("s2.nii.gz", "s3.nii.gz"), changed(3, patient="patient2", fold=2)),
        "duplicate",
        "same image as entry 2 of `training`; list it once",
        "warning",
    ),
    "the same voxels in another file": Fault(
        all_of(copied("s2.nii.gz", "s3.nii.gz"), changed(3, image="s3.nii"), uncompressed),
        "duplicate",
        "same image as entry 2 of `training`, but of another patient",
        deep_only=True,
    ),
    "a patient in two folds": Fault(
        changed(3, patient="patient1"), "leakage", "patient 'patient1' is in fold 0 here and in fold 1 in entry 1"
    ),
    "a patient without a name": Fault(changed(3, patient=None), "patient", "has no `patient`, which is needed because"),
    "no intercept": Fault(
        scaled(1, 1024), "hounsfield", "the rescale intercept (often -1024) is missing", deep_only=True
    ),
    "grey window": Fault(
        scaled(0.2, 200, np.uint8), "hounsfield", "values from 0 to 255 only", "warning", deep_only=True
    ),
    "unit range": Fault(
        scaled(0.0004, 0.5, np.float32), "hounsfield", "values between -1 and 1 only", "warning", deep_only=True
    ),
    "padding": Fault(rewritten(3, padded), "hounsfield", "voxels below -1100 HU", "warning", deep_only=True),
    "air elsewhere": Fault(scaled(0.6), "hounsfield", "air nowhere near -1000 HU", "warning", deep_only=True),
    "no scale that exists": Fault(scaled(300), "hounsfield", "values that no Hounsfield scale reaches", deep_only=True),
}
"""Faults of a segmentation of CT scans. Where intensities differ, further findings may tell the same."""


PICTURES = {
    "damaged": Fault(cut("p3.png", 0.5), "file", "p3.png: the picture is damaged or cut short", deep_only=True),
    "grey among colours": Fault(
        picture(3, lambda: texture(3).convert("L")), "outlier", "the number of colours is 1", "warning"
    ),
    "another size": Fault(
        picture(3, lambda: texture(3, (300, 72))), "outlier", "size along i, voxels: 300 (usual", "warning"
    ),
    "dark": Fault(
        picture(3, lambda: ImageEnhance.Brightness(texture(3)).enhance(0.2)),
        "outlier",
        "range of",
        "warning",
        deep_only=True,
    ),
    "a look-alike of another patient": Fault(
        all_of(picture(5, lambda: texture(2), ".jpg"), changed(5, label="a", fold=2)),
        "near duplicate",
        "looks like entry 2 of `training`, which is of another patient",
        "warning",
        5,
        True,
        True,
    ),
    "a look-alike in another fold": Fault(
        picture(3, lambda: texture(2).resize((90, 68)), ".jpg"),
        "near duplicate",
        "looks like entry 2 of `training`, which is in fold 2",
        "warning",
        3,
        True,
        True,
    ),
    "a look-alike with another label": Fault(
        all_of(picture(3, lambda: texture(2), ".jpg"), changed(3, patient="patient2", fold=2)),
        "near duplicate",
        "looks like entry 2 of `training`, which has another label",
        "warning",
        3,
        True,
    ),
    "a label that is no class": Fault(
        changed(3, label="c"), "truth", "`label` is 'c', which is none of the classes a, b"
    ),
    "the same file with another label": Fault(
        all_of(copied("p2.png", "p3.png"), changed(3, patient="patient2", fold=2)),
        "duplicate",
        "same image as entry 2 of `training`, but has another label",
    ),
}


def found(findings: list[Finding], fault: Fault) -> list[Finding]:
    return [one for one in findings if one.kind == fault.kind and fault.words in f"{one.text}"]


@pytest.mark.parametrize("deep", [False, True])
def test_a_sound_cohort_has_no_finding(tmp_path: Path, deep: bool) -> None:
    for make in (scans, pictures):
        folder = tmp_path / make.__name__
        folder.mkdir()
        assert check_manifest(make(folder).path, deep=deep) == []


@pytest.mark.parametrize("name", [*(f"scans: {one}" for one in SCANS), *(f"pictures: {one}" for one in PICTURES)])
def test_a_planted_fault_is_found(tmp_path: Path, name: str) -> None:
    kind, _, title = name.partition(": ")
    fault = {"scans": SCANS, "pictures": PICTURES}[kind][title]
    cohort = {"scans": scans, "pictures": pictures}[kind](tmp_path)
    fault.plant(cohort)
    findings = check_manifest(cohort.path, deep=True)
    (finding,) = found(findings, fault)
    assert finding.level == fault.level and finding.grave == fault.grave
    assert finding.place == ("" if fault.entry is None else f"entry {fault.entry} of `training`")
    # Nothing else is wrong with any other entry.
    assert {one.place for one in findings if one.kind not in ("hounsfield", "patient")} <= {finding.place}
    if fault.deep_only:
        assert not found(check_manifest(cohort.path), fault)
    elif fault.deep_only is False:
        assert found(check_manifest(cohort.path), fault)


def test_scans_on_different_scales_spoil_a_training(tmp_path: Path) -> None:
    cohort = scans(tmp_path)
    scaled(0.2, 200, np.uint8)(cohort)
    texts = [one.text for one in check_manifest(cohort.path, deep=True) if one.spoils]
    assert len(texts) == 1 and "(11 in Hounsfield units, 1 in 0 to 255)" in texts[0]


def test_a_fault_of_all_scans_is_told_once(tmp_path: Path) -> None:
    cohort = scans(tmp_path)
    for number in range(1, COUNT + 1):
        rewritten(number, padded)(cohort)
    (finding,) = check_manifest(cohort.path, deep=True)
    assert finding.kind == "hounsfield" and finding.text.startswith(
        "12 of 12 CT images, entry 1 of `training` the first"
    )


def test_crops_that_do_not_tell_are_no_other_scale(tmp_path: Path) -> None:
    cohort = scans(tmp_path)
    for number in range(1, COUNT + 1):
        rewritten(number, lambda a, n=number: np.clip(a * 0.2 + 200, 0, 255 if n > 1 else 190).astype(np.uint8))(cohort)
    texts = [one.text for one in check_manifest(cohort.path, deep=True) if one.kind == "hounsfield"]
    assert len(texts) == 1 and texts[0].startswith("11 of 12 CT images (of 1 others the values do not tell), entry 2")


def test_other_modalities_are_not_held_against_hounsfield_units(tmp_path: Path) -> None:
    cohort = scans(tmp_path)
    cohort.write({**cohort.raw, "modality": "MR T1"})
    rewritten(3, padded)(cohort)
    assert not [one for one in check_manifest(cohort.path, deep=True) if one.kind == "hounsfield"]


@pytest.mark.parametrize("deep", [False, True])
def test_the_same_image_across_the_split(tmp_path: Path, deep: bool) -> None:
    cohort = scans(tmp_path)
    copied("s2.nii.gz", "s3.nii.gz")(cohort)
    cohort.change(3, patient="other")
    cohort.move(3, "test")
    (finding,) = check_manifest(cohort.path, deep=deep)
    assert finding.spoils and finding.where == "entry 1 of `test` (s3.nii.gz)"
    assert finding.text == "is the same image as entry 2 of `training`; list it once."


def test_a_look_alike_across_the_split_is_a_warning_that_spoils(tmp_path: Path) -> None:
    cohort = pictures(tmp_path)
    picture(3, lambda: ImageEnhance.Brightness(texture(2)).enhance(1.1), ".jpg")(cohort)
    cohort.move(3, "validation")
    (finding,) = [one for one in check_manifest(cohort.path, deep=True) if one.kind == "near duplicate"]
    assert (finding.level, finding.grave, finding.place) == ("warning", True, "entry 1 of `validation`")
    assert "looks like entry 2 of `training`, which is in another section" in finding.text


def test_two_pictures_of_one_patient_may_look_alike(tmp_path: Path) -> None:
    cohort = pictures(tmp_path)
    picture(4, lambda: texture(2), ".jpg")(cohort)
    cohort.change(4, patient="patient2", fold=2)
    assert check_manifest(cohort.path, deep=True) == []


def test_look_alikes_where_no_patient_is_named(tmp_path: Path) -> None:
    cohort = pictures(tmp_path)
    picture(4, lambda: texture(2), ".jpg")(cohort)
    raw = cohort.raw
    for entry in raw["training"]:
        del entry["patient"], entry["fold"]
    cohort.write(raw)
    finding, unnamed = check_manifest(cohort.path, deep=True)
    assert finding.kind == "near duplicate" and "give both one `patient`" in finding.text and not finding.spoils
    assert unnamed.kind == "patient"


def test_a_mixture_is_told_once(tmp_path: Path) -> None:
    cohort = pictures(tmp_path)
    raw = cohort.raw
    for number in range(COUNT + 1, 121):
        size = (96, 72) if number % 5 else (200, 150)
        texture(number, size).save(tmp_path / f"p{number}.png")
        raw["training"].append({"image": f"p{number}.png", "label": "a", "patient": number, "fold": 0})
    cohort.write(raw)
    texts = [one.text for one in check_manifest(cohort.path) if one.kind == "outlier"]
    assert len(texts) == 2 and all("the cohort is a mixture" in text for text in texts)
    assert "22 of 120 images are unlike the others in size along i" in texts[0]


def test_pictures_among_scans(tmp_path: Path) -> None:
    cohort = scans(tmp_path)
    regridded(3, affine_of(), (*SHAPE[:2], 1))(cohort)
    texts = [one.text for one in check_manifest(cohort.path) if one.place == "entry 3 of `training`"]
    assert any("the number of dimensions is 2, while 11 of 12" in text for text in texts)


def test_a_picture_with_nothing_in_it_looks_like_none(tmp_path: Path) -> None:
    cohort = pictures(tmp_path)
    for number in (2, 3):
        flat = np.full((72, 96, 3), 100, np.uint8)
        flat[number, number] = 140
        picture(number, lambda flat=flat: Image.fromarray(flat))(cohort)
    assert not [one for one in check_manifest(cohort.path, deep=True) if one.kind == "near duplicate"]
