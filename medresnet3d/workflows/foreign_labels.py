"""What a bundle from elsewhere answers (its task) and what its classes are called, from its metadata alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medresnet3d.workflows.bundle_parts import label_names

_BACKGROUND = ("background", "bg", "back ground", "none", "unlabeled", "unlabelled")
_WORDS = (
    ("classification", r"classif|classes|probabilit"),
    ("segmentation", r"segment|mask|annotation"),
    ("regression", r"regress|\bage\b|\bscore|point|tuple|landmark"),
    ("detection", r"detect|\bbox"),
)


@dataclass(frozen=True)
class Meaning:
    """What the output of a network stands for.

    Args:
        task: ``"segmentation"``, ``"classification"``, ``"regression"`` or ``"conversion"``.
        labels: names in index order; for a segmentation number 0 is the background.
        structures: names of the channels, for a segmentation whose channels are structures of their own (they may
            overlap) and have no background.
        spatial_dims: 2 or 3, of the network's input.
        channels: of the network's input; 0 if the metadata does not say.
    """

    task: str
    labels: tuple[str, ...]
    structures: tuple[str, ...]
    spatial_dims: int | None
    channels: int


def read_meaning(metadata: Mapping[str, Any]) -> Meaning:
    """Read what there is to know of a bundle's answers from its ``metadata.json``."""
    formats = _mapping(metadata.get("network_data_format"))
    output = _first(_mapping(formats.get("outputs")), "pred", "type", "class")
    image = _first(_mapping(formats.get("inputs")), "image")
    spatial = output.get("spatial_shape")
    names = _by_number(metadata.get("labels")) or _by_number(output.get("channel_def"))
    task = _task(str(metadata.get("task", "")), output, bool(spatial))
    structures: tuple[str, ...] = ()
    if task == "segmentation" and names and not _is_background(names[0]):
        structures = names
        names = ("background", *names)
    shape = image.get("spatial_shape")
    dims = len(shape) if isinstance(shape, list) and len(shape) in (2, 3) else None
    channels = image.get("num_channels")
    return Meaning(task, names, structures, dims, channels if isinstance(channels, int) else 0)


def _task(stated: str, output: Mapping[str, Any], has_space: bool) -> str:
    """Tell the task from what the metadata say of the output first, then from the bundle's own words."""
    kind = f"{output.get('type', '')} {output.get('format', '')}".lower()
    for text in (kind, stated.lower()):
        found = next((task for task, words in _WORDS if re.search(words, text)), None)
        if found == "classification" and has_space:
            found = "segmentation"
        if found is not None:
            return found if found != "detection" else "conversion"
    return "conversion" if "image" in kind else "segmentation" if has_space or not output else "regression"


def _is_background(name: str) -> bool:
    return name.strip().lower() in _BACKGROUND


def _by_number(value: Any) -> tuple[str, ...]:
    """Give names in index order; numbers that are left out in between get a name of their own."""
    if not isinstance(value, Mapping):
        return label_names(value) if isinstance(value, list | tuple) else ()
    numbered: dict[int, str] = {}
    for key, name in value.items():
        if str(key).lstrip("-").isdigit():
            numbered[int(key)] = str(name)
        elif str(name).isdigit():
            numbered[int(name)] = str(key)
    numbered = {number: name for number, name in numbered.items() if number >= 0}
    if not numbered:
        return ()
    rest = (numbered.get(number, f"label {number}") for number in range(1, max(numbered) + 1))
    return (numbered.get(0, "background"), *rest)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _first(formats: Mapping[str, Any], usual: str, *parts: str) -> Mapping[str, Any]:
    """Give what is said of the usual name, else of the first name with one of ``parts`` in it, else of the first."""
    likely = [name for name in formats if any(part in str(name) for part in parts)]
    name = usual if usual in formats else next(iter(likely or formats), None)
    return _mapping(formats.get(name)) if name is not None else {}
