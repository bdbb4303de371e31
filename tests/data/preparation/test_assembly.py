from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medresnet3d.data.preparation.assembly import CONTRADICTION, REPEATED, assemble
from medresnet3d.data.preparation.cards import Task, find_card
from medresnet3d.data.preparation.cohort import Cohort
from medresnet3d.data.preparation.folders import Folder
from medresnet3d.errors import DataError

HERE = Path(__file__).parent


def cohort(*entries: dict[str, Any]) -> Cohort:
    made = Cohort(find_card("folder"), Task("t", "classification", ("a", "b")), Folder(HERE, "Toy"))
    for entry in entries:
        made.add(**{"label": "a", **entry})
    return made


def image(name: object) -> Path:
    return Path(f"{name}.png")


def test_a_repeated_row_stays_once_and_a_contradiction_not_at_all() -> None:
    made = cohort(
        {"image": image(1), "patient": 1},
        {"image": image(1), "patient": 1},
        {"image": image(2), "patient": 2},
        {"image": image(2), "patient": 2, "label": "b"},
        {"image": image(3), "patient": 3},
    )
    assert [entry["image"].stem for entry in assemble(made, 0, 0)["training"]] == ["1", "3"]
    assert {reason: dropped.count for reason, dropped in made.dropped.items()} == {REPEATED: 1, CONTRADICTION: 2}


def test_two_points_of_one_scan_are_two_entries() -> None:
    made = cohort(*({"image": image(1), "patient": 1, "position": (0.0, 0.0, z)} for z in (1.0, 2.0)))
    assert len(assemble(made, 0, 0)["training"]) == 2


def test_a_patient_on_two_sides_stays_on_the_side_that_is_held_out() -> None:
    made = cohort(
        {"image": image(1), "patient": 1},
        {"image": image(2), "patient": 1, "section": "test"},
        {"image": image(3), "patient": 2},
        {"image": image(4), "patient": 2, "section": "validation"},
        {"image": image(5), "patient": 3},
    )
    sections = assemble(made, 5, 0)
    assert {section: [entry["image"].stem for entry in entries] for section, entries in sections.items()} == {
        "training": ["5"],
        "validation": ["4"],
        "test": ["2"],
    }
    assert made.dropped["image also in the test part"].count == 1
    assert made.dropped["image also in the validation part"].count == 1


def test_folds_are_made_only_where_there_is_no_official_split() -> None:
    own = [{"image": image(i), "patient": i, "label": "ab"[i % 2]} for i in range(8)]
    assert {entry["fold"] for entry in assemble(cohort(*own), 2, 0)["training"]} == {0, 1}
    assert not any("fold" in entry for entry in assemble(cohort(*own), 0, 0)["training"])
    official = [{**entry, "fold": 7} for entry in own]
    assert {entry["fold"] for entry in assemble(cohort(*official), 2, 0)["training"]} == {7}
    validated = [*own, {"image": image(9), "patient": 9, "section": "validation"}]
    assert not any("fold" in entry for entry in assemble(cohort(*validated), 2, 0)["training"])


def test_too_few_patients_for_the_folds() -> None:
    with pytest.raises(DataError, match=r"Only one patient is listed.*--folds 0 makes none"):
        assemble(cohort({"image": image(1), "patient": 1}), 5, 0)


def test_nothing_left_says_why() -> None:
    made = cohort()
    made.drop("image file missing", "x", count=3)
    with pytest.raises(DataError, match=r"no entry is left for t \(3 image file missing\)"):
        assemble(made, 5, 0)


@settings(max_examples=25, deadline=None)
@given(patients=st.lists(st.integers(0, 12), min_size=20, max_size=60), seed=st.integers(0, 5))
def test_no_patient_is_in_two_folds(patients: list[int], seed: int) -> None:
    if len(set(patients)) < 3:
        return
    rows = [{"image": image(i), "patient": p, "label": "ab"[p % 2]} for i, p in enumerate(patients)]
    folds: dict[str, set[int]] = {}
    for entry in assemble(cohort(*rows), 3, seed)["training"]:
        folds.setdefault(entry["patient"], set()).add(entry["fold"])
    assert all(len(numbers) == 1 for numbers in folds.values())
    assert set().union(*folds.values()) == {0, 1, 2}
