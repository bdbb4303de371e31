"""The page about a cohort that was checked: what it shows, and what it must not say of anyone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from medresnet3d.data import Finding
from medresnet3d.data.checking.cohort import Cohort
from medresnet3d.data.checking.ledger import CaseFiles, Ledger
from medresnet3d.data.checking.outliers import MEASURES, channel_values, channels, limits_of, usual_range
from medresnet3d.errors import MedResNetError
from medresnet3d.io import load
from medresnet3d.progress import track
from medresnet3d.reports import CaseCard, Figure, PlaneView, three_plane_view
from medresnet3d.reports.cohort import CohortPage, FindingRow, cohort_report
from medresnet3d.reports.cohort_figures import Spread
from medresnet3d.workflows.pseudonym import shown_patient, unnamed

MOST_ROWS = 50
"""Findings of one kind that the page lists."""
MOST_CARDS = 12
MOST_PAIRS = 6
LONGEST = 200
_PICTURED = ("outlier", "orientation", "hounsfield", "mask")


def write_page(path: Path, cohort: Cohort, content: dict[str, Any], phi: str, further: str) -> Path:
    """Write the page.

    Args:
        path: the file to write.
        cohort: as it was checked.
        content: its fingerprint.
        phi: ``"keep"`` shows names of files and patients, ``"pseudonym"`` pseudonyms of patients, ``"none"`` neither.
        further: name of the file with all findings.
    """
    ledger = cohort.ledger
    page = CohortPage(
        fingerprint=content,
        findings=[_row(finding, phi) for finding in ledger.findings(MOST_ROWS)],
        total=ledger.count("findings"),
        spoiling=ledger.spoiling(),
        spreads=list(_spreads(ledger)),
        outliers=list(_outlier_cards(cohort, phi)) if cohort.deep else [],
        alike=list(_pairs(cohort, phi)),
        further=further,
        notes=[] if cohort.deep else ["Voxels were not read; --deep looks at them too."],
    )
    shown = cohort.head.path if phi == "keep" else cohort.head.path.name
    command = f"medresnet3d data check {shown}{' --deep' if cohort.deep else ''} --phi {phi}"
    what = {"data set": cohort.head.name, "manifest": shown, "deep": cohort.deep, "command": command}
    return cohort_report(path, page, what)


def hidden(finding: Finding, phi: str) -> str:
    """Give a finding's text without names of files, and with pseudonyms of patients, unless ``phi`` keeps them."""
    if phi == "keep":
        return finding.text
    if finding.kind == "leakage":
        text = finding.text
        for name in finding.names:
            text = text.replace(repr(name), repr(shown_patient(name, phi) or "…"))
        return text
    return unnamed(finding.text, finding.names, "…")


def _row(finding: Finding, phi: str) -> FindingRow:
    where = finding.where if phi == "keep" else finding.place
    texts = (text.replace("`", "") for text in (where, hidden(finding, phi)))
    return FindingRow(finding.level, finding.spoils, finding.kind, *texts)


def _spreads(ledger: Ledger) -> Iterator[Spread]:
    """The numbers that are not the same for all images."""
    for channel, dims in channels(ledger):
        scale = usual_range(ledger, channel, dims)
        for measure in MEASURES:
            values = channel_values(ledger, channel, dims, measure)[:, 1]
            values = values[np.isfinite(values)]
            if values.size and values.min() < values.max():
                limits = limits_of(values, measure, scale)
                name = measure.text if channel == 0 else f"{measure.text}, of image {channel + 1}"
                yield Spread(name, values, None if limits is None else (limits.low, limits.high))


def _outlier_cards(cohort: Cohort, phi: str) -> Iterator[CaseCard]:
    marks = ", ".join("?" * len(_PICTURED))
    query = f"SELECT DISTINCT case_id FROM findings WHERE case_id IS NOT NULL AND kind IN ({marks}) ORDER BY id LIMIT ?"
    numbers = [number for (number,) in cohort.ledger.db.execute(query, (*_PICTURED, MOST_CARDS))]
    for number in track(numbers, "drawing outliers"):
        (case,) = cohort.ledger.cases(f"id = {number}")
        try:
            view = _view(case, cohort.head.labels)
        except MedResNetError:
            continue  # what cannot be read is among the findings
        texts = [hidden(one, phi) for one in cohort.ledger.findings_of_case(number)]
        yield CaseCard(_title(cohort.ledger, number, phi), view=view, warnings=texts)


def _pairs(cohort: Cohort, phi: str) -> Iterator[CaseCard]:
    for group in cohort.alike[:MOST_PAIRS]:
        figures = []
        for number in group[:2]:
            (case,) = cohort.ledger.cases(f"id = {number}")
            title = _title(cohort.ledger, number, phi)
            figures.append(Figure(_view(CaseFiles(number, case.images, None), ()).planes[0].image, title))
        more = f" and {len(group) - 2} more" if len(group) > 2 else ""
        yield CaseCard(f"{figures[0].caption} and {figures[1].caption}{more}", figures=figures)


def _title(ledger: Ledger, case: int, phi: str) -> str:
    first = ledger.first_of_case(case)
    return ledger.where(first.section, first.number, first.files if phi == "keep" else "").replace("`", "")


def _view(case: CaseFiles, labels: tuple[str, ...]) -> PlaneView:
    volume = load(case.images[0], constant_ok=True)
    layers = {}
    if case.mask is not None:
        mask = load(case.mask, constant_ok=True)
        if mask.shape == volume.shape and mask.channels == 1:
            layers["mask"] = mask.array.astype(np.int32)
    affine = None if volume.source.format == "image" else volume.affine  # nobody knows where pictures were taken
    return three_plane_view(
        volume.array, affine=affine, layers=layers, labels=list(labels) or None, alt="the image", longest=LONGEST
    )
