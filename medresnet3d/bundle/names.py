"""The shipped tables of names that a configuration may use, and the questions the inspection asks of them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent

# arguments that MONAI turns from a text into any importable name, or that switch a safety off, with what they may be
READERS = frozenset({"ITKReader", "NibabelReader", "NrrdReader", "NumpyReader", "PILReader", "PydicomReader"})
WRITERS = frozenset({"ITKWriter", "NibabelWriter", "PILWriter"})
SLIDES = frozenset({"cuCIM", "cucim", "OpenSlide", "openslide", "TiffFile", "tifffile"})
RESTRICTED_ARGUMENTS: dict[str, frozenset[str]] = {
    "reader": READERS | SLIDES,
    "writer": WRITERS,
    "merger_cls": frozenset({"AvgMerger"}),
    "allow_pickle": frozenset(),
    "compile_kwargs": frozenset(),
    "pretrained_url": frozenset(),
    "_debug_": frozenset(),
}
WHY_RESTRICTED = {
    "reader": "MONAI imports and calls whatever this names",
    "writer": "MONAI imports and calls whatever this names",
    "merger_cls": "MONAI imports whatever this names",
    "allow_pickle": "this allows pickled objects, which can run code",
    "compile_kwargs": "compiler options can run any program",
    "pretrained_url": "this downloads a file from any address",
    "_debug_": "this stops in the debugger",
}


@cache
def _targets() -> dict[str, frozenset[str]]:
    table = json.loads((_HERE / "allowed_targets.json").read_text(encoding="utf-8"))
    return {kind: _flatten(modules) for kind, modules in table.items()}


def _flatten(modules: dict[str, list[str]]) -> frozenset[str]:
    return frozenset(f"{module}.{name}" for module, names in modules.items() for name in names)


@cache
def _bare() -> dict[str, list[str]]:
    return json.loads((_HERE / "bare_names.json").read_text(encoding="utf-8"))


def is_allowed(dotted: str) -> bool:
    """Whether a configuration may call the exact ``dotted`` name."""
    return dotted in _targets()["anywhere"] or dotted in _targets()["config_only"]


def is_config_only(dotted: str) -> bool:
    """Whether ``dotted`` may be a ``_target_`` only, where its arguments can be seen, and not part of an expression."""
    return dotted in _targets()["config_only"]


def locate_bare(name: str) -> list[str]:
    """The dotted names that MONAI's component locator would find for a ``name`` without dots."""
    return [f"{module}.{name}" for module in _bare().get(name, ())]


def argument_problem(name: str, value: object) -> str | None:
    """Why the argument ``name`` may not have the literal ``value``; ``None`` if it may.

    Args:
        name: argument name.
        value: its value as written in the configuration.
    """
    if name not in RESTRICTED_ARGUMENTS or not value:
        return None
    allowed = RESTRICTED_ARGUMENTS[name]
    values = value if isinstance(value, list) else [value]
    if all(isinstance(item, str) and item.removeprefix("monai.data.") in allowed for item in values):
        return None
    return WHY_RESTRICTED[name]
