from __future__ import annotations

import pytest

from medresnet3d.errors import ConfigError
from medresnet3d.workflows.budget import Budget, parse_budget


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("120s", Budget(120, "seconds")),
        ("2m", Budget(120, "seconds")),
        ("1.5 min", Budget(90, "seconds")),
        ("300steps", Budget(300, "steps")),
        ("1 step", Budget(1, "steps")),
    ],
)
def test_budgets(text: str, budget: Budget) -> None:
    assert parse_budget(text) == budget
    assert parse_budget(budget) == budget


@pytest.mark.parametrize("text", ["120", "0s", "-3s", "1.5steps", "3 parsecs", ""])
def test_budgets_that_mean_nothing(text: str) -> None:
    with pytest.raises(ConfigError, match=r"write seconds \(120s, 2m\) or steps"):
        parse_budget(text)


def test_epochs_where_they_are_possible() -> None:
    units = ("seconds", "steps", "epochs")
    assert parse_budget("3epochs", units) == Budget(3, "epochs")
    assert str(parse_budget("1 epoch", units)) == "1 epoch"
    assert parse_budget("2h", units) == Budget(7200, "seconds")
    with pytest.raises(ConfigError, match=r"write seconds .* or steps .* or epochs"):
        parse_budget("3 days", units)
    with pytest.raises(ConfigError, match="means nothing"):
        parse_budget("3epochs")
