from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from medresnet3d.cli.main import app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", "check", *map(str, arguments)])


def save(path: Path, array: Any) -> None:
    nib.loadsave.save(nib.nifti1.Nifti1Image(np.asarray(array), np.eye(4)), path)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    entries = []
    for index in range(4):
        save(tmp_path / f"i{index}.nii", np.random.default_rng(index).integers(0, 99, (4, 4, 4)).astype(np.int16))
        save(tmp_path / f"m{index}.nii", np.eye(4, dtype=np.uint8)[:, :, None].repeat(4, 2))
        entries.append({"image": f"i{index}.nii", "mask": f"m{index}.nii", "patient": f"p{index}"})
    raw = {"name": "toy", "task": "segmentation", "labels": ["back", "organ"], "training": entries}
    (tmp_path / "manifest.json").write_text(json.dumps(raw))
    return tmp_path / "manifest.json"


def change(manifest: Path, **changes: Any) -> None:
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))


def test_a_sound_data_set(manifest: Path) -> None:
    for arguments in ([manifest], [manifest.parent], [manifest, "--deep"]):
        result = run(*arguments)
        assert result.exit_code == 0, result.output
        assert "0 errors, 0 warnings" in result.stdout
    result = run(manifest, "--json")
    assert json.loads(result.stdout)["sections"] == {"training": {"entries": 4, "patients": 4}}


def test_a_label_outside_the_class_list(manifest: Path) -> None:
    save(manifest.parent / "m1.nii", np.full((4, 4, 4), 9, np.uint8))
    assert run(manifest).exit_code == 0
    result = run(manifest, "--deep")
    assert result.exit_code == 1
    assert "error entry 2 of `training` (i1.nii): the mask" in result.stdout
    assert "has the values 9, but the labels go from 0 to 1" in result.stdout


def test_a_patient_in_training_and_validation(manifest: Path) -> None:
    first, *rest = json.loads(manifest.read_text())["training"]
    change(manifest, training=rest, validation=[{**first, "patient": "p2"}])
    result = run(manifest)
    assert result.exit_code == 1
    assert "entry 1 of `validation` (i0.nii): patient 'p2' is already in `training` (entry 2)" in result.stdout


def test_a_manifest_that_breaks_the_schema(manifest: Path) -> None:
    change(manifest, training=[{"image": "i0.nii", "mask": "m0.nii", "position": [1, 2]}])
    result = run(manifest)
    assert result.exit_code == 1
    assert "error entry 1 of `training`: `position` is [1, 2], which cannot be used" in result.stdout


def test_a_missing_file(manifest: Path) -> None:
    (manifest.parent / "m3.nii").unlink()
    result = run(manifest)
    assert result.exit_code == 1 and "m3.nii does not exist; correct the path." in result.stdout


@pytest.mark.parametrize(
    ("content", "words"), [(None, "no such manifest; check the path"), ("{", "is not valid JSON at line 1, column 2")]
)
def test_what_is_no_manifest(tmp_path: Path, content: str | None, words: str) -> None:
    if content is not None:
        (tmp_path / "m.json").write_text(content)
    result = run(tmp_path / "m.json")
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr.startswith("Error: ") and words in result.stderr and "Traceback" not in result.stderr
