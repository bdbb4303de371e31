"""Figures of the confusion matrix while a network trains."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score

from medresnet3d.engines.metric_state import load_metric_states, metric_states
from medresnet3d.metrics import MeanClassAccuracy, QuadraticKappa, TreeDistance
from medresnet3d.metrics.confusion import ConfusionFigure


def measured(metric: ConfusionFigure, answers: list[int], truths: list[int]) -> float:
    """Run an engine over cases, three a batch, twice: a second run forgets the first."""
    engine = Engine(lambda _, batch: batch)
    metric.attach(engine, "figure")
    eye = torch.eye(metric.num_classes)
    batches = [
        ([0.3 * eye[k] for k in answers[at : at + 3]], [eye[k] for k in truths[at : at + 3]])
        for at in range(0, len(truths), 3)
    ]
    engine.run(batches)
    engine.run(batches)
    return float(engine.state.metrics["figure"])


def test_mean_class_accuracy_is_scikit_learns() -> None:
    truths, answers = [0, 0, 0, 0, 1, 3, 3], [0, 0, 0, 1, 1, 0, 3]
    found = measured(MeanClassAccuracy(4), answers, truths)
    assert found == pytest.approx(balanced_accuracy_score(truths, answers)) == pytest.approx((0.75 + 1 + 0.5) / 3)


def test_quadratic_kappa_is_scikit_learns_and_says_nothing_of_a_single_class() -> None:
    truths, answers = [0, 1, 2, 3, 4, 4, 2, 0], [0, 2, 2, 4, 2, 4, 1, 1]
    expected = cohen_kappa_score(truths, answers, weights="quadratic")
    assert measured(QuadraticKappa(5), answers, truths) == pytest.approx(expected)
    assert measured(QuadraticKappa(3), [1, 1], [1, 1]) == 0


def test_a_mistake_within_the_group_is_half_as_far() -> None:
    groups = [0, 0, 1, 2]
    assert measured(TreeDistance(groups), [0, 1, 2, 3], [0, 1, 2, 3]) == 0
    assert measured(TreeDistance(groups), [1, 0], [0, 1]) == 1
    assert measured(TreeDistance(groups), [2, 3, 0, 1], [0, 2, 0, 0]) == pytest.approx((2 + 2 + 0 + 1) / 4)


def test_a_run_that_is_resumed_goes_on_counting() -> None:
    metric, resumed, eye = MeanClassAccuracy(2), MeanClassAccuracy(2), torch.eye(2)
    metric.update(([eye[0]], [eye[0]]))
    load_metric_states({"figure": resumed}, metric_states({"figure": metric}))
    resumed.update(([eye[0]], [eye[1]]))
    assert resumed.compute() == 0.5
