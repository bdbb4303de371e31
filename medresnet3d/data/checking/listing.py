"""From a manifest, JSON or table, to the entries in the ledger, with everything that breaks the rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medresnet3d.data.checking.ledger import Ledger
from medresnet3d.data.manifest import build_manifest, data_root, manifest_path, read_raw_manifest, resolve_entry
from medresnet3d.data.manifest_rules import (
    Problem,
    patient_problems,
    problems,
    schema_problems,
    truth_breach,
    truth_key,
)
from medresnet3d.data.manifest_table import ManifestTable, Row, is_table
from medresnet3d.progress import track

# Problems that leave every entry readable; after any other, files cannot be looked at.
_HARMLESS_TO_READ = ("leakage", "patient")


@dataclass(frozen=True)
class Head:
    """What a manifest says about the whole.

    Args:
        path: the manifest.
        name: of the data set.
        task: of the data set.
        modality: as the manifest has it; may be empty.
        labels: class names in index order.
        readable: whether its entries could be read.
    """

    path: Path
    name: str
    task: str
    modality: str
    labels: tuple[str, ...] = ()
    readable: bool = True


def noun_of(source: str | Path) -> str:
    """What an entry with its number is called: an entry of a JSON manifest, a line of a table."""
    return "line" if is_table(manifest_path(source)) else "entry"


def list_entries(source: str | Path, ledger: Ledger) -> Head:
    """Put the entries of a manifest into the ledger, and record what breaks the rules.

    A table is read row by row; a JSON manifest is read as a whole.

    Args:
        source: the manifest, or its folder.
        ledger: to fill.

    Raises:
        DataError: if the manifest itself cannot be read.
    """
    path = manifest_path(source)
    head = _list_table(ManifestTable(path), ledger) if is_table(path) else _list_json(path, ledger)
    ledger.close_entries()
    if is_table(path) and head.readable:
        _check_table_patients(ledger)
    return head


def _list_json(path: Path, ledger: Ledger) -> Head:
    raw, path = read_raw_manifest(path)
    found = list(problems(raw))
    for problem in found:
        _record(ledger, problem)
    if any(problem.kind not in _HARMLESS_TO_READ for problem in found):
        return _head(path, raw, readable=False)
    manifest = build_manifest(raw, path)
    key = truth_key(manifest.task)
    for section, listed in manifest.sections.items():
        for number, entry in enumerate(listed, 1):
            ledger.add_entry(section, number, entry, key is None or key in entry)
    return _head(path, raw, manifest.labels)


def _head(path: Path, raw: Mapping[str, Any], labels: tuple[str, ...] = (), readable: bool = True) -> Head:
    name, task, modality = (str(raw.get(key, "")) for key in ("name", "task", "modality"))
    return Head(path, name, task, modality, labels, readable)


def _list_table(table: ManifestTable, ledger: Ledger) -> Head:
    raw = table.head
    head_problems = [*schema_problems({**raw, "training": []}), *([] if len(table) else [_NOTHING])]
    for problem in head_problems:
        _record(ledger, problem)
    if head_problems:
        return _head(table.path, raw, readable=False)
    root, key = data_root(raw, table.path), truth_key(raw["task"])
    for row in track(table.rows(), "reading rows", total=len(table)):
        text, kind = _row_breach(row, table)
        if text:
            image = Path(str(row.entry.get("image", ""))).name
            where = f"line {row.line} of `{row.section}`" + (f" ({image})" if image else "")
            ledger.record("error", kind, text, where=where, names=[image])
        else:
            entry = resolve_entry(row.entry, root, raw["task"], table.names)
            ledger.add_entry(row.section, row.line, entry, key is None or key in entry)
    return _head(table.path, raw, table.names)


_NOTHING = Problem("", "lists nothing; add at least one row.", "empty")


def _row_breach(row: Row, table: ManifestTable) -> tuple[str, str]:
    """What is wrong with a row, and of which kind that is."""
    if row.fault:
        return row.fault, "schema"
    if not row.plain:
        found = next(schema_problems({**table.head, row.section: [row.entry]}), None)
        if found is not None:
            return found.text, "schema"
    wanted = row.section in table.with_truth
    return truth_breach(row.section, row.entry, table.head["task"], table.names, wanted) or "", "truth"


def _check_table_patients(ledger: Ledger) -> None:
    """As for a JSON manifest, but patient by patient, so that few need to be remembered."""
    several = ledger.db.execute("SELECT count(DISTINCT section) FROM entries").fetchone()[0] > 1
    split = "patient IN (SELECT patient FROM entries GROUP BY patient HAVING min(section) < max(section) OR "
    split += "min(fold) < max(fold))"
    condition = f"(patient = '' AND ({int(several)} OR fold IS NOT NULL)) OR (patient <> '' AND {split})"
    for problem in patient_problems(ledger.memberships(condition), several, ledger.noun):
        _record(ledger, problem)


def _record(ledger: Ledger, problem: Problem) -> None:
    names = [problem.patient] if problem.patient else []
    ledger.record("error", problem.kind, problem.text, where=problem.where, names=names)
