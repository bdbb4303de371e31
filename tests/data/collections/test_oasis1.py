from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medresnet3d.data.preparation.volumes import write_analyze
from medresnet3d.errors import ConfigError
from medresnet3d.io import load
from tests.data.collections.trap import Result, write

HEADER = "ID,M/F,Hand,Age,Educ,SES,MMSE,CDR,eTIV,nWBV,ASF,Delay\n"
VALUES = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)


def session(root: Path, name: str, scans: int = 4) -> None:
    base, stem = root / "disc1" / name, f"{name}_mpr_n{scans}_anon"
    for space in ("t88_gfc", "t88_masked_gfc"):
        write_analyze(base / "PROCESSED" / "MPRAGE" / "T88_111" / f"{stem}_111_{space}.img", VALUES)
    write_analyze(base / "PROCESSED" / "MPRAGE" / "SUBJ_111" / f"{stem}_sbj_111.img", VALUES)
    write_analyze(base / "FSL_SEG" / f"{stem}_111_t88_masked_gfc_fseg.img", VALUES % 4)
    write(base / "PROCESSED" / "MPRAGE" / "T88_111" / f"{stem}_111_t88_masked_gfc_tra_90.gif", "GIF89a")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "oasis"
    for name, scans in (("OAS1_0001_MR1", 4), ("OAS1_0002_MR1", 3), ("OAS1_0003_MR1", 6)):
        session(root, name, scans)
    session(root, "OAS1_0003_MR2")
    rows = "OAS1_0001_MR1,F,R,74,2,3,29,0,1344,0.743,1.306,N/A\nOAS1_0002_MR1,M,R,21,,,,,1550,0.85,1.1,N/A\n"
    rows += "OAS1_0003_MR1,F,R,73,4,3,27,0.5,1454,0.708,1.207,N/A\nOAS1_0003_MR2,F,R,73,,,,,1455,0.707,1.2,40\n"
    write(root / "oasis_cross-sectional.csv", HEADER + rows)
    return root


def test_a_person_who_came_twice_is_one_patient_with_one_rating(root: Path) -> None:
    found = {entry["session"]: (entry["patient"], entry["label"]) for entry in Result("oasis1", root).entries()}
    assert found["OAS1_0003_MR1"] == found["OAS1_0003_MR2"] == ("OAS1_0003", "demented")
    assert len(found) == 4
    without = Result("oasis1", root, options={"rescans": "false"})
    assert without.dropped == {"rescan": 1} and len(without.entries()) == 3


def test_a_blank_rating_is_nondemented_by_convention_or_dropped(root: Path) -> None:
    found = {entry["session"]: entry["label"] for entry in Result("oasis1", root).entries()}
    assert found["OAS1_0002_MR1"] == found["OAS1_0001_MR1"] == "nondemented"
    strict = Result("oasis1", root, options={"blank_cdr": "drop"})
    assert strict.dropped == {"no CDR": 1}


def test_any_number_of_averaged_scans_and_no_pictures_of_slices(root: Path) -> None:
    names = [Path(entry["image"]).name for entry in Result("oasis1", root).entries()]
    assert [name[14:20] for name in names] == ["mpr_n4", "mpr_n3", "mpr_n6", "mpr_n4"]
    assert all(name.endswith("_t88_masked_gfc.img") for name in names)
    whole = Result("oasis1", root, options={"image": "head"}).entries()
    assert all(entry["image"].endswith("_t88_gfc.img") for entry in whole)


def test_sagittal_images_of_the_own_space_are_written_with_their_axes(root: Path) -> None:
    result = Result("oasis1", root, task="age", options={"image": "subject"})
    volume = load(result.file(result.entries()[0]["image"]))
    assert "".join(nib.orientations.aff2axcodes(volume.affine)) == "ASL"
    assert np.array_equal(volume.array, VALUES)
    assert result.entries()[0]["label"] == 74
    with pytest.raises(ConfigError, match="atlas space"):
        Result("oasis1", root, task="tissue", options={"image": "subject"})


def test_a_session_without_images_or_tissue_map_is_counted(root: Path) -> None:
    next(root.rglob("OAS1_0001_MR1*fseg.img")).unlink()
    next(root.rglob("OAS1_0002_MR1*masked_gfc.img")).unlink()
    assert Result("oasis1", root, task="tissue").dropped == {"mask file missing": 1, "image file missing": 1}


def test_unknown_choices(root: Path) -> None:
    with pytest.raises(ConfigError, match="choose one of masked, head, subject"):
        Result("oasis1", root, options={"image": "raw"})
