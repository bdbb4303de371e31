from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medresnet3d.errors import ConfigError
from medresnet3d.io import load
from tests.data.collections.trap import Result, write


def volume(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.nifti1.Nifti1Image(array.astype(np.int16), np.diag([1.0, 1.0, 3.0, 1.0])).to_filename(path)


def task(root: Path, shape: tuple[int, ...] = (6, 5, 4), **changes: Any) -> Path:
    for case in ("a_001", "a_002"):
        volume(root / "imagesTr" / f"{case}.nii.gz", np.arange(np.prod(shape)).reshape(shape))
        volume(root / "labelsTr" / f"{case}.nii.gz", np.arange(120).reshape(6, 5, 4) % 3)
        write(root / "imagesTr" / f"._{case}.nii.gz", "Mac OS X")
    volume(root / "imagesTs" / "a_003.nii.gz", np.arange(np.prod(shape)).reshape(shape))
    files = [f"a_00{number}.nii.gz" for number in (1, 2)]
    listed: dict[str, Any] = {
        "name": "A",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "anterior", "2": "posterior"},
        "training": [{"image": f"./imagesTr/{file}", "label": f"./labelsTr/{file}"} for file in files],
        "test": ["./imagesTs/a_003.nii.gz"],
    }
    write(root / "dataset.json", json.dumps(listed | changes))
    write(root / "._dataset.json", "Mac OS X")
    return root


def test_paths_begin_with_a_point_and_hidden_files_are_not_read(tmp_path: Path) -> None:
    result = Result("msd", task(tmp_path / "Task04_A").parent)
    assert [Path(entry["image"]).name for entry in result.entries("training")] == ["a_001.nii.gz", "a_002.nii.gz"]
    assert [entry["patient"] for entry in result.entries()] == ["a_001", "a_002", "a_003"]
    assert "mask" not in result.entries("test")[0]
    assert result.raw["labels"] == ["background", "anterior", "posterior"]


def test_modalities_of_a_four_dimensional_image_become_files_on_its_grid(tmp_path: Path) -> None:
    root = task(tmp_path / "Task05_A", (6, 5, 4, 2), modality={"0": "T2", "1": "ADC"})
    result = Result("msd", root)
    first, second = (load(result.file(name)) for name in result.entries("training")[0]["image"])
    source = nib.nifti1.Nifti1Image.from_filename(root / "imagesTr" / "a_001.nii.gz")
    assert np.array_equal(first.array, np.asarray(source.dataobj)[..., 0])
    assert np.array_equal(second.array, np.asarray(source.dataobj)[..., 1])
    assert np.array_equal(first.affine, source.affine)


def test_missing_files_are_counted(tmp_path: Path) -> None:
    root = task(tmp_path / "Task04_A")
    (root / "labelsTr" / "a_001.nii.gz").unlink()
    (root / "imagesTs" / "a_003.nii.gz").unlink()
    assert Result("msd", root).dropped == {"mask file missing": 1, "image file missing": 1}


def test_one_of_several_tasks_has_to_be_chosen(tmp_path: Path) -> None:
    task(tmp_path / "msd" / "Task04_A")
    task(tmp_path / "msd" / "Task09_B")
    with pytest.raises(ConfigError, match=r"several tasks \(Task04_A, Task09_B\)"):
        Result("msd", tmp_path / "msd")
    assert len(Result("msd", tmp_path / "msd", options={"name": "Task09_B"}).entries()) == 3
