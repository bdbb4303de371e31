"""What is known of a cohort while it is checked, kept on disk, so that memory does not grow with the number of entries.

A *case* is a set of files (images and mask) that one or more entries list; each is looked at once, however many points
of one scan there are.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from medresnet3d.data.checking.findings import Finding, Level
from medresnet3d.data.manifest_rules import SECTIONS, Membership, place

CACHE_KIB = 16_384
FACTS = {
    **dict.fromkeys(("modality", "format", "dtype", "orientation", "hounsfield"), "TEXT"),
    **dict.fromkeys(("dims", "components", "i", "j", "k"), "INTEGER"),
    **dict.fromkeys(("spacing_i", "spacing_j", "spacing_k"), "REAL"),
    **dict.fromkeys(("low", "p005", "p05", "p25", "p50", "p75", "p95", "p995", "high", "mean", "std"), "REAL"),
}
"""What is kept of every image, with SQLite's types; see :class:`medresnet3d.data.checking.facts.ImageFacts`."""
_TABLES = f"""
CREATE TABLE cases (id INTEGER PRIMARY KEY, files TEXT UNIQUE, bytes INTEGER, quick BLOB, digest BLOB, signs BLOB);
CREATE TABLE entries (id INTEGER PRIMARY KEY, section INTEGER, number INTEGER, case_id INTEGER, label, patient TEXT,
                      fold INTEGER, position TEXT, truth INTEGER, boxes TEXT);
CREATE TABLE images (case_id INTEGER, channel INTEGER, {", ".join(f"{name} {kind}" for name, kind in FACTS.items())});
CREATE TABLE masks (case_id INTEGER, value INTEGER, voxels INTEGER);
CREATE TABLE findings (id INTEGER PRIMARY KEY, error INTEGER, kind TEXT, grave INTEGER, place TEXT, text TEXT,
                       names TEXT, case_id INTEGER);
CREATE INDEX images_by_channel ON images (channel);
"""
_INDICES = """
CREATE INDEX IF NOT EXISTS entries_by_case ON entries (case_id);
CREATE INDEX IF NOT EXISTS entries_by_patient ON entries (patient);
"""


class Listed(NamedTuple):
    """An entry in the ledger."""

    id: int
    section: str
    number: int
    case: int
    label: Any
    patient: str
    fold: int | None
    position: str
    files: str

    @property
    def images(self) -> list[str]:
        """Paths of its images."""
        return json.loads(self.files)[0]


class CaseFiles(NamedTuple):
    """The files of a case."""

    id: int
    images: tuple[str, ...]
    mask: str | None
    boxes: tuple[tuple[float, ...], ...] = ()


