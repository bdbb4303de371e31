"""The report of answers for inputs: a table that leads to the cases, their pictures, warnings and times."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medresnet3d.reports.blocks import Block, CaseCard, Cases, Heading, Link, Report, Table, Warnings
from medresnet3d.reports.builders import header, list_inputs, records_table, report_file, what_was_run
from medresnet3d.reports.html import write_report


def inference_report(
    output: str | os.PathLike[str],
    *,
    what: Mapping[str, Any],
    cards: Sequence[CaseCard],
    results: Sequence[Mapping[str, Any]] = (),
    inputs: Sequence[Mapping[str, Any]] | Sequence[str] = (),
    warnings: Sequence[str] = (),
    case_warnings: Mapping[str, Sequence[str]] | None = None,
    stages: Mapping[str, Sequence[float]] | None = None,
    pages: Mapping[str, str] | None = None,
    title: str = "",
    subtitle: str = "",
) -> Path:
    """Write the report of answers for inputs.

    Args:
        output: folder (gets ``report.html``) or file to write.
        what: what was run: bundle, version, weights (hash), device, seconds, command, ...
        cards: one card a case (:func:`segmentation_card`, :func:`classification_card`, :func:`failed_card`, ...).
        results: one record a case for the table, with the case's name as ``case``.
        inputs: the input files, as paths or records.
        warnings: what concerns all cases.
        case_warnings: what was repaired, assumed or unusual, by case.
        stages: seconds that each stage of the work took, one value a case.
        pages: the cases' own pages by case, as quoted links relative to the report.
        title: by default, the bundle's name and the number of cases.
        subtitle: one line on what was done.

    Returns:
        Path of the written file.
    """
    failed = sum(bool(one.get("error")) for one in results) or sum(bool(card.error) for card in cards)
    count = len(results) or len(cards)
    number = f"{count} case{'s' if count != 1 else ''}"
    notes = list(warnings)
    if failed:
        notes.append(f"{failed} of {number} could not be processed; the reason is on the card.")
    links = pages or {}
    blocks: list[Block] = [Warnings(notes), Heading("Results")]
    table = [records_table([_linked(one, links) for one in results], "All answers")] if results else []
    if count > 1:
        blocks += [*table, *_warnings(case_warnings or {}, links), Heading("Cases"), Cases(list(cards))]
    else:
        blocks += [Cases(list(cards)), *table]
    blocks += [*_times(stages or {}), *what_was_run(what), *list_inputs([_linked(one, links) for one in inputs])]
    title = title or f"{what.get('bundle', 'Answers')}: {number}"
    return write_report(Report(title, subtitle, blocks, header(what)), report_file(output))


def _linked(record: Mapping[str, Any] | str, pages: Mapping[str, str]) -> dict[str, Any]:
    """Let the case's name in a record lead to its page."""
    if isinstance(record, str):
        return {"input": record}
    case = str(record.get("case", ""))
    return {**record, "case": Link(case, pages[case])} if case in pages else dict(record)


def _warnings(case_warnings: Mapping[str, Sequence[str]], pages: Mapping[str, str]) -> list[Block]:
    rows = [
        [Link(case, pages[case]) if case in pages else case, text]
        for case, texts in case_warnings.items()
        for text in texts
    ]
    if not rows:
        return []
    note = "What was repaired, assumed or unusual in the scans, for example in their geometry."
    return [Heading("Warnings", note), Table(["case", "warning"], rows, "Warnings by case", folded=len(rows) > 12)]


def _times(stages: Mapping[str, Sequence[float]]) -> list[Block]:
    """Show how long each stage took."""
    rows = [
        [name, sum(seconds), sum(seconds) / len(seconds), max(seconds)] for name, seconds in stages.items() if seconds
    ]
    if not rows:
        return []
    columns = ["stage", "all cases, s", "mean, s", "longest, s"]
    note = "Stages of different cases may overlap in time."
    return [Heading("Time by stage", note), Table(columns, rows, "Seconds by stage")]
