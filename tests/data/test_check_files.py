from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medresnet3d.data.check_files import FileCheck


@pytest.fixture
def entry(tmp_path: Path) -> dict[str, Any]:
    for name, array in (("i", np.arange(60).reshape(5, 4, 3)), ("m", np.eye(5, 4)[:, :, None].repeat(3, 2))):
        nib.loadsave.save(nib.nifti1.Nifti1Image(array.astype(np.int16), np.eye(4)), tmp_path / f"{name}.nii")
    return {"image": str(tmp_path / "i.nii"), "mask": str(tmp_path / "m.nii")}


def test_the_fingerprint_is_of_the_image_alone(entry: dict[str, Any], tmp_path: Path) -> None:
    checks = [FileCheck("segmentation", 2, deep) for deep in (False, True)]
    for check in checks:
        assert list(check.problems(entry)) == []
    (tmp_path / "copy.nii").write_bytes((tmp_path / "i.nii").read_bytes())
    for check in checks:
        fingerprint = check.fingerprint
        assert list(check.problems({"image": str(tmp_path / "copy.nii")})) == []
        assert check.fingerprint == fingerprint is not None
        assert list(check.problems({"image": entry["mask"]})) == []
        assert check.fingerprint not in (fingerprint, None)


def test_a_missing_file_has_no_fingerprint(entry: dict[str, Any], tmp_path: Path) -> None:
    check = FileCheck("segmentation", 2, deep=False)
    (tmp_path / "empty").mkdir()
    ((kind, text),) = check.problems({**entry, "image": str(tmp_path / "empty")})
    assert kind == "file" and "is an empty folder" in text and check.fingerprint is None


def test_labels_are_counted_over_all_masks(entry: dict[str, Any]) -> None:
    check = FileCheck("segmentation", 3, deep=True)
    assert check.unused_labels(("a", "b", "c")) == []
    assert list(check.problems(entry)) == []
    assert check.unused_labels(("a", "b", "c")) == [("c", 2)]


def test_masks_of_other_tasks_may_hold_anything(entry: dict[str, Any]) -> None:
    assert list(FileCheck("classification", 1, deep=True).problems(entry)) == []
    ((kind, text),) = FileCheck("segmentation", 1, deep=True).problems(entry)
    assert kind == "mask" and "has the values 1, but the labels go from 0 to 0" in text


def test_what_is_to_be_converted_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "series.zip").write_bytes(b"no archive")
    assert list(FileCheck("conversion", 0, deep=True).problems({"image": str(tmp_path / "series.zip")})) == []
