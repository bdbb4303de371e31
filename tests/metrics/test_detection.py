"""FROC and CPM on cases counted by hand, on degenerate ones, and against a plain reading of the rules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medresnet3d.errors import DataError
from medresnet3d.metrics import detection_metrics, froc, match_detections
from medresnet3d.metrics.detection import (
    FALSE,
    HIT,
    IGNORED,
    MISSED,
    RATES,
    RECORD_COLUMNS,
    REPEATED,
    Matched,
    detection_records,
)


def finding(x: float, diameter: float = 10.0, excluded: bool = False) -> list[float]:
    return [x, 0.0, 0.0, diameter, float(excluded)]


def detection(x: float, probability: float) -> list[float]:
    return [x, 0.0, 0.0, 7.0, probability]


# What each detection is


def test_a_hit_is_nearer_than_the_radius_and_not_as_near_as_the_radius() -> None:
    found = match_detections([detection(4.999, 0.5), detection(5.0, 0.9), detection(-5.0, 0.8)], [finding(0)])
    assert found.kinds == (HIT, FALSE, FALSE)
    assert found.hit_by.tolist() == [0] and found.scores.tolist() == [0.5]
    assert found.false_scores.tolist() == [0.9, 0.8]


def test_several_hits_of_one_finding_count_once_with_the_highest_probability() -> None:
    found = match_detections([detection(0, 0.3), detection(1, 0.7), detection(2, 0.6)], [finding(0)])
    assert found.kinds == (REPEATED, HIT, REPEATED)
    assert found.scores.tolist() == [0.7] and found.false_scores.size == 0


def test_detections_on_excluded_findings_are_neither_hit_nor_false() -> None:
    known = [finding(0), finding(40, excluded=True)]
    found = match_detections([detection(40, 0.9), detection(41, 0.8), detection(80, 0.7)], known)
    assert found.kinds == (IGNORED, IGNORED, FALSE)
    assert found.hit_by.tolist() == [MISSED] and np.isnan(found.scores).all()


def test_in_a_finding_and_in_an_excluded_one_is_a_hit() -> None:
    found = match_detections([detection(4, 0.9)], [finding(0), finding(6, excluded=True)])
    assert found.kinds == (HIT,)


def test_in_two_findings_hits_both() -> None:
    found = match_detections([detection(4, 0.9)], [finding(0), finding(8)])
    assert found.hit_by.tolist() == [0, 0] and found.kinds == (HIT,)


@pytest.mark.parametrize("detections", [[], np.zeros((0, 5))])
def test_nothing_is_found_or_nothing_is_there(detections: object) -> None:
    assert match_detections(detections, [finding(0)]).hit_by.tolist() == [MISSED]
    assert match_detections(detections, []).kinds == ()
    assert match_detections([detection(0, 0.5)], np.full((3, 5), np.nan)).kinds == (FALSE,)


@pytest.mark.parametrize(
    ("detections", "findings", "message"),
    [
        ([[0, 0, 0, 0.5]], [], r"detections have the shape \(1, 4\)"),
        ([], [[0, 0, 0, 1]], r"findings have the shape \(1, 4\)"),
        ([[0, 0, 0, 5, np.nan]], [], "not finite"),
    ],
)
def test_malformed_tables_are_refused(detections: object, findings: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        match_detections(detections, findings)


def test_records_say_what_was_found_and_how_far_away() -> None:
    known, there = [finding(0), finding(20, excluded=True), finding(50, 4.0)], [detection(3, 0.25)]
    found, missed = detection_records(match_detections(there, known), known, there)
    assert found == dict(zip(RECORD_COLUMNS, (1, 0.0, 0.0, 0.0, 10.0, True, 0.25, 3.0), strict=True))
    assert (missed["finding"], missed["x"], missed["found"]) == (2, 50.0, False)
    assert np.isnan([missed["probability"], missed["distance_mm"]]).all()


# The curve


def two_scans() -> list[Matched]:
    """Three findings; in order of probability: hit .9, false .8, hit .7, false .6; one finding is missed."""
    first = match_detections([detection(0, 0.9), detection(90, 0.8)], [finding(0), finding(30)])
    second = match_detections([detection(0, 0.7), detection(90, 0.6)], [finding(0)])
    return [first, second]


def test_a_curve_by_hand() -> None:
    curve = froc(two_scans())
    np.testing.assert_allclose(curve.false_positives, [0, 0, 0.5, 0.5, 1.0])
    np.testing.assert_allclose(curve.sensitivity, [0, 1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert curve.thresholds.tolist() == [np.inf, 0.9, 0.8, 0.7, 0.6]
    # flat at 1/3 below half a false positive a scan; there the vertical step counts in full; flat from 1 on
    np.testing.assert_allclose(curve.at(), [1 / 3, 1 / 3, 2 / 3, 2 / 3, 2 / 3, 2 / 3, 2 / 3])
    assert curve.cpm == pytest.approx((2 / 3 + 5 * 2 / 3) / 7)


def test_between_two_points_sensitivity_is_interpolated_linearly() -> None:
    # one scan, hit .5 and two false .5 enter together: a slope from (0, 0) to (2, 1)
    scan = match_detections([detection(0, 0.5), detection(50, 0.5), detection(90, 0.5)], [finding(0)])
    np.testing.assert_allclose(froc([scan]).at(), [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 1, 1])


def test_the_order_of_equal_probabilities_does_not_matter() -> None:
    there, known = [detection(0, 0.5), detection(50, 0.5), detection(60, 0.5)], [finding(0)]
    curves = [froc([match_detections([there[i] for i in order], known)]) for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2])]
    assert len({(*curve.false_positives, *curve.sensitivity) for curve in curves}) == 1


def test_without_false_positives_every_rate_has_the_whole_sensitivity() -> None:
    scan = match_detections([detection(0, 0.5)], [finding(0), finding(30)])
    np.testing.assert_allclose(froc([scan]).at(), 0.5)


def test_without_detections_sensitivity_is_nothing() -> None:
    assert froc([match_detections([], [finding(0)])]).cpm == 0.0


def test_with_false_positives_only_sensitivity_is_nothing() -> None:
    assert froc([match_detections([detection(50, 0.5)], [finding(0)])]).cpm == 0.0


def test_without_findings_sensitivity_is_undefined() -> None:
    curve = froc([match_detections([detection(0, 0.5)], [])])
    assert np.isnan(curve.cpm) and curve.false_positives.tolist() == [0, 1]


def test_a_scan_without_findings_counts_for_the_false_positives() -> None:
    hit = match_detections([detection(0, 0.9)], [finding(0)])
    false = match_detections([detection(0, 0.95)], [])
    assert froc([hit, false]).at([0.25, 0.5]).tolist() == [0.0, 1.0]
    assert froc([hit, false, match_detections([], []), match_detections([], [])]).at([0.25]).tolist() == [1.0]


def test_no_scan_at_all_is_refused() -> None:
    with pytest.raises(DataError, match="no scan"):
        froc([])
    with pytest.raises(DataError, match="no scan"):
        detection_metrics([], [])


# Against a plain reading of the rules


def plainly(scans: list[tuple[np.ndarray, np.ndarray]], rate: float) -> float:
    """LUNA16's rules word for word: all thresholds one after the other, loops over findings, a line between points."""
    every = sorted({row[4] for detections, _ in scans for row in detections}, reverse=True)
    total = sum(1 for _, findings in scans for row in findings if not row[4])
    points = [(0.0, 0.0)]
    for threshold in every:
        hits = false = 0
        for detections, findings in scans:
            chosen = [row for row in detections if row[4] >= threshold]
            for one in findings:
                near = [row for row in chosen if sum((row[:3] - one[:3]) ** 2) ** 0.5 < one[3] / 2]
                hits += bool(near) and not one[4]
            for row in chosen:
                false += not any(sum((row[:3] - one[:3]) ** 2) ** 0.5 < one[3] / 2 for one in findings)
        points.append((false / len(scans), hits / total))
    below = [point for point in points if point[0] <= rate][-1]
    above = [point for point in points if point[0] > rate]
    if not above:
        return below[1]
    share = (rate - below[0]) / (above[0][0] - below[0])
    return below[1] + share * (above[0][1] - below[1])


