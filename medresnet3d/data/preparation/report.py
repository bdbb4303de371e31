"""What was prepared and what was left out, as numbers and as a table."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from statistics import median
from typing import Any

from medresnet3d.data.preparation.cohort import Cohort, Dropped

WIDTH = 120
"""Columns of the tables where they are not shown on a terminal."""


@dataclass(frozen=True)
class Report:
    """What :func:`medresnet3d.data.preparation.prepare.prepare` made of a folder.

    Args:
        title: of the data set and task.
        group_kind: what is never torn apart.
        sections: by section: ``entries``, ``groups``, and ``per_group`` (fewest, median, most entries of one group).
        classes: entries of each class by section; numbers of boxes for detection; empty otherwise.
        groups: groups of each class by section; empty where there are no classes.
        dropped: by reason.
        warnings: sentences.
    """

    title: str
    group_kind: str
    sections: dict[str, dict[str, Any]]
    classes: dict[str, dict[str, int]]
    groups: dict[str, dict[str, int]]
    dropped: dict[str, Dropped]
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Give the numbers as plain values, as they are kept in the manifest."""
        return {
            "counts": {
                section: {
                    **sizes,
                    "classes": self.classes.get(section, {}),
                    "class_groups": self.groups.get(section, {}),
                }
                for section, sizes in self.sections.items()
            },
            "dropped": {reason: dropped.count for reason, dropped in self.dropped.items()},
            "warnings": list(self.warnings),
        }


def make_report(cohort: Cohort, sections: dict[str, list[dict[str, Any]]]) -> Report:
    """Count what is in the sections and what was dropped on the way."""
    return Report(
        title=f"{cohort.card.title}, {cohort.task.name}",
        group_kind=cohort.group_kind,
        sections={section: _sizes(entries) for section, entries in sections.items()},
        classes={section: _by_class(cohort, entries) for section, entries in sections.items()},
        groups={section: _groups_by_class(cohort, entries) for section, entries in sections.items()},
        dropped=dict(cohort.dropped),
        warnings=tuple(cohort.warnings),
    )


def _sizes(entries: list[dict[str, Any]]) -> dict[str, Any]:
    counts = sorted(Counter(entry["patient"] for entry in entries).values())
    return {"entries": len(entries), "groups": len(counts), "per_group": [counts[0], median(counts), counts[-1]]}


def _labels(entry: dict[str, Any]) -> list[str]:
    label = entry.get("label")
    return label if isinstance(label, list) else [label] if isinstance(label, str) else []


def _by_class(cohort: Cohort, entries: list[dict[str, Any]]) -> dict[str, int]:
    if cohort.task.kind not in ("classification", "detection"):
        return {}
    counts = Counter(label for entry in entries for label in _labels(entry))
    return {label: counts[label] for label in cohort.labels}


def _groups_by_class(cohort: Cohort, entries: list[dict[str, Any]]) -> dict[str, int]:
    if cohort.task.kind not in ("classification", "detection"):
        return {}
    pairs = {(label, entry["patient"]) for entry in entries for label in _labels(entry)}
    counts = Counter(label for label, _ in pairs)
    return {label: counts[label] for label in cohort.labels}


def print_report(report: Report) -> None:
    """Print the report as tables on standard output."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    group = report.group_kind
    groups = group if group.endswith("s") else f"{group}s"
    table = Table("section", "entries", groups)
    table.add_column(f"per {group}", no_wrap=True)
    for name in ("class", "entries", groups):
        table.add_column(name)
    for section, sizes in report.sections.items():
        low, middle, high = sizes["per_group"]
        row = [section, str(sizes["entries"]), str(sizes["groups"]), f"{low} to {high}, median {middle:g}"]
        for label, count in report.classes[section].items() or [("", "")]:
            table.add_row(*row, escape(label), str(count), str(report.groups[section].get(label, "")))
            row = ["", "", "", ""]
    console.print(escape(report.title), highlight=False)
    console.print(table)
    for line in (*_dropped_lines(report), *(f"note: {text}" for text in report.warnings)):
        console.print(escape(line), soft_wrap=True, highlight=False)


def _dropped_lines(report: Report) -> list[str]:
    if not report.dropped:
        return ["dropped: nothing"]
    lines = []
    for reason, dropped in report.dropped.items():
        shown = ", ".join(dropped.examples)
        more = ", …" if dropped.count > len(dropped.examples) else ""
        lines.append(f"dropped: {dropped.count} {reason}" + (f" ({shown}{more})" if shown else ""))
    return lines