class Ledger:
    """A temporary SQLite database of entries, cases, what was seen of them, and findings.

    Args:
        noun: what an entry with its number is called, "entry" or "line".
    """

    def __init__(self, noun: str = "entry") -> None:
        self.noun = noun
        self._folder = tempfile.TemporaryDirectory(prefix="medresnet3d-check-")
        self.db = sqlite3.connect(Path(self._folder.name) / "ledger.sqlite", isolation_level=None)
        self.db.executescript(
            f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-{CACHE_KIB}; {_TABLES}"
        )
        self.db.execute("BEGIN")

    def __enter__(self) -> Self:
        """Use it until the block ends."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the database."""
        self.db.close()
        self._folder.cleanup()

    def add_entry(self, section: str, number: int, entry: Mapping[str, Any], truth: bool) -> None:
        """Add an entry with absolute paths; ``truth`` says whether it has what its task needs."""
        image = entry["image"]
        files = json.dumps([image if isinstance(image, list) else [image], entry.get("mask")])
        self.db.execute("INSERT OR IGNORE INTO cases (files) VALUES (?)", (files,))
        (case,) = self.db.execute("SELECT id FROM cases WHERE files = ?", (files,)).fetchone()
        label = entry.get("label")
        label = json.dumps(label) if isinstance(label, list) else label
        place = entry.get("position", entry.get("roi"))  # several points or boxes of one image are several cases
        position = "" if place is None else repr(place)
        boxes = [entry.get("boxes") or [], entry.get("excluded_boxes") or []]
        row = (SECTIONS.index(section), number, case, label, entry.get("patient") or "", entry.get("fold"), position)
        self.db.execute(
            "INSERT INTO entries VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, truth, json.dumps(boxes))
        )

    def close_entries(self) -> None:
        """Make the indices, once all entries are there."""
        self.db.executescript(_INDICES)
        if not self.db.in_transaction:
            self.db.execute("BEGIN")

    def count(self, table: str) -> int:
        """Number of rows of a table."""
        return int(self.db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    def numbers(self, query: str, parameters: Sequence[Any] = ()) -> NDArray[np.float64]:
        """The rows of a query over numbers as an array (n, columns), float64; what is not known is NaN."""
        cursor = self.db.execute(query, parameters)
        rows = (tuple(np.nan if value is None else value for value in row) for row in cursor)
        return np.fromiter(rows, dtype=np.dtype((np.float64, (len(cursor.description),))))

    def where(self, section: str, number: int, files: str = "") -> str:
        """Name an entry, and its image where its files are given."""
        image = Path(json.loads(files)[0][0]).name if files else ""
        return place(section, number, image, self.noun)

    def memberships(self, condition: str) -> Iterator[Membership]:
        """The patients and folds of the entries that fulfil an SQL condition, patient by patient."""
        for one in self.listed(f"{condition} ORDER BY patient, e.id"):
            where = self.where(one.section, one.number, one.files)
            yield Membership(where, one.section, one.number, one.patient, one.fold)

    def listed(self, condition: str, parameters: Sequence[Any] = ()) -> Iterator[Listed]:
        """The entries ``e`` with their cases ``c`` that fulfil an SQL condition."""
        query = (
            "SELECT e.id, section, number, case_id, label, patient, fold, position, files "
            f"FROM entries e JOIN cases c ON c.id = case_id WHERE {condition}"
        )
        for number, section, *rest in self.db.execute(query, parameters):
            yield Listed(number, SECTIONS[section], *rest)

    def first_of_case(self, case: int) -> Listed:
        """The first entry that lists a case."""
        return next(self.listed("case_id = ? ORDER BY e.id LIMIT 1", (case,)))

    def cases(self, condition: str = "1") -> Iterator[CaseFiles]:
        """The files of the cases that fulfil an SQL condition, in the order in which they are listed."""
        every = "(SELECT json_group_array(json(boxes)) FROM entries WHERE case_id = cases.id)"
        query = f"SELECT id, files, {every} FROM cases WHERE {condition} ORDER BY id"
        for number, files, listed in self.db.execute(query):
            images, mask = json.loads(files)
            boxes = tuple(tuple(box) for entry in json.loads(listed) for part in entry for box in part)
            yield CaseFiles(number, tuple(images), mask, boxes)

    def record(
        self, level: Level, kind: str, text: str, *, where: str = "", names: Iterable[str] = (), grave: bool = False
    ) -> None:
        """Add a finding."""
        self._insert(level, kind, text, where, names, grave, None)

    def record_of_case(self, case: int, level: Level, kind: str, text: str, *, grave: bool = False) -> None:
        """Add a finding about the files of a case; it is told of the first entry that lists it."""
        first = self.first_of_case(case)
        images, mask = json.loads(first.files)
        where = self.where(first.section, first.number, first.files)
        self._insert(level, kind, text, where, [*images, *([mask] if mask else [])], grave, case)

    def _insert(
        self, level: Level, kind: str, text: str, where: str, names: Iterable[str], grave: bool, case: int | None
    ) -> None:
        row = (level == "error", kind, grave, where, text, json.dumps(list(names)), case)
        self.db.execute("INSERT INTO findings VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)", row)

    def findings(self, most: int | None = None) -> Iterator[Finding]:
        """Yield the findings, errors first.

        Args:
            most: number of findings of one kind and level to give; all by default.
        """
        query = (
            "SELECT error, kind, place, text, grave, names FROM (SELECT *, row_number() OVER "
            "(PARTITION BY error, kind ORDER BY id) AS rank FROM findings) WHERE rank <= ? ORDER BY error DESC, id"
        )
        yield from map(_finding, self.db.execute(query, (2**62 if most is None else most,)))

    def findings_of_case(self, case: int) -> list[Finding]:
        """The findings about the files of a case."""
        query = "SELECT error, kind, place, text, grave, names FROM findings WHERE case_id = ? ORDER BY error DESC, id"
        return [_finding(row) for row in self.db.execute(query, (case,))]

    def finding_counts(self) -> dict[tuple[Level, str], int]:
        """Number of findings by level and kind, errors first."""
        query = "SELECT error, kind, count(*) FROM findings GROUP BY error, kind ORDER BY error DESC, min(id)"
        return {("error" if error else "warning", kind): count for error, kind, count in self.db.execute(query)}

    def spoiling(self) -> int:
        """Number of findings that would spoil a training."""
        return int(self.db.execute("SELECT count(*) FROM findings WHERE error OR grave").fetchone()[0])


def _finding(row: tuple[Any, ...]) -> Finding:
    error, kind, where, text, grave, names = row
    return Finding("error" if error else "warning", kind, where, text, bool(grave), tuple(json.loads(names)))
