"""What cohorts of phantoms in official layouts share: a manifest that says so and holds out a test."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from medresnet3d.data.manifest_rules import SECTIONS
from medresnet3d.errors import DataError
from medresnet3d.io.atomic import atomic_write_text


def segmentation_manifest(
    folder: Path, name: str, description: str, labels: Mapping[str, str], entries: Sequence[Mapping[str, str]]
) -> Path:
    """Write ``manifest.json`` of phantoms in T1 contrast that lie in ``folder`` with their label maps.

    Args:
        folder: of the manifest.
        name: of the set.
        description: what they are, in a sentence.
        labels: names of the structures by number.
        entries: ``image``, ``mask`` and ``patient`` of each, for training.

    Returns:
        Path of the manifest.
    """
    manifest = {
        "name": name,
        "task": "segmentation",
        "modality": "MR T1",
        "description": description,
        "licence": "Apache-2.0",
        "labels": labels,
        "training": entries,
    }
    atomic_write_text(folder / "manifest.json", json.dumps(manifest, indent=1))
    return folder / "manifest.json"


def as_phantoms(manifest: Path) -> Path:
    """Say in a prepared manifest that its data are phantoms, and make validation and test lists of its last two folds.

    Args:
        manifest: as :func:`medresnet3d.data.preparation.prepare.prepare` left it; it is written anew.

    Returns:
        The same path.

    Raises:
        DataError: if it has fewer than three folds.
    """
    content = json.loads(manifest.read_text(encoding="utf-8"))
    content |= {
        "name": f"phantoms in the layout of {content['name']}",
        "description": f"Synthetic images, no patients. {content['description']}",
        "licence": "Apache-2.0",
        "source": "medresnet3d.data.phantoms",
    }
    content.pop("counts", None)  # of the sections before they are shared out
    entries = [entry for section in SECTIONS for entry in content.pop(section, [])]
    folds = sorted({entry.get("fold", 0) for entry in entries})
    if len(folds) < len(SECTIONS):
        raise DataError(f"{manifest}: has {len(folds)} folds; at least {len(SECTIONS)} are needed to hold two out.")
    sections = dict.fromkeys(folds[:-2], "training") | {folds[-2]: "validation", folds[-1]: "test"}
    for section in ("training", "validation", "test"):
        content[section] = []
    for entry in entries:
        content[sections[entry.pop("fold")]].append(entry)
    atomic_write_text(manifest, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return manifest
