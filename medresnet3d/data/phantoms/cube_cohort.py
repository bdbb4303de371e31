"""A small data set of phantom nodule cubes with its manifest: the quickest food for a cube classifier."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np

from medresnet3d.data.phantoms.nodule_cubes import CUBE_KINDS, DISTRACTORS, nodule_cube
from medresnet3d.errors import ConfigError
from medresnet3d.io.atomic import atomic_path, atomic_write_text

LABELS = {"0": "non-nodule", "1": "nodule"}
NODULES = tuple(kind for kind in CUBE_KINDS if kind not in DISTRACTORS)
NORMAL = ("vessel", "airway")
"""Structures of a healthy lung."""


def write_nodule_cubes(
    folder: str | Path, cubes: int = 60, size: int = 40, seed: int = 0, *, parts: tuple[int, int, int] = (4, 1, 1)
) -> Path:
    """Write cubes as NIfTI files in HU with 1 mm voxels, half of them nodules, half vessels and other look-alikes.

    Args:
        folder: created if absent.
        cubes: how many.
        size: voxels along each edge.
        seed: the same seed writes the same cubes.
        parts: shares of training, validation and test; each cube is a patient of its own.

    Returns:
        the manifest, with entries of the key ``kind`` beside the usual ones.

    Raises:
        ConfigError: if there are too few cubes for each part to have both classes.
    """
    kinds = (DISTRACTORS, NODULES)
    return _write(Path(folder), "phantom_nodule_cubes", LABELS, kinds, cubes, size, seed, parts)


def write_tumour_cubes(
    folder: str | Path, cubes: int = 60, size: int = 40, seed: int = 0, *, parts: tuple[int, int, int] = (4, 1, 1)
) -> Path:
    """Write cubes of which half have a tumour in the middle, half a vessel or an airway of a healthy lung.

    Args:
        folder: see :func:`write_nodule_cubes`, as for the next four.
        cubes: how many.
        size: voxels along each edge.
        seed: the same seed writes the same cubes.
        parts: shares of training, validation and test.

    Returns:
        the manifest, with the classes ``normal`` and ``tumour``.

    Raises:
        ConfigError: if there are too few cubes for each part to have both classes.
    """
    labels = {"0": "normal", "1": "tumour"}
    return _write(Path(folder), "phantom_tumour_cubes", labels, (NORMAL, NODULES), cubes, size, seed, parts)


def _write(
    folder: Path,
    name: str,
    labels: dict[str, str],
    kinds_of: tuple[tuple[str, ...], tuple[str, ...]],
    cubes: int,
    size: int,
    seed: int,
    parts: tuple[int, int, int],
) -> Path:
    """Write cubes of two classes, each with its kinds of structures in the middle."""
    sections = ("training", "validation", "test")
    bounds = np.rint(np.cumsum([0, *parts]) / sum(parts) * (cubes // 2)).astype(int)
    if cubes % 2 or (np.diff(bounds) < 1).any():
        raise ConfigError(f"{name}: cubes={cubes} cannot be shared out; give an even and larger number.")
    rng = np.random.default_rng(seed)
    entries: dict[str, list[dict[str, object]]] = {section: [] for section in sections}
    for pair in range(cubes // 2):
        section = sections[int(np.searchsorted(bounds, pair, side="right")) - 1]
        for label, kinds in enumerate(kinds_of):
            kind = str(rng.choice(kinds))
            case = f"cube{2 * pair + label:03d}"
            array, _ = nodule_cube([seed, pair, label], kind, size)
            affine = np.diag([1.0, 1.0, 1.0, 1.0])
            affine[:3, 3] = rng.uniform(-150, 150, 3).round(1)
            with atomic_path(folder / "images" / f"{case}.nii.gz") as temporary:
                nibabel.save(nibabel.Nifti1Image(array, affine), temporary)
            entry = {"image": f"images/{case}.nii.gz", "label": label, "patient": case, "kind": kind}
            entries[section].append(entry)
    manifest = {
        "name": name,
        "task": "classification",
        "modality": "CT",
        "description": "Phantoms: synthetic cubes of lung in HU.",
        "labels": labels,
        **entries,
    }
    atomic_write_text(folder / "manifest.json", json.dumps(manifest, indent=1) + "\n")
    return folder / "manifest.json"