coordinates = st.integers(-12, 12).map(float)
probabilities = st.sampled_from([0.1, 0.25, 0.5, 0.75, 0.9])
rows = st.lists(st.tuples(coordinates, coordinates, coordinates, st.just(5.0), probabilities), max_size=6)
truths = st.lists(
    st.tuples(coordinates, coordinates, coordinates, st.sampled_from([4.0, 9.0, 14.0]), st.integers(0, 1)), max_size=4
)


@settings(max_examples=150, deadline=None)
@given(scans=st.lists(st.tuples(rows, truths), min_size=1, max_size=4), rate=st.sampled_from([*RATES, 0.3, 0.7, 1.5]))
def test_the_curve_is_what_a_plain_reading_of_the_rules_gives(scans: list, rate: float) -> None:
    tables = [(np.array(d).reshape(-1, 5), np.array(f).reshape(-1, 5)) for d, f in scans]
    curve = froc([match_detections(*tables_of_one) for tables_of_one in tables])
    if not any(not row[4] for _, findings in tables for row in findings):
        assert np.isnan(curve.at([rate])).all()
        return
    np.testing.assert_allclose(curve.at([rate]), [plainly(tables, rate)], atol=1e-12)


# Intervals


def test_figures_come_with_intervals_over_patients() -> None:
    rng = np.random.default_rng(0)
    scans = []
    for _ in range(30):
        hits = [detection(100.0 * n + rng.normal(), rng.uniform(0.4, 1)) for n in range(3) if rng.random() < 0.8]
        false = [detection(-200.0 - 50 * n, rng.uniform(0, 0.8)) for n in range(rng.integers(0, 4))]
        scans.append(match_detections(hits + false, [finding(0), finding(100), finding(200)]))
    found = detection_metrics(scans, list(range(30)), n_boot=200)
    assert next(iter(found)) == "cpm" and "sensitivity_at_0.125" in found and "sensitivity_at_8" in found
    assert found["cpm"].value == pytest.approx(froc(scans).cpm)
    assert found["cpm"].low < found["cpm"].value < found["cpm"].high
    assert found["sensitivity"].n == 30 and found["sensitivity"].low > 0.6
    again = detection_metrics(scans, list(range(30)), n_boot=200)
    assert again == found, "the same seed gives the same interval"
    wide = detection_metrics(scans, [n // 5 for n in range(30)], n_boot=200)["cpm"]
    assert wide.n == 6 and "only 6 patients" in wide.note


def test_the_weight_of_a_scan_is_that_of_listing_it_again() -> None:
    first, second = two_scans()
    from medresnet3d.metrics.detection import _events

    weighted = _events([first, second]).curve(np.array([3.0, 1.0]))
    listed = froc([first, first, first, second])
    np.testing.assert_allclose(weighted.at(), listed.at())


def test_undefined_where_no_scan_has_a_finding() -> None:
    found = detection_metrics([match_detections([detection(0, 0.5)], [])] * 4, list("abcd"), n_boot=20)
    assert np.isnan(found["cpm"].value) and found["false_positives_per_scan"].value == 1.0
