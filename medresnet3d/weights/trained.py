"""Weights that a training of one's own left behind, and the classes that they know."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from medresnet3d.errors import WeightsError

_WEIGHTS, _METADATA = Path("models") / "model.pt", Path("configs") / "metadata.json"


@dataclass(frozen=True)
class TrainedWeights:
    """A file of weights.

    Attributes:
        file: the weights.
        classes: names of the classes in their order; None where nothing says so.
    """

    file: Path
    classes: tuple[str, ...] | None


def find_trained(path: str | os.PathLike[str]) -> TrainedWeights:
    """Find the weights of a run folder, of a bundle folder, or in a file, and the classes that lie beside them.

    Args:
        path: a folder that ``medresnet3d train`` wrote, a bundle folder, or a file of weights; the classes of
            ``models/model.pt`` are those of ``configs/metadata.json``.

    Raises:
        WeightsError: for a folder that holds no weights.
    """
    path = Path(path)
    if not path.is_dir():
        return TrainedWeights(path, _classes(path.parent.parent) if path.match(str(_WEIGHTS)) else None)
    for bundle in (path / "bundle", path):
        if (bundle / _WEIGHTS).is_file():
            return TrainedWeights(bundle / _WEIGHTS, _classes(bundle))
    raise WeightsError(
        f"{path}: the folder holds no {_WEIGHTS}, neither itself nor in `bundle`; give a run folder of a training that "
        "has come to its end, a bundle with weights, or a file."
    )


def _classes(bundle: Path) -> tuple[str, ...] | None:
    """The class names in a bundle's metadata, in the order of their numbers."""
    try:
        labels = json.loads((bundle / _METADATA).read_text(encoding="utf-8"))["labels"]
        return tuple(str(labels[number]) for number in sorted(labels, key=int))
    except (OSError, ValueError, KeyError, TypeError):
        return None
