from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medresnet3d.data import check_manifest
from medresnet3d.data.checking.cohort import examine
from medresnet3d.errors import DataError


def save(path: Path, array: Any, affine: Any = None) -> str:
    nib.save(nib.Nifti1Image(np.asarray(array), np.eye(4) if affine is None else affine), path)
    return path.name


def noise(seed: int, shape: tuple[int, int, int] = (6, 5, 4)) -> Any:
    return np.random.default_rng(seed).integers(0, 1000, shape).astype(np.int16)


def mask_of(*values: int) -> Any:
    mask = np.zeros((6, 5, 4), np.uint8)
    for index, value in enumerate(values):
        mask[index] = value
    return mask


def segmentation(folder: Path, masks: list[Any], **changes: Any) -> Path:
    entries = [
        {
            "image": save(folder / f"i{index}.nii.gz", noise(index)),
            "mask": save(folder / f"m{index}.nii.gz", mask),
            "patient": f"p{index}",
        }
        for index, mask in enumerate(masks)
    ]
    return write(folder, task="segmentation", labels=["background", "organ"], training=entries, **changes)


def classification(folder: Path, labels: list[str], **changes: Any) -> Path:
    entries = [
        {"image": save(folder / f"i{index}.nii.gz", noise(index)), "label": label, "patient": f"p{index}"}
        for index, label in enumerate(labels)
    ]
    return write(folder, task="classification", labels=["no", "yes"], training=entries, **changes)


def write(folder: Path, **raw: Any) -> Path:
    (folder / "manifest.json").write_text(json.dumps({"name": "toy", **raw}))
    return folder / "manifest.json"


def change(file: Path, number: int, section: str = "training", **values: Any) -> None:
    raw = json.loads(file.read_text())
    raw[section][number] |= values
    file.write_text(json.dumps(raw))


def found(file: Path, deep: bool = True) -> list[tuple[str, str, str]]:
    return [
        (finding.level, finding.kind, f"{finding.where}: {finding.text}") for finding in check_manifest(file, deep=deep)
    ]


def test_a_sound_data_set_has_no_findings(tmp_path: Path) -> None:
    assert found(segmentation(tmp_path, [mask_of(1), mask_of(0, 1)])) == []
    assert found(classification(tmp_path, ["no", "yes", "no"])) == []
    with examine(tmp_path) as cohort:
        assert cohort.classes == {"training": {"no": 2, "yes": 1}}


