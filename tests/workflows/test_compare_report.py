from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medresnet3d.workflows.compare_grid import make_arms, parse_factors
from medresnet3d.workflows.compare_report import Setting, comparison_report
from medresnet3d.workflows.compare_summary import CellResult, summarise
from tests.workflows.test_compare_summary import result

SETTING = Setting(
    title="Comparison of activation",
    bundle="lung 0.1.0",
    data="cubes",
    budget="20 steps",
    training=197,
    validation=60,
    folds=None,
    learning_rates=(),
    shared_rate=True,
    notes=(),
    what={"bundle": "lung 0.1.0", "device": "cpu", "command": "medresnet3d compare lung"},
)
COURSE = [(1.0, 0.9, math.nan), (2.0, 0.7, 0.6), (3.0, 0.5, 0.7)]


@pytest.mark.parametrize("steps", [1, 2, 3, 20, 57])
def test_courses_of_any_length_are_drawn(tmp_path: Path, steps: int) -> None:
    factors = parse_factors(["activation=relu,elu"])
    course = [(step + 1.0, 1 / (step + 1), math.nan) for step in range(steps)]
    cells = [CellResult(arm, 0, None, "folder", result(0.5), course) for arm in make_arms(factors)]
    path = comparison_report(tmp_path / "report.html", SETTING, summarise(cells, factors), cells, factors)
    assert "training curves" in path.read_text()


def write(folder: Path, vary: list[str], seeds: int, broken: str = "", **changes: Any) -> str:
    """Write the report of made-up results; the later an arm, the better it is."""
    factors = parse_factors(vary)
    cells = []
    for i, arm in enumerate(make_arms(factors)):
        for seed in range(seeds):
            metric = None if arm.name == broken else 0.6 + 0.05 * i + 0.003 * seed**2 * (i + 1)
            cells.append(CellResult(arm, seed, None, "folder", result(metric), COURSE))
    setting = replace(SETTING, **changes)
    return comparison_report(folder / "report.html", setting, summarise(cells, factors), cells, factors).read_text()


def test_the_report_holds_figures_tables_and_method(tmp_path: Path) -> None:
    text = write(tmp_path, ["activation=relu,elu,prelu"], seeds=5)
    for wanted in ("Arms", "Courses", "Cost", "How this was measured", "What was run", "Every cell"):
        assert wanted in text
    assert text.count("<img") >= 2
    assert "Both factors" not in text and "Cells that failed" not in text
    assert "Evidence of being better than the baseline relu: elu, prelu." in text
    assert "https://" not in text


def test_two_factors_get_a_heat_map_and_a_table_each(tmp_path: Path) -> None:
    text = write(tmp_path, ["activation=relu,elu", "schedule=cosine,constant"], seeds=3)
    assert "Both factors" in text and "Factor: activation" in text and "Factor: schedule" in text


def test_failures_are_listed(tmp_path: Path) -> None:
    text = write(tmp_path, ["activation=relu,elu"], seeds=2, broken="elu")
    assert "Cells that failed" in text and "The training loss became nan." in text
    assert "2 failed" in text


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"seeds": 1}, "One seed an arm: nothing can be tested"),
        ({"seeds": 3}, "3 seeds an arm: only large differences"),
        ({"seeds": 5}, "the same 60 held-out cases"),
        ({"seeds": 5, "validation": 12}, "12 held-out cases are few"),
        ({"seeds": 5}, "trained with the same learning rate"),
        ({"seeds": 5, "notes": ["Mind the step."]}, "Mind the step."),
        ({"seeds": 5, "learning_rates": (0.1, 0.2)}, "chose its learning rate among 0.1, 0.2 on an inner split"),
        ({"seeds": 5, "folds": 5}, "holds out fold k modulo 5"),
    ],
)
def test_what_the_reader_must_know(tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
    assert sentence in write(tmp_path, ["activation=relu,elu"], **options)


def test_what_does_not_apply_is_not_said(tmp_path: Path) -> None:
    text = write(tmp_path, ["activation=relu,elu"], seeds=5, folds=5, shared_rate=False)
    for absent in ("held-out cases: intervals", "the same learning rate", "seeds an arm", "are few"):
        assert absent not in text
