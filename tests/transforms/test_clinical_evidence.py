from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medresnet3d.transforms.clinical_evidence import LEAST_CASES, evidence_for, fit_evidence, known_values


def cases(*groups: tuple[int, int, dict[str, Any]]) -> list[dict[str, Any]]:
    """Each group: how many, their class, what is known of them."""
    return [{"label": label, **known} for count, label, known in groups for _ in range(count)]


PEOPLE = cases(
    (30, 0, {"site": "face", "age": "80"}),
    (10, 0, {"site": "Back ", "age": "60"}),
    (5, 1, {"site": "face", "age": "20"}),
    (15, 1, {"site": "back", "age": "40"}),
    (7, 1, {"site": "unknown", "age": ""}),
)


def test_a_value_speaks_for_a_class_by_the_logarithm_of_its_likelihood_ratio() -> None:
    found = fit_evidence(PEOPLE, ["site"], 2, smoothing=4, share=0.7)["site"]["evidence"]
    share = 35 / 60
    expected = 0.7 * np.log([(30 + 4 * share) / (40 + 4) / share, (5 + 4 * share) / (20 + 4) / share])
    np.testing.assert_allclose(found["face"], expected, atol=1e-3)
    assert sorted(found) == ["back", "face"]


def test_how_frequent_the_classes_are_does_not_matter() -> None:
    rare = [case for case in PEOPLE if case["label"] == 0] + 20 * [case for case in PEOPLE if case["label"] == 1]
    for table in [fit_evidence(listed, ["site"], 2, smoothing=1e-9, share=1) for listed in (PEOPLE, rare)]:
        face, back = (np.diff(table["site"]["evidence"][place])[0] for place in ("face", "back"))
        np.testing.assert_allclose([face, back], [np.log(0.25 / 0.75), np.log(0.75 / 0.25)], atol=2e-3)


def test_numbers_are_cut_into_intervals() -> None:
    table = fit_evidence(PEOPLE, ["age"], 2)
    assert table["age"]["edges"] == sorted(set(table["age"]["edges"]))
    young, old = (evidence_for({"age": age}, table, 2) for age in (21, "95"))
    assert young[1] > 0 > young[0] and old[0] > 0 > old[1]
    np.testing.assert_array_equal(evidence_for({"age": 20.0}, table, 2), young)


def test_fields_add_up_and_what_is_unknown_says_nothing() -> None:
    table = fit_evidence(PEOPLE, ["age", "site"], 2)
    both = evidence_for({"age": "80", "site": "FACE"}, table, 2)
    np.testing.assert_allclose(both, sum(evidence_for(one, table, 2) for one in ({"age": "80"}, {"site": "face"})))
    for nothing in ({}, {"site": "unknown", "age": None}, {"site": "elbow", "age": "old"}, {"age": float("nan")}):
        np.testing.assert_array_equal(evidence_for(nothing, table, 2), [0, 0])
    assert known_values({"site": "elbow", "age": " 80"}, table) == {"age": "80", "site": ""}


@pytest.mark.parametrize("value", ["$import os", "@network", "a::b", "a#b", "%x.json", "", "unknown"])
def test_no_value_becomes_a_command_or_reference_of_the_configuration(value: str) -> None:
    listed = cases((20, 0, {"site": "face"}), (20, 1, {"site": "back"}), (20, 1, {"site": value}))
    assert sorted(fit_evidence(listed, ["site"], 2)["site"]["evidence"]) == ["back", "face"]


def test_a_field_that_tells_nothing_apart_is_left_out() -> None:
    same = cases((20, 0, {"sex": "female", "age": "50"}), (20, 1, {"sex": "female", "age": "50"}))
    rare = cases((LEAST_CASES - 1, 1, {"sex": "male"}))
    assert fit_evidence(same + rare, ["sex", "age", "camera"], 2) == {}
