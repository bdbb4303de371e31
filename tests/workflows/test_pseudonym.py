from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from medresnet3d.errors import ConfigError
from medresnet3d.workflows.pseudonym import PHI_CHOICES, check_phi, pseudonym, shown_patient, unnamed


def test_the_same_patient_has_the_same_pseudonym(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first, second = pseudonym("MRN 1"), pseudonym("MRN 2")
    assert pseudonym("MRN 1 ") == first != second
    assert "MRN" not in first
    monkeypatch.setenv("MEDRESNET3D_HOME", str(tmp_path / "another user"))
    assert pseudonym("MRN 1") != first
    (key,) = (tmp_path / "another user").iterdir()
    assert key.stat().st_mode & 0o777 == 0o600 and len(key.read_bytes()) == 32


def test_a_home_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MEDRESNET3D_HOME", str(tmp_path / "file" / "below"))
    assert pseudonym("MRN 1") == pseudonym("MRN 1")


def test_what_may_be_said() -> None:
    assert shown_patient("MRN 1") == pseudonym("MRN 1")
    assert shown_patient(" MRN 1 ", "keep") == "MRN 1"
    for choice in PHI_CHOICES:
        assert shown_patient(None, choice) is None and shown_patient("  ", choice) is None
    assert shown_patient("MRN 1", "none") is None
    with pytest.raises(ConfigError, match=r"--phi pseudo: this choice is unknown; did you mean 'pseudonym'\?"):
        shown_patient("MRN 1", "pseudo")
    with pytest.raises(ConfigError, match="use none, pseudonym, keep"):
        check_phi("x")


def test_names_of_files_are_taken_out_of_sentences(tmp_path: Path) -> None:
    folder = tmp_path / "doe" / "scan 1"
    folder.mkdir(parents=True)
    (folder / "IM 1.dcm").touch()
    with zipfile.ZipFile(tmp_path / "jane.zip", "w") as archive:
        archive.writestr("doe/IM 2.dcm", b"")
    told = f"{folder}/IM 1.dcm: damaged; IM 1.dcm of scan 1 is empty."
    assert unnamed(told, str(folder), "case-1") == "case-1: damaged; case-1 of case-1 is empty."
    assert unnamed("/tmp/x/IM 2.dcm in jane.zip", str(tmp_path / "jane.zip"), "case-1") == "/tmp/x/case-1 in case-1"
    assert unnamed("t1.nii and t2.nii differ", ["a/t1.nii", "a/t2.nii"], "case-2") == "case-2 and case-2 differ"
