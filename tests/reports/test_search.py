from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medresnet3d.reports.search import SearchAxis, SearchTrial, search_report
from tests.reports.devtools import CHROMIUM, Browser

AXES = [
    SearchAxis("learning_rate", "0.0001 to 1, logarithmic", True, (), 1e-4, 1.0),
    SearchAxis("features", "2 to 8", False, (), 2, 8),
    SearchAxis("loss", "one of ce, focal", False, ("ce", "focal with a long name")),
]


def trials(count: int = 12) -> list[SearchTrial]:
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        values = {
            "learning_rate": float(10 ** rng.uniform(-4, 0)),
            "features": int(rng.integers(2, 9)),
            "loss": AXES[2].labels[number % 2],
        }
        curve = {epoch: float(0.5 + 0.03 * number * epoch / 4) for epoch in range(1, 5 if number % 4 else 3)}
        state = "complete" if number % 4 else "pruned"
        found.append(SearchTrial(number, state, curve[max(curve)], values, curve, 3.0, max(curve)))
    found[1] = SearchTrial(1, "failed", None, found[1].values, {}, 1.0, None, "The loss became <nan>.")
    found[2] = SearchTrial(2, "complete", found[3].value, found[3].values, {}, 0.0, 4, "", 3)
    return found


def write(folder: Path, content: list[SearchTrial], **options: Any) -> str:
    values: dict[str, Any] = {
        "trials": content,
        "axes": AXES,
        "metric": "auc",
        "maximise": True,
        "best": 11 if len(content) > 11 else None,
        "planned": 12,
        "importance": {"learning_rate": 0.7, "features": 0.2, "loss": 0.1},
        "train_command": "medresnet3d train toy --set learning_rate=0.01",
        "evaluate_command": "medresnet3d evaluate out/trials/0011 --section test",
        "has_test": True,
        "what": {"bundle": "toy", "data set": "cubes", "method": "pso", "command": "medresnet3d search toy"},
    }
    return search_report(folder / "report.html", **values | options).read_text()


def test_the_report_tells_what_was_found_and_that_it_flatters(tmp_path: Path) -> None:
    page = write(tmp_path, trials())
    assert "it flatters; more trials flatter more" in page
    assert "chosen on the validation cases, as the best of 8 complete trials" in page
    assert "medresnet3d evaluate out/trials/0011 --section test" in page
    assert "measures it on the test cases of the manifest" in page
    assert "medresnet3d train toy --set learning_rate=0.01" in page
    assert "1 trial failed; the table says why" in page
    assert "The loss became &lt;nan&gt;." in page
    assert "as trial 3" in page
    assert "PED-ANOVA" in page
    assert page.count("<figure") == 2 + 3 + 1  # history and curves, a slice for each id, parallel coordinates


def test_an_unfinished_search_says_so_and_has_no_best(tmp_path: Path) -> None:
    page = write(tmp_path, [SearchTrial(0, "running", None, {})], importance={}, has_test=False)
    assert "No trial has come to a value yet." in page
    assert "12 of 12 trials are still to be done" in page
    assert "<figure" not in page
    assert "this one lists none" not in page
    assert "(this one lists none)" in write(tmp_path, trials(), has_test=False)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_and_fetches_nothing(width: int, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    write(tmp_path, trials())
    with Browser(tmp_path / "profile") as browser:
        browser.open(page, width, 900, phone=width < 500)
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.evaluate("document.images.length") > 5
        assert browser.evaluate("[...document.images].filter(i => !i.naturalWidth && i.closest('figure')).length") == 0
        assert browser.requests == [] and browser.problems == []
