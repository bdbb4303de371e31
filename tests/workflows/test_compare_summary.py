from __future__ import annotations

import math
from typing import Any

import pytest

from medresnet3d.workflows.compare_grid import make_arms, parse_factors
from medresnet3d.workflows.compare_report import conclusion
from medresnet3d.workflows.compare_summary import CellResult, Summary, summarise
from medresnet3d.workflows.compare_tables import arm_rows, cell_rows


def result(metric: float | None, smaller_is_better: bool = False) -> dict[str, Any]:
    if metric is None:
        return {"error": "The training loss became nan."}
    return {
        "metric": metric,
        "metric_name": "auc",
        "smaller_is_better": smaller_is_better,
        "metrics": {"auc": metric},
        "steps": 10,
        "train_loss": 0.5,
        "training_seconds": 2.0,
        "step_seconds": 0.2,
        "step_memory_mb": 30.0,
    }


def make(vary: list[str], values: dict[str, list[float | None]], **options: bool) -> Summary:
    """Summarise a comparison with these metrics, by arm and seed."""
    factors = parse_factors(vary)
    cells = [
        CellResult(arm, seed, None, f"{arm.name}{seed}", result(metric, **options))
        for arm in make_arms(factors)
        for seed, metric in enumerate(values[arm.name])
    ]
    return summarise(cells, factors)


RELU = [0.70, 0.72, 0.71, 0.69, 0.70]


def test_a_better_a_worse_an_equal_and_a_broken_arm() -> None:
    values: dict[str, list[float | None]] = {
        "relu": [*RELU],
        "elu": [0.80, 0.83, 0.81, 0.79, 0.81],
        "tanh": [0.50, 0.53, 0.52, 0.49, 0.51],
        "prelu": [0.72, 0.69, 0.72, 0.70, 0.68],
        "sigmoid": [None] * 5,
    }
    summary = make([f"activation={','.join(values)}"], values)
    verdicts = {arm.name: arm.verdict for arm in summary.arms}
    assert verdicts == {
        "relu": "baseline",
        "elu": "better",
        "tanh": "worse",
        "prelu": "no evidence of a difference",
        "sigmoid": "not tested",
    }
    assert [arm.name for arm in summary.ranked] == ["elu", "relu", "prelu", "tanh"]
    assert summary.arms[4].failed == 5
    text = conclusion(summary)
    assert "Highest mean auc: elu, 0.808" in text and "The worst: tanh" in text
    assert "better than the baseline relu: elu." in text and "worse than the baseline relu: tanh." in text
    assert "No evidence of a difference: prelu." in text
    assert "fewer than two pairs of runs have a result: sigmoid" in text


def test_an_error_metric_is_better_when_it_is_smaller() -> None:
    values: dict[str, list[float | None]] = {
        "relu": [*RELU],
        "elu": [value - 0.1 + 0.001 * i for i, value in enumerate(RELU)],
    }
    assert make(["activation=relu,elu"], values).arms[1].verdict == "worse"
    reverse = make(["activation=relu,elu"], values, smaller_is_better=True)
    assert reverse.arms[1].verdict == "better"
    assert reverse.ranked[0].name == "elu"
    assert conclusion(reverse).startswith("Lowest mean auc: elu")


def test_the_same_values_are_noticed() -> None:
    arm = make(["activation=relu,elu"], {"relu": [*RELU], "elu": [*RELU]}).arms[1]
    assert arm.same and arm.p_holm == 1 and arm.verdict == "no evidence of a difference"


def test_one_seed_can_test_nothing() -> None:
    summary = make(["activation=relu,elu"], {"relu": [0.5], "elu": [0.9]})
    assert summary.arms[1].verdict == "not tested"
    assert "Not tested" in conclusion(summary)


def test_everything_failed() -> None:
    summary = make(["activation=relu,elu"], {"relu": [None], "elu": [None]})
    assert summary.ranked == []
    assert conclusion(summary) == "No cell came to a result, so there is nothing to compare."
    half = make(["activation=relu,elu"], {"relu": [None], "elu": [0.5]})
    assert conclusion(half) == "The baseline relu came to no result, so nothing can be compared with it."


def test_factors_are_averaged_over_the_other_factors_seed_by_seed() -> None:
    values: dict[str, list[float | None]] = {
        "relu, cosine": [0.60, 0.62, 0.61, 0.60],
        "relu, constant": [0.50, 0.52, 0.51, 0.50],
        "elu, cosine": [0.70, 0.73, 0.71, 0.70],
        "elu, constant": [0.60, 0.63, 0.61, 0.60],
    }
    summary = make(["activation=relu,elu", "schedule=cosine,constant"], values)
    relu, elu = summary.marginals["activation"]
    assert (relu.verdict, elu.verdict) == ("baseline", "better")
    assert relu.values == pytest.approx([0.55, 0.57, 0.56, 0.55])
    assert summary.marginals["schedule"][1].test is not None
    assert summary.marginals["schedule"][1].test.difference.value == pytest.approx(-0.1)


def test_a_level_that_failed_throughout_takes_no_other_down() -> None:
    values: dict[str, list[float | None]] = {
        "relu, cosine": [0.6, 0.7],
        "relu, constant": [0.5, 0.6],
        "elu, cosine": [None, None],
        "elu, constant": [None, None],
    }
    summary = make(["activation=relu,elu", "schedule=cosine,constant"], values)
    constant = summary.marginals["schedule"][1]
    assert constant.values == pytest.approx([0.5, 0.6])  # over relu alone, which has both schedules
    relu, elu = summary.marginals["activation"]
    assert relu.values == pytest.approx([0.55, 0.65])
    assert elu.verdict == "not tested"


def test_tables_have_a_row_for_each_cell_and_each_arm() -> None:
    factors = parse_factors(["activation=relu,elu"])
    arms = make_arms(factors)
    cells = [CellResult(arm, 0, 2, "folder", result(None if arm.name == "elu" else 0.5)) for arm in arms]
    first, second = cell_rows(cells)
    assert (first["status"], first["val_auc"], first["fold"], first["activation"]) == ("finished", 0.5, 2, "relu")
    assert second["status"] == "failed" and "nan" in second["error"] and math.isnan(second["metric"])
    baseline, other = arm_rows(summarise(cells, factors))
    assert baseline["verdict"] == "baseline" and baseline["mean"] == 0.5 and "p" not in baseline
    assert other["failed"] == 1 and other["verdict"] == "not tested"
