from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medresnet3d.data.preparation.cards import Task, find_card
from medresnet3d.data.preparation.cohort import Cohort
from medresnet3d.data.preparation.folders import Folder
from medresnet3d.data.preparation.report import Report, make_report, print_report


def report(kind: str, *entries: dict[str, Any]) -> Report:
    cohort = Cohort(find_card("folder"), Task("t", kind, ("a", "b")), Folder(Path(__file__).parent, "Toy"))
    cohort.drop("blurred", "x.png", count=5)
    cohort.warn("No patient is known.")
    cohort.warn("No patient is known.")
    return make_report(cohort, {"training": [{"image": Path("i.png"), **entry} for entry in entries]})


def test_counts_by_class_section_and_group() -> None:
    made = report(
        "classification",
        {"patient": "1", "label": "a"},
        {"patient": "1", "label": "a"},
        {"patient": "1", "label": "b"},
        {"patient": "2", "label": "b"},
    )
    assert made.sections == {"training": {"entries": 4, "groups": 2, "per_group": [1, 2.0, 3]}}
    assert made.classes == {"training": {"a": 2, "b": 2}}
    assert made.groups == {"training": {"a": 1, "b": 2}}
    plain = made.as_dict()
    assert plain["dropped"] == {"blurred": 5} and plain["warnings"] == ["No patient is known."]
    assert plain["counts"]["training"]["classes"] == {"a": 2, "b": 2}


def test_boxes_are_counted_one_by_one_and_masks_not_at_all() -> None:
    boxes = report("detection", {"patient": "1", "label": ["a", "a", "b"]}, {"patient": "2", "label": ["a"]})
    assert boxes.classes == {"training": {"a": 3, "b": 1}} and boxes.groups == {"training": {"a": 2, "b": 1}}
    assert report("segmentation", {"patient": "1"}).classes == {"training": {}}


def test_print(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(report("classification", {"patient": "1", "label": "a"}))
    shown = capsys.readouterr().out
    assert "dropped: 5 blurred (x.png, …)" in shown and "note: No patient is known." in shown
    assert "1 to 1, median 1" in shown
