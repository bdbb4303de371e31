"""Images that are listed twice, and pictures that look the same."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

import numpy as np

from medresnet3d.data.checking.cases import quick_digest
from medresnet3d.data.checking.findings import Level
from medresnet3d.data.checking.ledger import CaseFiles, Ledger, Listed
from medresnet3d.data.checking.parallel import in_threads
from medresnet3d.data.likeness import SIGNS_BYTES, content_digest, near_duplicate_groups
from medresnet3d.progress import Progress


def digest_files(ledger: Ledger, workers: int) -> None:
    """Give the same digest to cases whose files are equal byte by byte.

    Only files of equal size are opened, and of these only such as begin and end alike are read.

    Args:
        ledger: with the sizes of the files.
        workers: number of threads.
    """
    _fill(ledger, "quick", "bytes", "comparing files", lambda case: quick_digest(case.images), workers)
    whole = "bytes, quick"
    _fill(ledger, "digest", whole, "hashing files", lambda case: content_digest(map(Path, case.images)), workers)


def _fill(
    ledger: Ledger, column: str, same: str, task: str, digest: Callable[[CaseFiles], bytes], workers: int
) -> None:
    """Fill a column of the cases that are the same in the columns so far."""
    known = f"{same.rpartition(', ')[2]} IS NOT NULL"
    condition = f"{known} AND ({same}) IN (SELECT {same} FROM cases WHERE {known} GROUP BY {same} HAVING count(*) > 1)"
    ledger.db.execute(f"CREATE TEMP TABLE wanted AS SELECT id FROM cases WHERE {condition}")
    with Progress(task, ledger.count("wanted")) as progress:
        for case, value in in_threads(digest, ledger.cases("id IN wanted"), workers):
            ledger.db.execute(f"UPDATE cases SET {column} = ? WHERE id = ?", (value, case.id))
            progress.advance()
    ledger.db.execute("DROP TABLE wanted")


def check_duplicates(ledger: Ledger) -> None:
    """Record entries that hold the same image: the same files, or others with the same digest."""
    ledger.db.execute(
        "CREATE TEMP TABLE same AS SELECT e.id AS entry, COALESCE(digest, json_extract(files, '$[0]')) AS content "
        "FROM entries e JOIN cases c ON c.id = case_id"
    )
    ledger.db.execute("CREATE INDEX same_by_content ON same (content)")
    pairs = ledger.db.execute(
        "SELECT entry, first FROM (SELECT entry, min(entry) OVER whole AS first, count(*) OVER whole AS copies "
        "FROM same WINDOW whole AS (PARTITION BY content)) WHERE copies > 1 ORDER BY first, entry"
    )
    for _, group in groupby(pairs, key=lambda pair: pair[1]):
        _judge_same(ledger, (next(ledger.listed("e.id = ?", (entry,))) for entry, _ in group))
    ledger.db.execute("DROP TABLE same")


def _judge_same(ledger: Ledger, same: Iterator[Listed]) -> None:
    """Judge entries that hold the same image; several points of one scan are no duplicates of each other."""
    first = next(same)
    place = ledger.where(first.section, first.number)
    points = {first.position: first}
    for other in same:
        at_point = points.setdefault(other.position, other)
        if other.section != first.section:
            _record(ledger, other, "error", f"is the same image as {place}; list it once.")
        elif other.patient != first.patient:
            text = f"is the same image as {place}, but of another patient; a split would tear them apart."
            _record(ledger, other, "error", text)
        elif at_point is not other and other.label != at_point.label:
            there = ledger.where(at_point.section, at_point.number)
            _record(
                ledger, other, "error", f"is the same image as {there}, but has another label; correct one of them."
            )
        elif at_point is not other:
            there = ledger.where(at_point.section, at_point.number)
            _record(ledger, other, "warning", f"is the same image as {there}; list it once.")


def _record(
    ledger: Ledger, entry: Listed, level: Level, text: str, kind: str = "duplicate", grave: bool = False
) -> None:
    where = ledger.where(entry.section, entry.number, entry.files)
    ledger.record(level, kind, text, where=where, names=entry.images, grave=grave)


def look_alikes(ledger: Ledger) -> list[list[int]]:
    """Give groups of cases whose pictures look the same although their voxels differ; 256 bytes a picture are kept."""
    query = "SELECT min(id), signs FROM cases WHERE signs IS NOT NULL GROUP BY digest ORDER BY 1"
    cases, signs = array("q"), bytearray()
    for case, packed in ledger.db.execute(query):
        cases.append(case)
        signs += packed
    if len(cases) < 2:
        return []
    groups: defaultdict[int, list[int]] = defaultdict(list)
    numbers = near_duplicate_groups(np.frombuffer(signs, np.uint8).reshape(len(cases), SIGNS_BYTES))
    for case, number in zip(cases, numbers, strict=True):
        groups[number].append(case)
    return [group for group in groups.values() if len(group) > 1]


def check_near_duplicates(ledger: Ledger) -> list[list[int]]:
    """Record pictures that look the same, where a split may tear them apart or their labels contradict each other.

    Returns:
        the groups of cases of which something was recorded.
    """
    told = []
    for group in look_alikes(ledger):
        first, *others = (ledger.first_of_case(case) for case in group)
        breaches = [_judge_alike(ledger, first, other) for other in others]
        if any(breaches):
            told.append(group)
    return told


def _judge_alike(ledger: Ledger, first: Listed, other: Listed) -> bool:
    """Record what follows if two pictures are one; tell whether anything does."""
    start = f"looks like {ledger.where(first.section, first.number)}"
    known = bool(first.patient and other.patient)
    if other.section != first.section:
        text, grave = f"{start}, which is in another section; if it is the same, list one of them.", True
    elif None not in (first.fold, other.fold) and first.fold != other.fold:
        text, grave = (
            f"{start}, which is in fold {first.fold}; if it is the same, give both one patient and fold.",
            True,
        )
    elif known and other.patient != first.patient:
        text, grave = f"{start}, which is of another patient; if it is the same, give both one `patient`.", True
    elif not known:
        text, grave = f"{start}; if it is the same, give both one `patient`, so that no split tears them apart.", False
    elif other.label != first.label:
        text, grave = f"{start}, which has another label; correct one of them, if it is the same.", False
    else:
        return False
    _record(ledger, other, "warning", text, "near duplicate", grave)
    return True
