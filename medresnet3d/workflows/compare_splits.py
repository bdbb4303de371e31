"""The splits of a comparison, written down as manifests, so that all cells share them by construction."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medresnet3d.data.manifest import Manifest, build_manifest, items, list_items
from medresnet3d.data.manifest_rules import SECTIONS
from medresnet3d.data.splits import choose_validation
from medresnet3d.io.atomic import atomic_write_text

INNER_FRACTION = 0.2
SPLIT_SEED = 0


@dataclass(frozen=True)
class Split:
    """One division of a data set.

    Attributes:
        outer: manifest of what is trained on and what the result is measured on.
        inner: manifest in which the training part of ``outer`` is divided once more, for choices.
        training: number of training cases.
        validation: number of cases that the result is measured on.
    """

    outer: Path
    inner: Path
    training: int
    validation: int


def write_split(manifest: Manifest, folder: Path, fold: int | None = None, folds: int = 5) -> Split:
    """Divide a data set and write the parts as manifests; the same data give the same files.

    Args:
        manifest: the data set.
        folder: gets ``fixed.json`` or ``fold_K_of_N.json`` and the inner one beside it.
        fold: hold out this patient-wise fold of the training section; ``None``: the manifest's validation list, or a
            fifth of the patients where it has none.
        folds: number of folds.

    Raises:
        DataError: if the data set cannot be split.
    """
    training = items(manifest, "training", fold=fold, folds=folds, seed=SPLIT_SEED)
    held_out = items(manifest, "validation", fold=fold, folds=folds, seed=SPLIT_SEED)
    raw = _raw_entries(manifest)
    parts = {
        "training": [raw[item["case"]] for item in training],
        "validation": [raw[item["case"]] for item in held_out],
    }
    name = "fixed" if fold is None else f"fold_{fold}_of_{folds}"
    outer, inner = folder / f"{name}.json", folder / f"{name}_inner.json"
    _write(manifest, parts, outer)
    _write(manifest, _divide(manifest, training, parts["training"]), inner)
    return Split(outer, inner, len(training), len(held_out))


def _raw_entries(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Give the entries as the manifest has them, by case name."""
    entries = [entry for section in SECTIONS for entry in manifest.raw.get(section, [])]
    return {item["case"]: entry for item, entry in zip(list_items(manifest), entries, strict=True)}


def _divide(manifest: Manifest, training: list[dict[str, Any]], raw: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Divide the training part by patient once more; entries without a patient stay in training."""
    known = [i for i, item in enumerate(training) if item.get("patient")]
    patients = [training[i]["patient"] for i in known]
    inside: set[int] = set()
    if len(set(patients)) > 1:
        classes = [training[i]["label"] for i in known] if manifest.task == "classification" else None
        chosen = choose_validation(patients, INNER_FRACTION, classes=classes, seed=SPLIT_SEED)
        inside = {i for i, out in zip(known, chosen, strict=True) if out}
    return {
        "training": [entry for i, entry in enumerate(raw) if i not in inside],
        "validation": [entry for i, entry in enumerate(raw) if i in inside],
    }


def _write(manifest: Manifest, parts: dict[str, list[Any]], path: Path) -> None:
    raw = {key: value for key, value in manifest.raw.items() if key not in SECTIONS}
    origin = manifest.path or Path.cwd() / "manifest.json"
    raw["root"] = str((origin.parent / manifest.raw.get("root", "")).resolve())
    content = {**raw, **{name: entries for name, entries in parts.items() if entries}}
    build_manifest(content, path)  # a manifest that cannot be read back is an error here, not in every cell
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        atomic_write_text(path, text)
