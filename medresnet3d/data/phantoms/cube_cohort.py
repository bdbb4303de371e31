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
    folder = Path(folder)
    sections = ("training", "validation", "test")
    bounds = np.rint(np.cumsum([0, *parts]) / sum(parts) * (cubes // 2)).astype(int)
    if cubes % 2 or (np.diff(bounds) < 1).any():
        raise ConfigError(f"write_nodule_cubes: cubes={cubes} cannot be shared out; give an even and larger number.")
    rng = np.random.default_rng(seed)
    entries: dict[str, list[dict[str, object]]] = {section: [] for section in sections}
    for pair in range(cubes // 2):
        section = sections[int(np.searchsorted(bounds, pair, side="right")) - 1]
        for label, kinds in enumerate((DISTRACTORS, NODULES)):
            kind = str(rng.choice(kinds))
            name = f"cube{2 * pair + label:03d}"
            array, _ = nodule_cube([seed, pair, label], kind, size)
            affine = np.diag([1.0, 1.0, 1.0, 1.0])
            affine[:3, 3] = rng.uniform(-150, 150, 3).round(1)
            with atomic_path(folder / "images" / f"{name}.nii.gz") as temporary:
                nibabel.save(nibabel.Nifti1Image(array, affine), temporary)
            entry = {"image": f"images/{name}.nii.gz", "label": label, "patient": name, "kind": kind}
            entries[section].append(entry)
    manifest = {
        "name": "phantom_nodule_cubes",
        "task": "classification",
        "modality": "CT",
        "description": "Phantoms: synthetic cubes of lung in HU.",
        "labels": LABELS,
        **entries,
    }
    atomic_write_text(folder / "manifest.json", json.dumps(manifest, indent=1) + "\n")
    return folder / "manifest.json"
