"""Check a data set, show what was found, and write it down."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medresnet3d.data import Finding
from medresnet3d.data.checking.cohort import Cohort, examine
from medresnet3d.data.checking.fingerprint import write_fingerprint
from medresnet3d.data.checking.ledger import Ledger
from medresnet3d.data.manifest import manifest_path
from medresnet3d.errors import ExitCode
from medresnet3d.io.atomic import atomic_path
from medresnet3d.workflows.pseudonym import check_phi

MAX_SHOWN_PER_KIND = 20
MAX_KEPT_PER_KIND = 1000
FINGERPRINT, PAGE, FINDINGS = "fingerprint.json", "report.html", "findings.csv"


@dataclass(frozen=True)
class CheckResult:
    """What :func:`check_data` found.

    Args:
        path: the manifest.
        name: of the data set.
        task: of the data set.
        sections: number of entries and patients by section.
        classes: number of entries of each class by section; empty where there are none or the manifest is broken.
        findings: errors first; of each kind no more than 1000.
        counts: number of all findings by level and kind.
        spoiling: number of findings that would spoil a training.
        output: the folder with fingerprint, page and the table of all findings, if it was written.
    """

    path: Path
    name: str
    task: str
    sections: dict[str, dict[str, int]]
    classes: dict[str, dict[str, int]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    spoiling: int = 0
    output: Path | None = None

    @property
    def errors(self) -> int:
        """Number of errors, also of those that are not in ``findings``."""
        return sum(count for (level, _), count in self.counts.items() if level == "error")

    @property
    def warnings(self) -> int:
        """Number of warnings, also of those that are not in ``findings``."""
        return sum(self.counts.values()) - self.errors

    @property
    def exit_code(self) -> ExitCode:
        """1 if something would spoil a training, else 0."""
        return ExitCode.SOME_FAILED if self.spoiling else ExitCode.OK

    def as_dict(self) -> dict[str, Any]:
        """Give everything as plain values."""
        return {
            "path": str(self.path),
            "name": self.name,
            "task": self.task,
            "sections": self.sections,
            "classes": self.classes,
            "errors": self.errors,
            "warnings": self.warnings,
            "spoiling": self.spoiling,
            "output": None if self.output is None else str(self.output),
            "findings": [finding.as_dict() for finding in self.findings],
        }


def check_data(
    source: str | Path,
    *,
    deep: bool = False,
    output: str | Path | None = None,
    phi: str = "pseudonym",
    workers: int | None = None,
) -> CheckResult:
    """Look a manifest and its files through; see :func:`medresnet3d.data.check_manifest`.

    Args:
        source: the manifest (JSON or CSV), or its folder.
        deep: also read every image and label map.
        output: folder for ``fingerprint.json``, ``report.html`` and ``findings.csv``; without it nothing is written.
        phi: what the page says: ``"keep"`` names of files and patients, ``"pseudonym"`` pseudonyms of patients,
            ``"none"`` neither.
        workers: number of threads.

    Raises:
        ConfigError: if ``phi`` is unknown.
        DataError: if the manifest itself cannot be read.
    """
    check_phi(phi)
    with examine(source, deep=deep, workers=workers) as cohort:
        head, ledger = cohort.head, cohort.ledger
        folder = Path(output) if output is not None and cohort.sections else None
        if folder is not None:
            _write(folder, cohort, phi)
        return CheckResult(
            head.path,
            head.name,
            head.task,
            cohort.sections,
            cohort.classes,
            list(ledger.findings(MAX_KEPT_PER_KIND)),
            {(level, kind): count for (level, kind), count in ledger.finding_counts().items()},
            ledger.spoiling(),
            folder,
        )


def default_output(source: str | Path) -> Path:
    """Where ``--deep`` writes: ``NAME_check`` in the current folder, named after the manifest or after its folder."""
    path = manifest_path(source)
    name = path.resolve().parent.name if path.stem in ("manifest", "dataset") else path.stem
    return Path(f"{name or 'cohort'}_check")


def print_check(result: CheckResult) -> None:
    """Print the result as tables."""
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
    shown: Counter[tuple[str, str]] = Counter()
    for finding in result.findings:
        key = (finding.level, finding.kind)
        shown[key] += 1
        if shown[key] <= MAX_SHOWN_PER_KIND:
            style = "bold red" if finding.level == "error" else "yellow"
            where = f"{finding.where}: " if finding.where else ""
            grave = " (would spoil a training)" if finding.grave else ""
            line = f"[{style}]{finding.level}[/] {escape(where + finding.text + grave)}"
            console.print(line, soft_wrap=True, highlight=False)
    for (_, kind), count in result.counts.items():
        if count > MAX_SHOWN_PER_KIND:
            where = "--json lists more" if result.output is None else f"{result.output / FINDINGS} lists all"
            console.print(
                f"… and {count - MAX_SHOWN_PER_KIND} more of kind {kind!r}; {where}.",
                soft_wrap=True,
                highlight=False,
                markup=False,
            )
    verdict = (
        f"{result.spoiling} of them would spoil a training" if result.spoiling else "nothing would spoil a training"
    )
    text = f"{result.path}: {result.errors} errors, {result.warnings} warnings; {verdict}."
    console.print(text, soft_wrap=True, highlight=False, markup=False)
    if result.output is not None:
        console.print(
            f"{result.output / PAGE}: written, with {FINGERPRINT} and {FINDINGS}.",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )


def _write(folder: Path, cohort: Cohort, phi: str) -> None:
    from medresnet3d.workflows.check_page import write_page  # draws, which takes a second to load

    content = write_fingerprint(cohort, folder / FINGERPRINT)
    _write_findings(folder / FINDINGS, cohort.ledger)
    write_page(folder / PAGE, cohort, content, phi, FINDINGS)


def _write_findings(path: Path, ledger: Ledger) -> None:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["level", "spoils", "kind", "where", "text"])
        for finding in ledger.findings():
            writer.writerow(finding.as_dict().values())


def as_json(results: list[CheckResult]) -> str:
    """Give results as JSON: one object for one manifest, a list for several."""
    content = [result.as_dict() for result in results]
    return json.dumps(content[0] if len(content) == 1 else content, indent=1, ensure_ascii=False)