def test_files_that_are_missing_empty_or_damaged(tmp_path: Path) -> None:
    file = segmentation(tmp_path, [mask_of(1)] * 4)
    (tmp_path / "i0.nii.gz").unlink()
    (tmp_path / "m1.nii.gz").write_bytes(b"")
    content = (tmp_path / "i2.nii.gz").read_bytes()
    (tmp_path / "i2.nii.gz").write_bytes(content[: len(content) // 2])
    save(tmp_path / "i3.nii.gz", np.full((6, 5, 4), np.nan, np.float32))
    findings = found(file)
    assert [(level, kind) for level, kind, _ in findings] == [("error", "file")] * 4
    for (_, _, text), (number, word) in zip(
        findings, [(1, "does not exist"), (2, "is an empty file"), (3, "i2.nii.gz"), (4, "NaN")], strict=True
    ):
        assert f"entry {number} of `training`" in text and word in text
    assert [text.split(":")[0] for _, _, text in found(file, deep=False)] == [
        f"entry {number} of `training` (i{number - 1}.nii.gz)"
        for number in (1, 2, 3)  # the third is so short that its header is damaged
    ]


def test_masks_that_are_wrong(tmp_path: Path) -> None:
    file = segmentation(tmp_path, [mask_of(1, 2, 5), mask_of(0), mask_of(1), mask_of(1) * 0.5, mask_of(1)])
    save(tmp_path / "m2.nii.gz", mask_of(1), np.diag([1, 1, 2, 1]))
    save(tmp_path / "m4.nii.gz", np.eye(6, 5, dtype=np.uint8)[:, :, None].repeat(3, 2))
    findings = {finding.where: finding for finding in check_manifest(file, deep=True)}
    expected = [
        ("error", "mask", "has the values 2, 5, but the labels go from 0 to 1"),
        ("warning", "mask", "is empty"),
        ("error", "geometry", "spacing"),
        ("error", "mask", "no whole numbers"),
        ("error", "geometry", "different shapes"),
    ]
    for number, (level, kind, words) in enumerate(expected):
        finding = findings.pop(f"entry {number + 1} of `training` (i{number}.nii.gz)")
        assert (finding.level, finding.kind) == (level, kind) and words in finding.text
    assert findings == {}


def test_a_label_that_no_mask_has(tmp_path: Path) -> None:
    file = segmentation(tmp_path, [mask_of(1)], description="x")
    raw = json.loads(file.read_text())
    file.write_text(json.dumps({**raw, "labels": ["background", "organ", "tumour"]}))
    ((level, kind, text),) = found(file)
    assert (level, kind) == ("warning", "mask") and "label 2 (tumour) is in no mask" in text


def test_modalities_on_different_grids(tmp_path: Path) -> None:
    file = segmentation(tmp_path, [mask_of(1)])
    change(file, 0, image=["i0.nii.gz", save(tmp_path / "t2.nii.gz", noise(7, (6, 5, 3)))])
    ((level, kind, text),) = found(file)
    assert (level, kind) == ("error", "geometry") and "t2.nii.gz" in text


@pytest.mark.parametrize("deep", [False, True])
def test_images_that_are_listed_twice(tmp_path: Path, deep: bool) -> None:
    file = classification(tmp_path, ["no", "yes", "no", "yes", "no", "yes"])
    whole = (tmp_path / "i0.nii.gz").read_bytes()
    for number in (1, 2):
        (tmp_path / f"i{number}.nii.gz").write_bytes(whole)
    change(file, 1, patient="p0")
    change(file, 4, image="i3.nii.gz", patient="p3", label="yes")
    raw = json.loads(file.read_text())
    raw["test"] = [{"image": "i5.nii.gz", "label": "yes", "patient": "another"}]
    file.write_text(json.dumps(raw))
    findings = found(file, deep)
    assert [kind for _, kind, _ in findings[:4]] == ["duplicate"] * 4
    texts = [f"{level} {text}" for level, _, text in findings]
    assert "error entry 2 of `training`" in texts[0] and "entry 1 of `training`, but has another label" in texts[0]
    assert "error entry 3 of `training`" in texts[1] and "but of another patient" in texts[1]
    assert "error entry 1 of `test`" in texts[2] and "is the same image as entry 6 of `training`" in texts[2]
    assert "warning entry 5 of `training`" in texts[3] and "is the same image as entry 4" in texts[3]


def test_the_same_voxels_in_another_file_are_found_by_reading(tmp_path: Path) -> None:
    file = classification(tmp_path, ["no", "yes"])
    save(tmp_path / "i1.nii", noise(0))
    change(file, 1, image="i1.nii")
    assert found(file, deep=False) == []
    assert "but of another patient" in found(file)[0][2]


def test_two_points_of_one_scan_are_no_duplicate(tmp_path: Path) -> None:
    file = classification(tmp_path, ["no", "yes"])
    change(file, 0, position=[1, 2, 3])
    change(file, 1, image="i0.nii.gz", patient="p0", position=[4, 5, 6])
    assert found(file, deep=False) == []


def test_patients_on_both_sides(tmp_path: Path) -> None:
    file = classification(tmp_path, ["no", "yes"])
    raw = json.loads(file.read_text())
    raw["validation"] = [{"image": save(tmp_path / "v.nii.gz", noise(9)), "label": "no", "patient": "p1"}]
    file.write_text(json.dumps(raw))
    levels = {kind: (level, text) for level, kind, text in found(file)}
    assert levels["leakage"][0] == "error" and "patient 'p1' is already in `training` (entry 2)" in levels["leakage"][1]
    assert levels["balance"][0] == "warning" and "`validation` has no entry of yes" in levels["balance"][1]


def test_the_balance_of_classes(tmp_path: Path) -> None:
    ((level, kind, text),) = found(classification(tmp_path, ["no"] * 12 + ["yes"]))
    assert (level, kind) == ("warning", "balance") and "12 entries of no and 1 of yes" in text
    ((level, kind, text),) = found(classification(tmp_path, ["no"] * 3))
    assert (level, kind) == ("error", "balance") and "has no entry of yes" in text


def test_patients_that_are_not_named(tmp_path: Path) -> None:
    file = classification(tmp_path, ["no", "yes"])
    change(file, 0, patient="")
    assert "1 of 2 entries, this one first, name no `patient`" in found(file)[0][2]
    change(file, 1, patient="")
    assert "no entry names its `patient`" in found(file)[0][2]


def test_all_schema_problems_are_listed_and_files_are_left_alone(tmp_path: Path) -> None:
    file = write(tmp_path, task="classification", labels=["a"], training=[{"image": "x", "label": "b"}] * 3)
    findings = found(file)
    assert [(level, kind) for level, kind, _ in findings] == [("error", "truth")] * 3
    file.write_text("{")
    with pytest.raises(DataError, match="is not valid JSON"):
        check_manifest(file)


def test_plain_images(tmp_path: Path) -> None:
    from skimage.io import imsave

    for name, shape in (("a", (8, 9, 3)), ("am", (8, 9)), ("b", (8, 9)), ("bm", (9, 8))):
        pixels = np.random.default_rng(len(name)).integers(0, 2, shape).astype(np.uint8)
        imsave(tmp_path / f"{name}.png", pixels, check_contrast=False)
    (tmp_path / "c.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    entries = [{"image": f"{name}.png", "mask": f"{name}m.png", "patient": name} for name in "ab"]
    entries.append({"image": "c.png", "mask": "am.png", "patient": "c"})
    file = write(tmp_path, task="segmentation", labels=["no", "yes"], training=entries)
    findings = found(file)
    assert [kind for _, kind, _ in findings] == ["geometry", "file", "outlier"]
    assert "have 8 x 9 and 9 x 8 pixels" in findings[0][2] and "the number of colours" in findings[2][2]
    assert "c.png: the picture is damaged or cut short" in findings[1][2]


@pytest.mark.realdata
def test_real_data_sets_pass(realdata: Path) -> None:
    for name in ("brain_tissue_mri", "hippocampus_mri", "lung_nodule_ct"):
        assert [finding for finding in check_manifest(realdata / name, deep=True) if finding.level == "error"] == []
