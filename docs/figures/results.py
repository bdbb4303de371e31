"""Figures and tables of ``docs/results``, from the numbers that lie there."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

from medresnet3d.metrics.estimate import NO_VALUE
from medresnet3d.metrics.paired import mean_interval
from medresnet3d.reports.comparison_figures import arms_plot, lines_plot
from medresnet3d.reports.html import figure_bytes
from medresnet3d.workflows.compare_presets import SURVEY, presets

NUMBERS = Path(__file__).parents[1] / "results"
AXES_HEAD = "| rule | robustness | at rate | steps to leave the saddle | steps down the valley | at rate |"
ARMS_HEAD = "| part | {} | 95% interval | difference | p (Holm) | verdict | steps | ms a step |"


def read(path: Path) -> list[dict[str, str]]:
    """Read a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def shown(text: str, digits: int = 3) -> str:
    """Give a number of a table as a person reads it."""
    return f"{float(text):.{digits}f}" if text else NO_VALUE


def arm_line(row: dict[str, str]) -> str:
    """Give an arm as a row of a table."""
    interval = f"{shown(row['low'])} to {shown(row['high'])}" if row["low"] else NO_VALUE
    speed = f"{1000 * float(row['step_seconds']):.0f}" if row["step_seconds"] else NO_VALUE
    cells = [row["arm"], shown(row["mean"]), interval, shown(row["difference"]), shown(row["p_holm"]), row["verdict"]]
    return "| " + " | ".join([*cells, shown(row["steps"], 0), speed]) + " |"


def comparison(name: str, folder: Path) -> str:
    """Draw a comparison and give its part of the page."""
    summary = read(NUMBERS / f"{name}_summary.csv")
    values: dict[str, list[float]] = {row["arm"]: [] for row in summary}
    for cell in read(NUMBERS / f"{name}_results.csv"):
        values[cell["arm"]].append(float(cell["metric"]) if cell["metric"] else math.nan)
    metric, title = summary[0]["metric"], presets()[name]["title"]
    figure = arms_plot(list(values), list(values.values()), [mean_interval(own) for own in values.values()], metric)
    (folder / f"results_{name}.svg").write_bytes(figure_bytes(figure))
    table = [ARMS_HEAD.format(metric), "|---|---:|---:|---:|---:|---|---:|---:|", *map(arm_line, summary)]
    picture = f"![{title}: {metric} of each part](../_figures/results_{name}.svg)"
    return "\n\n".join([f"## {title}", picture, "\n".join(table), *presets()[name].get("notes", [])])


def setting(name: str) -> str:
    """Say how a comparison was made."""
    made = json.loads((NUMBERS / "setting.json").read_text(encoding="utf-8"))
    one, machine = made["comparisons"][name], made["machine"]
    versions = one["versions"]
    return (
        f"Bundle `{one['bundle']}` on `{one['data']}`, {one['seeds']} seeds, {one['budget']} a cell, on "
        f"{machine['cores']} cores ({machine['processor']}); medresnet3d {versions['medresnet3d']}, "
        f"torch {versions['torch']}, MONAI {versions['monai']}."
    )


def axes(folder: Path) -> str:
    """Draw the effective rates and give the table of the other axes."""
    rates = read(NUMBERS / "effective_rate.csv")
    steps = [int(row.pop("step")) for row in rates]
    lines = {rule: (steps, [float(row[rule]) for row in rates]) for rule in rates[0]}
    figure = lines_plot(lines, "step", "effective rate", log=True)
    (folder / "results_effective_rate.svg").write_bytes(figure_bytes(figure))
    table = [AXES_HEAD, "|---|---:|---:|---:|---:|---:|"]
    for row in read(NUMBERS / "axes.csv"):
        cells = [row["rule"], f"{100 * float(row['robustness']):.0f}%", row["robustness_rate"]]
        cells += [row[name] or NO_VALUE for name in ("saddle_steps", "speed_steps", "speed_rate")]
        table.append("| " + " | ".join(cells) + " |")
    return "\n".join(table)


def draw(folder: Path) -> None:
    """Draw the figures and write the tables that ``docs/results/index.md`` includes."""
    (folder / "results_axes.md").write_text(axes(folder) + "\n", encoding="utf-8")
    measured = [name for name in presets() if (NUMBERS / f"{name}_summary.csv").is_file()]
    survey = [name for name in measured if name.startswith(SURVEY)]
    for page, names in (("survey", survey), ("networks", [name for name in measured if name not in survey])):
        parts = [comparison(name, folder) for name in names]
        text = "\n\n".join([setting(names[0]), *parts] if names else [])
        (folder / f"results_{page}.md").write_text(text + "\n", encoding="utf-8")
