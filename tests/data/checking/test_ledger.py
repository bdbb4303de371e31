from __future__ import annotations

import math
from pathlib import Path

from medresnet3d.data.checking.ledger import Ledger


def test_entries_of_the_same_files_are_one_case() -> None:
    with Ledger() as ledger:
        for number, position in enumerate(([1, 2, 3], [4, 5, 6]), 1):
            ledger.add_entry("training", number, {"image": "/d/a.nii", "position": position, "patient": "p"}, True)
        ledger.add_entry("test", 1, {"image": ["/d/a.nii", "/d/b.nii"], "mask": "/d/m.nii", "fold": 2}, True)
        ledger.close_entries()
        assert [(one.images, one.mask) for one in ledger.cases()] == [
            (("/d/a.nii",), None),
            (("/d/a.nii", "/d/b.nii"), "/d/m.nii"),
        ]
        assert ledger.count("entries") == 3 and ledger.first_of_case(1).position == "[1, 2, 3]"
        (last,) = ledger.listed("section = 2")
        assert (last.section, last.number, last.case, last.patient, last.fold) == ("test", 1, 2, "", 2)


def test_findings_come_errors_first_and_no_more_than_wanted() -> None:
    with Ledger("line") as ledger:
        ledger.add_entry("training", 7, {"image": "/d/a.nii", "mask": "/d/m.nii"}, True)
        ledger.close_entries()
        for number in range(5):
            ledger.record("warning", "balance", f"warning {number}", names=["x"])
        ledger.record("warning", "patient", "one", grave=True)
        ledger.record_of_case(1, "error", "file", "lost")
        texts = [one.text for one in ledger.findings(most=2)]
        assert texts == ["lost", "warning 0", "warning 1", "one"]
        first = next(ledger.findings())
        assert first.where == "line 7 of `training` (a.nii)" and first.place == "line 7 of `training`"
        assert first.names == ("/d/a.nii", "/d/m.nii") and first.spoils
        assert len(list(ledger.findings())) == 7 and ledger.spoiling() == 2
        assert next(iter(ledger.finding_counts().items())) == (("error", "file"), 1)
        assert [one.text for one in ledger.findings_of_case(1)] == ["lost"]


def test_numbers_and_what_is_not_known() -> None:
    with Ledger() as ledger:
        values = ledger.numbers("SELECT 1, NULL UNION ALL SELECT 2.5, 3")
        assert values.shape == (2, 2) and values[1].tolist() == [2.5, 3.0] and math.isnan(values[0, 1])
        assert ledger.numbers("SELECT id, bytes FROM cases").shape == (0, 2)


def test_nothing_is_left_behind() -> None:
    with Ledger() as ledger:
        folder = Path(ledger._folder.name)
        assert (folder / "ledger.sqlite").is_file()
    assert not folder.exists()
