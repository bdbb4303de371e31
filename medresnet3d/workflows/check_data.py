"""Check a data set and show what was found."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medresnet3d.data.check import Finding, check_manifest, class_counts, usable_manifest
from medresnet3d.data.manifest import read_raw_manifest
from medresnet3d.errors import ExitCode

MAX_SHOWN_PER_KIND = 20


@dataclass(frozen=True)
class CheckResult:
    """What :func:`check_data` found.

    Args:
        path: the manifest.
        name: of the data set.
        task: of the data set.
        sections: number of entries and patients by section.
        classes: number of entries of each class by section; empty where there are none or the manifest is broken.
        findings: errors first.
    """

    path: Path
    name: str
    task: str
    sections: dict[str, dict[str, int]]
    classes: dict[str, dict[str, int]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def errors(self) -> int:
        """Number of findings that would spoil a training."""
        return sum(finding.level == "error" for finding in self.findings)

    @property
    def exit_code(self) -> ExitCode:
        """1 if something would spoil a training, else 0."""
        return ExitCode.SOME_FAILED if self.errors else ExitCode.OK

    def as_dict(self) -> dict[str, Any]:
        """Give everything as plain values."""
        return {
            "path": str(self.path),
            "name": self.name,
            "task": self.task,
            "sections": self.sections,
            "classes": self.classes,
            "errors": self.errors,
            "findings": [finding.as_dict() for finding in self.findings],
        }


def check_data(source: str | Path, *, deep: bool = False) -> CheckResult:
    """Look a manifest and its files through; see :func:`medresnet3d.data.check_manifest`.

    Args:
        source: the manifest, or its folder.
        deep: also read every image and label map.

    Raises:
        DataError: if the manifest itself cannot be read as JSON.
    """
    raw, path = read_raw_manifest(source)
    findings = check_manifest(source, deep=deep)
    name, task = str(raw.get("name", "")), str(raw.get("task", ""))
    manifest = usable_manifest(raw, path)
    if manifest is None:
        return CheckResult(path, name, task, {}, {}, findings)
    sections = {
        section: {
            "entries": len(entries),
            "patients": len({entry["patient"] for entry in entries if entry.get("patient")}),
        }
        for section, entries in manifest.sections.items()
    }
    return CheckResult(path, name, task, sections, class_counts(manifest), findings)


def print_check(result: CheckResult, *, as_json: bool = False) -> None:
    """Print the result: as tables, or as one JSON object."""
    if as_json:
        print(json.dumps(result.as_dict(), indent=1, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    overview = Table(
        "section", "entries", "patients", "classes", title=f"{escape(result.name)} ({escape(result.task)})"
    )
    for section, counts in result.sections.items():
        classes = ", ".join(f"{name} {count}" for name, count in result.classes.get(section, {}).items())
        overview.add_row(section, str(counts["entries"]), str(counts["patients"] or "-"), escape(classes))
    if result.sections:
        console.print(overview)
    shown: Counter[str] = Counter()
    for finding in result.findings:
        shown[finding.kind] += 1
        if shown[finding.kind] <= MAX_SHOWN_PER_KIND:
            style = "bold red" if finding.level == "error" else "yellow"
            where = f"{finding.where}: " if finding.where else ""
            console.print(
                f"[{style}]{finding.level}[/] {escape(where + finding.text)}", soft_wrap=True, highlight=False
            )
    for kind, count in shown.items():
        if count > MAX_SHOWN_PER_KIND:
            console.print(f"… and {count - MAX_SHOWN_PER_KIND} more of kind {kind!r}; --json lists all.")
    warnings = len(result.findings) - result.errors
    console.print(f"{result.path}: {result.errors} errors, {warnings} warnings.", soft_wrap=True, highlight=False)
