from __future__ import annotations

import csv
from pathlib import Path

import pytest

from medresnet3d.optimizers.axes import AxesResult
from medresnet3d.workflows import optimiser_axes


def measured(rule: str) -> AxesResult:
    """A result as measure gives it, in no time."""
    fast = rule == "adam"
    return AxesResult(rule, 0.5, 0.1, 77, 74 if fast else None, 1.0, [0.01] * 200 + [0.02] * 200)


def test_tables_figure_and_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimiser_axes, "measure", measured)
    page = optimiser_axes.measure_axes(tmp_path)
    with (tmp_path / "axes.csv").open(newline="") as file:
        rows = {row["rule"]: row for row in csv.DictReader(file)}
    assert len(rows) == 7
    assert (rows["adam"]["saddle_steps"], rows["adam"]["speed_steps"]) == ("77", "74")
    assert (rows["gd"]["speed_steps"], rows["gd"]["speed_rate"]) == ("", "")  # not within the limit
    assert (float(rows["gd"]["rate_before_calm"]), float(rows["gd"]["rate_end"])) == (0.01, 0.02)
    with (tmp_path / "effective_rate.csv").open(newline="") as file:
        steps = list(csv.DictReader(file))
    assert len(steps) == 400 and steps[-1]["step"] == "400" and steps[-1]["adam"] == "0.02"
    assert b"<svg" in (tmp_path / "effective_rate.svg").read_bytes()
    assert "Rosenbrock" in page.read_text()
