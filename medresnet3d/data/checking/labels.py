"""Classes, patients and masks of a cohort as numbers, and what is wrong with them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from medresnet3d.data.checking.findings import Level
from medresnet3d.data.checking.ledger import Ledger
from medresnet3d.data.manifest_rules import SECTIONS

IMBALANCE = 10.0
"""Largest share of the commonest class over the rarest that is not remarked upon."""


def section_sizes(ledger: Ledger) -> dict[str, dict[str, int]]:
    """Number of entries and of patients by section."""
    query = "SELECT section, count(*), count(DISTINCT nullif(patient, '')) FROM entries GROUP BY section ORDER BY 1"
    return {
        SECTIONS[section]: {"entries": entries, "patients": patients}
        for section, entries, patients in ledger.db.execute(query)
    }


def class_counts(ledger: Ledger, task: str, names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Count the entries (boxes for detection) of each class in each section that has labels; empty for other tasks."""
    if task == "detection":
        return _box_counts(ledger, names)
    if task != "classification":
        return {}
    counts: dict[str, Counter[int]] = {}
    query = "SELECT section, label, count(*), min(truth) FROM entries GROUP BY section, label ORDER BY section"
    unlabelled = set()
    for section, label, count, has_truth in ledger.db.execute(query):
        counts.setdefault(SECTIONS[section], Counter())[label] += count
        unlabelled |= set() if has_truth else {SECTIONS[section]}
    return {
        section: {name: there[index] for index, name in enumerate(names)}
        for section, there in counts.items()
        if section not in unlabelled
    }


def _box_counts(ledger: Ledger, names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Count the boxes of each class; those without a label of their own are of the first."""
    counts: dict[str, dict[str, int]] = {}
    every = list(names) or ["boxes"]
    query = "SELECT section, label, json_array_length(boxes, '$[0]') FROM entries WHERE truth ORDER BY section"
    for section, label, number in ledger.db.execute(query):
        there = counts.setdefault(SECTIONS[section], dict.fromkeys(every, 0))
        labels = json.loads(label) if label else []
        for one in labels or [0] * number:
            name = every[one] if isinstance(one, int) and one < len(every) else str(one)
            there[name] = there.get(name, 0) + 1
    return counts


def check_patients(ledger: Ledger) -> None:
    """Record that entries name no patient."""
    total = ledger.count("entries")
    unnamed = int(ledger.db.execute("SELECT count(*) FROM entries WHERE patient = ''").fetchone()[0])
    if unnamed == total:
        text = "no entry names its `patient`, so nothing can be split; name the finest honest group."
        ledger.record("warning", "patient", text)
    elif unnamed:
        first = next(ledger.listed("patient = '' ORDER BY e.id LIMIT 1"))
        text = f"{unnamed} of {total} entries, this one first, name no `patient` and cannot be split."
        where = ledger.where(first.section, first.number, first.files)
        ledger.record("warning", "patient", text, where=where, names=first.images)


def check_balance(ledger: Ledger, counts: dict[str, dict[str, int]]) -> None:
    """Record classes that are absent from a section, or rare in it."""
    for section, by_class in counts.items():
        absent = [name for name, count in by_class.items() if count == 0]
        level: Level = "error" if section == "training" else "warning"
        if absent:
            ledger.record(level, "balance", f"`{section}` has no entry of {', '.join(absent)}; add some.")
        present = Counter({name: count for name, count in by_class.items() if count})
        if not present:
            continue
        (most, many), (least, few) = present.most_common(1)[0], present.most_common()[-1]
        if many > IMBALANCE * few:
            text = (
                f"`{section}` has {many} entries of {most} and {few} of {least}; consider weights or more of the rare."
            )
            ledger.record("warning", "balance", text)


def check_masks(ledger: Ledger, task: str, names: Sequence[str]) -> None:
    """Record labels of a segmentation that no mask has, the background left out."""
    seen = {value for (value,) in ledger.db.execute("SELECT DISTINCT value FROM masks")}
    if task != "segmentation" or not seen:
        return
    for index, name in enumerate(names):
        if index and index not in seen:
            text = f"label {index} ({name}) is in no mask; is it named in `labels` by mistake?"
            ledger.record("warning", "mask", text)
