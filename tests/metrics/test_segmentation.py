import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from medresnet3d.errors import DataError
from medresnet3d.metrics import case_metrics, segmentation_summary, summary_notes
from medresnet3d.metrics.segmentation import PIXEL_METRICS, pixel_figures

LABELS = ["background", "one", "two"]


def _box(start: int, stop: int, label: int = 1) -> np.ndarray:
    volume = np.zeros((24, 20, 16), dtype=np.uint8)
    volume[start:stop, 5:15, 4:12] = label
    return volume


def test_a_shifted_box_has_the_known_figures() -> None:
    rows = case_metrics(_box(4, 12), _box(6, 14), (2.0, 1.0, 1.0), ["background", "box"], case="c", patient="p")
    (row,) = rows
    assert (row["case"], row["patient"], row["label"], row["structure"]) == ("c", "p", 1, "box")
    assert row["dice"] == pytest.approx(2 * 6 / 16)
    assert row["hd95_mm"] == pytest.approx(4.0)  # two voxels of 2 mm
    assert row["volume_ml"] == pytest.approx(8 * 10 * 8 * 2 / 1000)
    assert row["volume_difference_ml"] == 0.0 and row["volume_difference_percent"] == 0.0


def test_distances_count_millimetres_along_each_axis() -> None:
    one, two = _box(4, 12), _box(5, 13)
    for spacing in (0.5, 1.0, 3.0):
        (row,) = case_metrics(one, two, (spacing, 1.0, 1.0), ["", "box"])
        assert row["hd95_mm"] == pytest.approx(spacing)
    (narrow,) = case_metrics(one, two, (0.5, 1.0, 1.0), ["", "box"])
    (wide,) = case_metrics(one, two, (3.0, 1.0, 1.0), ["", "box"])
    assert narrow["surface_dice"] == pytest.approx(1.0)  # every shift of 0.5 mm is within the tolerance of 1 mm
    assert wide["surface_dice"] < 0.95
    (loose,) = case_metrics(one, two, (3.0, 1.0, 1.0), ["", "box"], tolerance_mm=3.0)
    assert loose["surface_dice"] == pytest.approx(1.0)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_dice_is_the_overlap(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, two = rng.integers(0, 3, size=(2, 7, 6, 5))
    for row in case_metrics(one, two, (1.0, 2.0, 0.5), LABELS):
        a, b = one == row["label"], two == row["label"]
        assert row["dice"] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
        assert row["volume_difference_ml"] == pytest.approx((a.sum() - b.sum()) / 1000)
        assert row["avd_percent"] == pytest.approx(100 * abs(int(a.sum()) - int(b.sum())) / b.sum())


def test_tensors_with_a_channel_are_taken_too() -> None:
    one, two = torch.as_tensor(_box(4, 12))[None], torch.as_tensor(_box(6, 14))[None]
    assert case_metrics(one, two, (1, 1, 1), {0: "background", 1: "box"})[0]["dice"] == pytest.approx(0.75)


def test_empty_structures_are_told_apart() -> None:
    empty = np.zeros((24, 20, 16), dtype=np.uint8)
    (absent,) = case_metrics(empty, empty, (1, 1, 1), ["", "box"])
    (missed,) = case_metrics(empty, _box(4, 12), (1, 1, 1), ["", "box"])
    (invented,) = case_metrics(_box(4, 12), empty, (1, 1, 1), ["", "box"])
    assert absent["note"] == "absent in both" and math.isnan(absent["dice"]) and math.isnan(absent["surface_dice"])
    assert missed["note"] == "missed" and missed["dice"] == 0.0 and math.isnan(missed["hd95_mm"])
    assert missed["volume_difference_percent"] == -100.0
    assert invented["note"] == "not in the truth" and invented["surface_dice"] == 0.0
    assert math.isnan(invented["volume_difference_percent"])


def test_too_large_and_too_small_do_not_cancel_out_in_the_avd() -> None:
    rows = [
        *case_metrics(_box(4, 14), _box(4, 12), (1, 1, 1), ["", "box"], case="large"),
        *case_metrics(_box(4, 10), _box(4, 12), (1, 1, 1), ["", "box"], case="small"),
    ]
    found = segmentation_summary(rows, n_boot=50)["box"]
    assert found["volume_difference_percent"].value == pytest.approx(0)
    assert found["avd_percent"].value == pytest.approx(25)
    assert math.isnan(case_metrics(_box(4, 12), 0 * _box(4, 12), (1, 1, 1), ["", "box"])[0]["avd_percent"])


def _rows() -> list[dict]:
    rows = []
    for number in range(12):
        pred, truth = _box(4, 12), _box(4 + number % 4, 12 + number % 4)
        pred[20:23, 5:10, 5:10] = truth[20:23, 5:10, 5:10] = 2
        if number == 0:
            pred[pred == 2] = 0
        rows += case_metrics(pred, truth, (1, 1, 1), LABELS, case=f"c{number}", patient=f"p{number // 2}")
    return rows


def test_summary_averages_cases_by_patient() -> None:
    rows = _rows()
    summary = segmentation_summary(rows, n_boot=300)
    dice = [row["dice"] for row in rows if row["structure"] == "one"]
    assert summary["one"]["dice"].value == pytest.approx(np.mean(dice))
    assert summary["two"]["dice"].value == pytest.approx(11 / 12)
    assert summary["mean"]["dice"].value == pytest.approx((np.mean(dice) + 11 / 12) / 2)
    assert summary["one"]["dice"].n == 6
    assert summary["one"]["dice"].low < summary["one"]["dice"].value < summary["one"]["dice"].high
    assert summary_notes(rows) == ["two: missed in 1 of 12 cases (Dice 0, no distance)."]


def test_absent_structures_are_not_counted() -> None:
    rows = [row | {"dice": math.nan, "note": "absent in both"} if row["case"] == "c1" else row for row in _rows()]
    counted = [row["dice"] for row in rows if row["structure"] == "one" and row["case"] != "c1"]
    assert segmentation_summary(rows, n_boot=50)["one"]["dice"].value == pytest.approx(np.mean(counted))
    assert "one: absent in 1 of 12 cases, which are not counted." in summary_notes(rows)


def test_one_structure_has_no_mean_of_structures() -> None:
    rows = case_metrics(_box(4, 12), _box(6, 14), (1, 1, 1), ["", "box"], case="a")
    summary = segmentation_summary(rows)
    assert list(summary) == ["box"]
    assert summary["box"]["dice"].note == "no interval: 1 patient"


def test_unusable_input_is_refused() -> None:
    with pytest.raises(DataError, match="differ in shape"):
        case_metrics(np.zeros((4, 4, 4)), np.zeros((4, 4, 5)), (1, 1, 1), LABELS)
    with pytest.raises(DataError, match="spacing"):
        case_metrics(np.zeros((4, 4, 4)), np.zeros((4, 4, 4)), (1, 0, 1), LABELS)
    with pytest.raises(DataError, match="no case"):
        segmentation_summary([])


def test_pixel_figures_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth, pred = rng.uniform(size=(2, 9, 11)) < 0.3
    found, pairs = pixel_figures(pred, truth), (truth.ravel(), pred.ravel())
    assert found["jaccard"] == pytest.approx(sk.jaccard_score(*pairs))
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(*pairs))
    assert found["sensitivity"] == pytest.approx(sk.recall_score(*pairs))
    assert found["specificity"] == pytest.approx(sk.recall_score(*pairs, pos_label=0))
    nothing = np.zeros_like(truth)
    undefined = pixel_figures(nothing, nothing)
    assert np.isnan(undefined["jaccard"]) and np.isnan(undefined["sensitivity"]) and undefined["specificity"] == 1


def test_pixel_figures_are_summarised_where_they_were_asked_for() -> None:
    maps = np.random.default_rng(1).integers(0, 2, (4, 6, 6, 1))
    rows = [
        row
        for case in range(3)
        for row in case_metrics(maps[case], maps[3], (1, 1, 1), ["no", "cell"], case=str(case), pixels=True)
    ]
    summary = segmentation_summary(rows, n_boot=20)["cell"]
    for name in PIXEL_METRICS:
        assert summary[name].value == pytest.approx(np.mean([row[name] for row in rows]))
