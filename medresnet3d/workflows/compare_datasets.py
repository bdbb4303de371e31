"""Data sets that cells in one process share, so that images are read once and not once a cell."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from medresnet3d.data.dataset import SeededDataset

if TYPE_CHECKING:
    from monai.bundle import ConfigParser

_REFERENCE = re.compile(r"@[\w:#]+")
_DEPTH = 20


class DatasetShelf:
    """Keeps the last data sets by what their configuration says, all references in it resolved.

    Args:
        size: number of data sets to keep; each may hold its images in memory.
    """

    def __init__(self, size: int = 6) -> None:
        self._size = size
        self._kept: OrderedDict[str, SeededDataset] = OrderedDict()

    def place(self, parser: ConfigParser) -> dict[str, str]:
        """Put data sets that were built before into a configuration that has not been parsed yet.

        Returns:
            What :meth:`keep` needs when it has been.
        """
        keys = {part: self._key(parser, part) for part in ("train", "validate") if f"{part}::dataset" in parser}
        for part, key in keys.items():
            if key in self._kept:
                parser[f"{part}::dataset"] = self._kept[key]
        return keys

    def keep(self, parser: ConfigParser, keys: dict[str, str]) -> None:
        """Keep the data sets of a configuration that has been parsed."""
        for part, key in keys.items():
            dataset = parser.get_parsed_content(f"{part}#dataset")
            if isinstance(dataset, SeededDataset):
                self._kept[key] = dataset
                self._kept.move_to_end(key)
        while len(self._kept) > self._size:
            self._kept.popitem(last=False)

    @staticmethod
    def _key(parser: ConfigParser, part: str) -> str:
        return json.dumps(_expand(parser, f"@{part}::dataset"), sort_keys=True, default=str)


def _expand(parser: ConfigParser, value: Any, depth: int = 0) -> Any:
    """Replace references by what they refer to; an expression is kept, followed by what it refers to."""
    if depth > _DEPTH:
        return value
    if isinstance(value, dict):
        return {key: _expand(parser, each, depth + 1) for key, each in value.items()}
    if isinstance(value, list):
        return [_expand(parser, each, depth + 1) for each in value]
    if not isinstance(value, str) or not value.startswith(("@", "$")):
        return value
    names = [found.group()[1:].replace("#", "::") for found in _REFERENCE.finditer(value)]
    known = {name: _expand(parser, parser.get(name), depth + 1) for name in names if name in parser}
    return known if value.startswith("@") else [value, known]
