from __future__ import annotations

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from sklearn.metrics import cohen_kappa_score

from medresnet3d.metrics import QuadraticKappa


def test_kappa_over_all_cases_of_all_batches_and_a_second_run_forgets_the_first() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, 40)
    answer = np.clip(truth + rng.integers(-1, 3, 40), 0, 4)
    eye = torch.eye(5)
    batches = [(list(eye[answer[at : at + 8]] * 0.6 + 0.1), list(eye[truth[at : at + 8]])) for at in range(0, 40, 8)]
    metric = QuadraticKappa(5)
    engine = Engine(lambda _, batch: batch)
    metric.attach(engine, "kappa")
    for _ in range(2):
        engine.run(batches)
        expected = cohen_kappa_score(truth, answer, weights="quadratic")
        assert engine.state.metrics["kappa"] == pytest.approx(expected)


def test_nothing_is_said_where_all_is_one_class() -> None:
    metric = QuadraticKappa(3)
    metric.update(([torch.eye(3)[1]] * 4, [torch.eye(3)[1]] * 4))
    assert metric.compute() == 0.0
