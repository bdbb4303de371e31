from __future__ import annotations

import numpy as np
import pytest
import torch
from ignite.engine import Engine

from medresnet3d.metrics import DetectionScore

HIT, FALSE = [0.0, 0.0, 0.0, 5.0, 0.9], [50.0, 0.0, 0.0, 5.0, 0.95]
FINDINGS = torch.tensor([[0.0, 0.0, 0.0, 10.0, 0.0], [torch.nan] * 5])


def scored(scans: list[list[list[float]]], **options: object) -> float:
    """Run an engine over scans, two a batch."""
    metric = DetectionScore(**options)
    engine = Engine(lambda _, batch: batch)
    metric.attach(engine, "score")
    tables = [torch.tensor(rows).reshape(-1, 5) for rows in scans]
    batches = [(tables[at : at + 2], [FINDINGS] * len(tables[at : at + 2])) for at in range(0, len(tables), 2)]
    engine.run(batches)
    return float(engine.state.metrics["score"])


def test_cpm_over_all_scans_of_all_batches() -> None:
    # three scans; the false positive is the most probable: nothing below 1/3 a scan, then two of three
    assert scored([[HIT, FALSE], [HIT], []]) == pytest.approx(5 / 7 * 2 / 3)


def test_the_sensitivity_at_one_rate() -> None:
    assert scored([[HIT, FALSE]], rates=[0.5]) == 0.0
    assert scored([[HIT, FALSE]], rates=[1.0]) == 1.0


def test_a_second_run_forgets_the_first() -> None:
    metric = DetectionScore()
    engine = Engine(lambda _, batch: batch)
    metric.attach(engine, "score")
    engine.run([([torch.zeros(0, 5)], [FINDINGS])])
    engine.run([([torch.tensor([HIT])], [FINDINGS])])
    assert engine.state.metrics["score"] == 1.0


def test_undefined_without_findings() -> None:
    metric = DetectionScore()
    metric.update(([torch.tensor([HIT])], [FINDINGS[1:]]))
    assert np.isnan(metric.compute())
