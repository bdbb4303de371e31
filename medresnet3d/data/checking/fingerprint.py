"""What the images of a cohort are like, as numbers for a person or a planner of trainings; nothing that names anyone.

The idea of a fingerprint that settings follow from is nnU-Net's (F. Isensee et al., Nature Methods 18, 2021); the
fields are our own. The law is ``data_manifests/fingerprint.schema.json``.
"""

from __future__ import annotations

import importlib.resources
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medresnet3d._version import __version__
from medresnet3d.data.checking.cohort import Cohort
from medresnet3d.data.checking.facts import PERCENTILES
from medresnet3d.data.checking.ledger import Ledger
from medresnet3d.data.checking.outliers import channels
from medresnet3d.errors import DataError
from medresnet3d.io.atomic import atomic_write_text

VERSION = 1
_INTENSITY = {"min": "low", **{f"p{value:g}": name for name, value in PERCENTILES.items()}, "max": "high"}
_COUNTED = {"formats": "format", "types": "dtype", "colours": "components", "orientations": "orientation"}


def fingerprint(cohort: Cohort) -> dict[str, Any]:
    """Give the fingerprint of a cohort that was checked, as plain values."""
    head, ledger = cohort.head, cohort.ledger
    return {
        "fingerprint_version": VERSION,
        "medresnet3d": __version__,
        "name": head.name,
        "task": head.task,
        "labels": list(head.labels),
        "deep": cohort.deep,
        "sections": {
            name: {**sizes, "classes": cohort.classes.get(name, {})} for name, sizes in cohort.sections.items()
        },
        "images": [_images(ledger, head.modality, channel, dims) for channel, dims in channels(ledger)],
        "masks": [_label(ledger, value, head.labels) for (value,) in _values(ledger)],
        "findings": [
            {"level": level, "kind": kind, "count": count} for (level, kind), count in ledger.finding_counts().items()
        ],
    }


def write_fingerprint(cohort: Cohort, path: Path) -> dict[str, Any]:
    """Write the fingerprint as JSON, whole or not at all, and give it."""
    content = fingerprint(cohort)
    atomic_write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return content


def load_fingerprint(path: Path) -> dict[str, Any]:
    """Read a fingerprint and hold it against its schema.

    Raises:
        DataError: if it cannot be read, is of another version, or breaks the schema.
    """
    from jsonschema import Draft202012Validator

    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a fingerprint ({error}); run `medresnet3d data check`.") from error
    version = content.get("fingerprint_version") if isinstance(content, dict) else None
    if version != VERSION:
        raise DataError(
            f"{path}: is a fingerprint of version {version}, but this release reads version {VERSION}; run "
            "`medresnet3d data check` again."
        )
    for breach in Draft202012Validator(fingerprint_schema()).iter_errors(content):
        place = ".".join(map(str, breach.absolute_path)) or "the whole"
        raise DataError(f"{path}: {place} is not what a fingerprint has ({breach.message}); make it again.")
    return content


def fingerprint_schema() -> dict[str, Any]:
    """The JSON Schema of fingerprints."""
    text = (
        importlib.resources.files("medresnet3d._data_manifests").joinpath("fingerprint.schema.json").read_text("utf-8")
    )
    return json.loads(text)


def _images(ledger: Ledger, modality: str, channel: int, dims: int) -> dict[str, Any]:
    own = (channel, dims)
    here = "FROM images WHERE channel = ? AND dims = ?"
    counts = {name: _counts(ledger, column, here, own) for name, column in _COUNTED.items()}
    content = {
        "channel": channel,
        "modality": ", ".join(_counts(ledger, "modality", here, own)) or modality,
        "dimensions": dims,
        "count": int(ledger.db.execute(f"SELECT count(*) {here}", own).fetchone()[0]),
        **counts,
        "size": _spreads(ledger, {axis: axis for axis in "ijk"}, here, own),
        "spacing_mm": _spreads(ledger, {axis: f"spacing_{axis}" for axis in "ijk"}, here, own),
        "intensity": _spreads(ledger, _INTENSITY, here, own),
        "hounsfield": _counts(ledger, "hounsfield", here, own),
    }
    return {name: value for name, value in content.items() if value or name not in ("intensity", "hounsfield")}


def _counts(ledger: Ledger, column: str, here: str, own: tuple[int, int]) -> dict[str, int]:
    query = f"SELECT {column}, count(*) {here} AND {column} IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1"
    return {str(value): count for value, count in ledger.db.execute(query, own)}


def _spreads(ledger: Ledger, columns: dict[str, str], here: str, own: tuple[int, int]) -> dict[str, dict[str, float]]:
    spreads = {name: spread(ledger.numbers(f"SELECT {column} {here}", own)[:, 0]) for name, column in columns.items()}
    return {name: value for name, value in spreads.items() if value is not None}


def spread(values: NDArray[np.float64]) -> dict[str, float] | None:
    """Give smallest, 5th percentile, median, 95th percentile and largest of what is known; ``None`` if nothing is."""
    known = values[np.isfinite(values)]
    if not known.size:
        return None
    points = np.percentile(known, (0, 5, 50, 95, 100))
    return {name: round(float(v), 6) for name, v in zip(("min", "p05", "median", "p95", "max"), points, strict=True)}


def _values(ledger: Ledger) -> list[tuple[int]]:
    return ledger.db.execute("SELECT DISTINCT value FROM masks ORDER BY 1 LIMIT 256").fetchall()


def _label(ledger: Ledger, value: int, labels: tuple[str, ...]) -> dict[str, Any]:
    voxels = ledger.numbers("SELECT voxels FROM masks WHERE value = ?", (value,))[:, 0]
    name = labels[value] if 0 <= value < len(labels) else None
    return {"value": value, "name": name, "masks": len(voxels), "voxels": spread(voxels)}
