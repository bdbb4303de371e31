from __future__ import annotations

from pathlib import Path

import pytest

from medresnet3d.data.preparation.cards import Task, find_card
from medresnet3d.data.preparation.cohort import IMAGE_MISSING, MAX_EXAMPLES, Cohort
from medresnet3d.data.preparation.folders import Folder, Pictures
from medresnet3d.errors import DataError


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return Cohort(find_card("folder"), Task("t", "classification", ("nevus", "melanoma")), Folder(tmp_path, "Toy"))


def test_what_is_not_known_is_left_out(cohort: Cohort) -> None:
    cohort.add(Path("a.png"), patient=7, label="nevus", age=None, sex="", site="back", fold=0)
    assert cohort.entries == [
        ("training", {"image": Path("a.png"), "label": "nevus", "patient": "7", "fold": 0, "site": "back"})
    ]


def test_a_class_that_the_task_does_not_have_is_a_slip(cohort: Cohort) -> None:
    with pytest.raises(DataError, match="'mel' is none of the classes nevus, melanoma"):
        cohort.add(Path("a.png"), patient=1, label="mel")


def test_dropped_is_counted_with_a_few_examples(cohort: Cohort) -> None:
    for index in range(9):
        cohort.drop("blurred", index)
    assert cohort.dropped["blurred"].count == 9
    assert cohort.dropped["blurred"].examples == [str(index) for index in range(MAX_EXAMPLES)]


def test_values_without_a_class_are_counted(cohort: Cohort) -> None:
    classes = {"NV": "nevus", "MEL": "melanoma"}
    assert [cohort.pick(classes, value) for value in ("nv ", "Mel", "3", "")] == ["nevus", "melanoma", None, None]
    assert {reason: one.count for reason, one in cohort.dropped.items()} == {
        "label '3' is no class of this task": 1,
        "no label": 1,
    }


def test_missing_and_unasked_files_are_counted(cohort: Cohort) -> None:
    files = Pictures([Path("a.png"), Path("b.png")])
    assert cohort.find(files, "A") == Path("a.png")
    assert cohort.find(files, "c") is None
    cohort.drop_unused(files, "without a row")
    assert cohort.dropped[IMAGE_MISSING].examples == ["c"]
    assert cohort.dropped["without a row"].examples == ["b.png"]


def test_an_entry_without_a_patient_cannot_be_split_and_is_dropped(cohort: Cohort) -> None:
    cohort.add(Path("a.png"), patient=" ", label="nevus")
    assert cohort.entries == []
    assert cohort.dropped["no image named"].examples == ["a.png"]
