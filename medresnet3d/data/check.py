"""What would spoil a training: a manifest and its files looked through before anything is computed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from medresnet3d.data.check_files import FileCheck
from medresnet3d.data.manifest import Manifest, build_manifest, listed_files, read_raw_manifest
from medresnet3d.data.manifest_rules import SECTIONS, place, problems
from medresnet3d.progress import track

IMBALANCE = 10.0
"""Largest share of the commonest class over the rarest that is not remarked upon."""
# Problems that leave every entry readable; after any other, files cannot be looked at.
_HARMLESS_TO_READ = ("leakage", "patient")


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Args:
        level: ``"error"`` would spoil a training, ``"warning"`` is for a person to judge.
        kind: ``schema``, ``labels``, ``truth``, ``patient``, ``leakage``, ``file``, ``mask``, ``geometry``,
            ``duplicate`` or ``balance``.
        where: section and number of the entry; empty for the whole manifest.
        text: what is wrong and what to do.
    """

    level: Literal["error", "warning"]
    kind: str
    where: str
    text: str

    def as_dict(self) -> dict[str, str]:
        """Give the finding as plain values."""
        return asdict(self)


class _Entry(NamedTuple):
    section: str
    number: int
    item: dict[str, Any]

    @property
    def where(self) -> str:
        return place(self.section, self.number, Path(listed_files(self.item)[0][1]).name)


def check_manifest(source: str | Path, *, deep: bool = False) -> list[Finding]:
    """Look a manifest and its files through.

    Always: schema and rules, missing and empty files, patients on both sides of a split, images that are listed twice
    (by their bytes), balance of the classes. With ``deep`` every file is read: damaged images, label values outside the
    class list, empty masks, masks on another grid than their image; images that are listed twice are then found by
    their voxels.

    Args:
        source: the manifest, or its folder.
        deep: read every file.

    Returns:
        the findings, errors first; empty if all is well.

    Raises:
        DataError: if the manifest itself cannot be read as JSON.
    """
    raw, path = read_raw_manifest(source)
    found = [Finding("error", problem.kind, problem.where, problem.text) for problem in problems(raw)]
    manifest = usable_manifest(raw, path)
    if manifest is not None:
        listed = [
            _Entry(section, number, entry)
            for section in SECTIONS
            for number, entry in enumerate(manifest.sections.get(section, []), 1)
        ]
        found.extend(_check_files(manifest, listed, deep))
        found.extend(_check_patients(listed))
        found.extend(_check_balance(manifest))
    return sorted(found, key=lambda finding: finding.level)


def usable_manifest(raw: dict[str, Any], path: Path) -> Manifest | None:
    """Build a manifest although patients are on both sides of a split; ``None`` where its entries cannot be read."""
    if any(problem.kind not in _HARMLESS_TO_READ for problem in problems(raw)):
        return None
    return build_manifest(raw, path)


def class_counts(manifest: Manifest) -> dict[str, dict[str, int]]:
    """Count the entries of each class in each section; empty for a task without classes of entries."""
    if manifest.task != "classification":
        return {}
    return {
        section: {
            name: sum(entry.get("label") == index for entry in entries) for index, name in enumerate(manifest.labels)
        }
        for section, entries in manifest.sections.items()
        if manifest.has_truth(section)
    }


def _check_files(manifest: Manifest, listed: list[_Entry], deep: bool) -> Iterator[Finding]:
    """Look at every file: there, not empty, readable, what it should be, and listed once."""
    checker = FileCheck(manifest.task, len(manifest.labels), deep)
    prints: defaultdict[str, list[_Entry]] = defaultdict(list)
    for entry in track(listed, "checking files"):
        for kind, text in checker.problems(entry.item):
            yield Finding("warning" if kind == "empty mask" else "error", kind.split()[-1], entry.where, text)
        if checker.fingerprint:
            prints[checker.fingerprint].append(entry)
    for name, index in checker.unused_labels(manifest.labels):
        yield Finding(
            "warning", "mask", "", f"label {index} ({name}) is in no mask; is it named in `labels` by mistake?"
        )
    for same in prints.values():
        yield from _check_same(same)


def _check_same(same: list[_Entry]) -> Iterator[Finding]:
    """Judge entries that hold the same image."""
    first = same[0]
    for other in same[1:]:
        same_file = other.item["image"] == first.item["image"] and other.section == first.section
        if same_file and other.item.get("position") != first.item.get("position"):
            continue  # two points of one scan
        first_name = f"entry {first.number} of `{first.section}`"
        if other.section != first.section:
            yield Finding("error", "duplicate", other.where, f"is the same image as {first_name}; list it once.")
        elif other.item.get("patient") != first.item.get("patient"):
            text = f"is the same image as {first_name}, but of another patient; a split would tear them apart."
            yield Finding("error", "duplicate", other.where, text)
        elif other.item.get("label") != first.item.get("label"):
            text = f"is the same image as {first_name}, but has another label; correct one of them."
            yield Finding("error", "duplicate", other.where, text)
        else:
            yield Finding("warning", "duplicate", other.where, f"is the same image as {first_name}; list it once.")


def _check_patients(listed: list[_Entry]) -> Iterator[Finding]:
    unnamed = [entry for entry in listed if not entry.item.get("patient")]
    if len(unnamed) == len(listed):
        yield Finding(
            "warning",
            "patient",
            "",
            "no entry names its `patient`, so nothing can be split; name the finest honest group.",
        )
    elif unnamed:
        yield Finding(
            "warning",
            "patient",
            unnamed[0].where,
            f"{len(unnamed)} of {len(listed)} entries, this one first, name no `patient` and cannot be split.",
        )


def _check_balance(manifest: Manifest) -> Iterator[Finding]:
    for section, counts in class_counts(manifest).items():
        absent = [name for name, count in counts.items() if count == 0]
        level: Literal["error", "warning"] = "error" if section == "training" else "warning"
        if absent:
            yield Finding(level, "balance", "", f"`{section}` has no entry of {', '.join(absent)}; add some.")
        present = Counter({name: count for name, count in counts.items() if count})
        (most, many), (least, few) = present.most_common(1)[0], present.most_common()[-1]
        if many > IMBALANCE * few:
            text = (
                f"`{section}` has {many} entries of {most} and {few} of {least}; consider weights or more of the rare."
            )
            yield Finding("warning", "balance", "", text)
