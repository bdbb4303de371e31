"""``results.csv`` (a row a cell) and ``summary.csv`` (a row an arm) of a comparison."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medresnet3d.io.atomic import atomic_write_text
from medresnet3d.workflows.compare_summary import CellResult, Summary

_FIGURES = [
    *("metric", "train_loss", "steps", "training_seconds", "step_seconds", "step_memory_mb"),
    *("training_cases", "training_patients", "learning_rate"),
]


def write_table(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows as CSV, whole or not at all; columns are those of all rows, NaN is an empty cell."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    atomic_write_text(path, text.getvalue())


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return value


def cell_rows(cells: Sequence[CellResult]) -> list[dict[str, Any]]:
    """Give one row a cell."""
    return [
        {
            "arm": cell.arm.name,
            **cell.arm.levels,
            "seed": cell.seed,
            **({} if cell.fold is None else {"fold": cell.fold}),
            "status": "failed" if cell.error else "finished",
            **{name: cell.figure(name) for name in _FIGURES if name != "learning_rate" or name in cell.result},
            **{
                f"val_{name}": float(value)
                for name, value in (cell.result.get("metrics") or {}).items()
                if value is not None
            },
            "error": cell.error,
            "folder": cell.folder,
        }
        for cell in cells
    ]


def arm_rows(summary: Summary) -> list[dict[str, Any]]:
    """Give one row an arm."""
    rows = []
    for arm in summary.arms:
        row = {
            "arm": arm.name,
            **arm.levels,
            "seeds": arm.mean.n,
            "failed": arm.failed,
            "metric": summary.metric,
            "mean": arm.mean.value,
            "low": arm.mean.low,
            "high": arm.mean.high,
        }
        if arm.test is not None:
            difference = arm.test.difference
            row |= {
                "difference": difference.value,
                "difference_low": difference.low,
                "difference_high": difference.high,
            }
            row |= {"p": arm.test.p, "p_holm": arm.p_holm}
        rows.append(row | {"verdict": arm.verdict, **arm.costs})
    return rows
