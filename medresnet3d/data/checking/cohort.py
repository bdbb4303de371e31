"""All questions that are asked of a cohort, in their order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from medresnet3d.data.checking.cases import CaseLooker, Look
from medresnet3d.data.checking.duplicates import check_duplicates, check_near_duplicates, digest_files
from medresnet3d.data.checking.findings import Finding
from medresnet3d.data.checking.hounsfield import check_hounsfield
from medresnet3d.data.checking.labels import check_balance, check_masks, check_patients, class_counts, section_sizes
from medresnet3d.data.checking.ledger import FACTS, CaseFiles, Ledger
from medresnet3d.data.checking.listing import Head, list_entries, noun_of
from medresnet3d.data.checking.outliers import check_outliers
from medresnet3d.data.checking.parallel import default_workers, in_threads
from medresnet3d.progress import Progress

HEADERS_AT_ONCE = 64
"""Cases whose headers a thread reads before it reports."""


@dataclass(frozen=True)
class Cohort:
    """A cohort that was checked.

    Args:
        head: what its manifest says about the whole.
        deep: whether voxels were read.
        ledger: entries, facts and findings; gone when the block of :func:`examine` ends.
        sections: number of entries and patients by section.
        classes: number of entries of each class by section.
        alike: groups of cases whose pictures look the same.
    """

    head: Head
    deep: bool
    ledger: Ledger
    sections: dict[str, dict[str, int]] = field(default_factory=dict)
    classes: dict[str, dict[str, int]] = field(default_factory=dict)
    alike: list[list[int]] = field(default_factory=list)


@contextmanager
def examine(source: str | Path, *, deep: bool = False, workers: int | None = None) -> Iterator[Cohort]:
    """Look a manifest and its files through, and give what was found for as long as the block lasts.

    Args:
        source: the manifest (JSON or CSV), or its folder.
        deep: read every file, not only its header.
        workers: number of threads; one a processor by default, at most 8.

    Raises:
        DataError: if the manifest itself cannot be read.
    """
    with Ledger(noun_of(source)) as ledger:
        head = list_entries(source, ledger)
        if not head.readable or not ledger.count("entries"):
            yield Cohort(head, deep, ledger)
            return
        _look_at_files(ledger, head, deep, workers or default_workers())
        check_duplicates(ledger)
        alike = check_near_duplicates(ledger) if deep else []
        check_masks(ledger, head.task, head.labels)
        check_hounsfield(ledger)
        check_outliers(ledger)
        check_patients(ledger)
        counts = class_counts(ledger, head.task, head.labels)
        check_balance(ledger, counts)
        yield Cohort(head, deep, ledger, section_sizes(ledger), counts, alike)


def check_manifest(source: str | Path, *, deep: bool = False) -> list[Finding]:
    """Look a manifest and its files through.

    Always: schema and rules; files that are missing, empty or have no usable header; masks on another grid than their
    image; patients on both sides of a split; files that are listed twice or are equal byte by byte; images of another
    size, spacing or orientation than the rest; balance of the classes. With ``deep`` every file is read: damaged
    images, label values outside the class list, empty masks, images with the same voxels, pictures that look the same,
    unusual intensities, CT that is not in Hounsfield units.

    Args:
        source: the manifest (JSON or CSV), or its folder.
        deep: read every file.

    Returns:
        the findings, errors first; empty if all is well.

    Raises:
        DataError: if the manifest itself cannot be read.
    """
    with examine(source, deep=deep) as cohort:
        return list(cohort.ledger.findings())


def _look_at_files(ledger: Ledger, head: Head, deep: bool, workers: int) -> None:
    looker = CaseLooker(head.task, len(head.labels), head.modality, deep and head.task != "conversion")
    task = "reading images" if looker.deep else "reading headers"
    with Progress(task, ledger.count("cases")) as progress:
        for case, look in in_threads(looker, ledger.cases(), workers, 1 if looker.deep else HEADERS_AT_ONCE):
            _keep(ledger, case, look)
            progress.advance()
    if not looker.deep:
        digest_files(ledger, workers)


def _keep(ledger: Ledger, case: CaseFiles, look: Look) -> None:
    for level, kind, text in look.problems:
        ledger.record_of_case(case.id, level, kind, text)
    values = (look.size, look.digest, look.signs, case.id)
    ledger.db.execute("UPDATE cases SET bytes = ?, digest = ?, signs = ? WHERE id = ?", values)
    for channel, facts in enumerate(look.images):
        row = facts.row()
        marks = ", ".join("?" * (len(FACTS) + 2))
        ledger.db.execute(
            f"INSERT INTO images VALUES ({marks})", (case.id, channel, *(row.get(name) for name in FACTS))
        )
    rows = [(case.id, value, voxels) for value, voxels in (look.labels or {}).items()]
    ledger.db.executemany("INSERT INTO masks VALUES (?, ?, ?)", rows)
