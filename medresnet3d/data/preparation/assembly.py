"""From a filled cohort to the sections of a manifest: repeated entries out, patients on one side, folds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from medresnet3d.data.manifest_rules import SECTIONS
from medresnet3d.data.preparation.cohort import Cohort, DerivedFile
from medresnet3d.data.splits import assign_folds
from medresnet3d.errors import DataError

REPEATED = "listed twice"
CONTRADICTION = "listed twice with different truth"
_TRUTH = ("label", "boxes")
_HELD_OUT_FIRST = ("test", "validation", "training")

Sections = dict[str, list[dict[str, Any]]]


def assemble(cohort: Cohort, folds: int, seed: int) -> Sections:
    """Make the sections of a manifest; what is left out is counted in the cohort.

    An image that is listed twice stays once, and not at all if its truth differs. A patient on two sides of an official
    split stays on the side that is held out. Where there is neither an official validation section nor official
    folds, every training entry gets a ``fold`` (grouped by patient, stratified by class).

    Args:
        cohort: as the adapter left it.
        folds: number of folds; 0 for none.
        seed: of the folds.

    Raises:
        DataError: if nothing is left, or there are fewer patients than folds.
    """
    sections: Sections = {section: [] for section in SECTIONS}
    for section, entry in _once(cohort):
        sections[section].append(entry)
    _keep_apart(cohort, sections)
    if not any(sections.values()):
        reasons = ", ".join(f"{dropped.count} {reason}" for reason, dropped in cohort.dropped.items())
        raise DataError(
            f"{cohort.folder.root}: no entry is left for {cohort.task.name} ({reasons or 'nothing was found'}); "
            f"check that {cohort.card.title} is unpacked completely."
        )
    has_own = bool(sections["validation"]) or any("fold" in entry for entry in sections["training"])
    if folds and sections["training"] and not has_own:
        _add_folds(cohort, sections["training"], folds, seed)
    return {section: entries for section, entries in sections.items() if entries}


def _once(cohort: Cohort) -> list[tuple[str, dict[str, Any]]]:
    """Each image once, or once for each point or box of a finding on it."""
    same: defaultdict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    for section, entry in cohort.entries:
        same[f"{_files(entry)}|{entry.get('position')}|{entry.get('roi')}"].append((section, entry))
    kept = []
    for listed in same.values():
        first = listed[0][1]
        truths = {repr([entry.get(key) for key in _TRUTH]) for _, entry in listed}
        if len(truths) > 1:
            cohort.drop(CONTRADICTION, _name(first), len(listed))
            continue
        if len(listed) > 1:
            cohort.drop(REPEATED, _name(first), len(listed) - 1)
        kept.append(listed[0])
    return kept


def _keep_apart(cohort: Cohort, sections: Sections) -> None:
    """Leave a patient on one side of the official split: the one that is held out."""
    taken: dict[str, str] = {}
    for section in _HELD_OUT_FIRST:
        kept = []
        for entry in sections[section]:
            side = taken.get(entry["patient"])
            if side is None:
                kept.append(entry)
            else:
                cohort.drop(f"{cohort.group_kind} also in the {side} part", _name(entry))
        sections[section] = kept
        taken.update({entry["patient"]: section for entry in kept})


def _add_folds(cohort: Cohort, training: list[dict[str, Any]], folds: int, seed: int) -> None:
    classes = None
    if cohort.task.kind == "classification":
        classes = [cohort.labels.index(entry["label"]) for entry in training]
    try:
        numbers = assign_folds([entry["patient"] for entry in training], folds, classes=classes, seed=seed)
    except DataError as error:
        raise DataError(f"{cohort.folder.root}: {error} (--folds 0 makes none.)") from error
    for entry, fold in zip(training, numbers, strict=True):
        entry["fold"] = fold


def _files(entry: dict[str, Any]) -> list[str]:
    image = entry["image"]
    files = image if isinstance(image, Sequence) else [image]
    return [file.name if isinstance(file, DerivedFile) else str(file) for file in files]


def _name(entry: dict[str, Any]) -> str:
    return PurePath(_files(entry)[0]).name
