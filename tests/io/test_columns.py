from __future__ import annotations

from medresnet3d.io.columns import columns_of


def test_nested_values_are_named_by_their_path() -> None:
    value = {"screening": {"score": 0.5, "from_grade": 1}, "notes": ["a", "b"], "point": [1, 2.5], "none": None}
    assert columns_of("details", value) == {
        "details_screening_score": 0.5,
        "details_screening_from_grade": 1,
        "details_notes": "a | b",
        "details_point": "1 2.5",
        "details_none": "",
    }


def test_lists_in_lists_are_left_out() -> None:
    assert columns_of("boxes", [[1, 2], [3, 4]]) == {}
    assert columns_of("details", {}) == {}
