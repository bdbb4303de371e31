from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medresnet3d.io import load, require_same_grid
from tests.data.collections.trap import Result, write

AFFINE = np.array([[-0.94, 0, 0, 8], [0, 0, 1.5, -9], [0, -0.94, 0, 8], [0, 0, 0, 1.0]])
SCAN = np.arange(4 * 3 * 5, dtype=np.int16).reshape(4, 3, 5)


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.nifti1.Nifti1Image(array[..., None], affine).to_filename(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "IBSR_nifti_stripped"
    for case in ("IBSR_01", "IBSR_02"):
        for number, name in enumerate(("ana", "ana_strip", "segTRI_ana", "segTRI_fill_ana", "seg_ana")):
            array = SCAN + number if number < 2 else ((SCAN + number) % 4).astype(np.uint8)
            save(root / case / f"{case}_{name}.nii.gz", array)
        write(root / case / f"._{case}_ana_strip.nii.gz", "Mac OS X")
    return root


def test_a_fourth_axis_of_one_and_coronal_slices(root: Path) -> None:
    result = Result("ibsr", root)
    for entry in result.entries():
        image, mask = load(result.file(entry["image"])), load(result.file(entry["mask"]))
        assert image.shape == (4, 3, 5)
        require_same_grid(image, mask)
        assert "".join(nib.orientations.aff2axcodes(image.affine)) == "LIA"
    assert [entry["patient"] for entry in result.entries()] == ["IBSR_01", "IBSR_02"]


def test_options_choose_the_image_and_the_tissues(root: Path) -> None:
    default = Result("ibsr", root).entries()[0]
    assert default["image"].endswith("_ana_strip.nii.gz") and default["mask"].endswith("_segTRI_fill_ana.nii.gz")
    other = Result("ibsr", root, options={"stripped": "false", "filled": "false"}).entries()[0]
    assert other["image"].endswith("IBSR_01_ana.nii.gz") and other["mask"].endswith("_segTRI_ana.nii.gz")


def test_tissues_that_their_header_misplaces_and_a_case_without_any(root: Path) -> None:
    save(root / "IBSR_01" / "IBSR_01_segTRI_fill_ana.nii.gz", (SCAN % 4).astype(np.uint8), np.eye(4))
    (root / "IBSR_02" / "IBSR_02_segTRI_fill_ana.nii.gz").unlink()
    result = Result("ibsr", root)
    (entry,) = result.entries()
    mask = load(result.file(entry["mask"]))
    require_same_grid(load(result.file(entry["image"])), mask)
    assert np.array_equal(mask.array, SCAN % 4)
    assert result.dropped == {"mask file missing": 1}
