from __future__ import annotations

from pathlib import Path

import pytest

from medresnet3d.errors import ConfigError
from medresnet3d.workflows.pseudonym import PHI_CHOICES, check_phi, pseudonym, shown_patient


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
    with pytest.raises(ConfigError, match=r"--phi pseudo: this choice is unknown; did you mean pseudonym\?"):
        shown_patient("MRN 1", "pseudo")
    with pytest.raises(ConfigError, match="use none, pseudonym, keep"):
        check_phi("x")
