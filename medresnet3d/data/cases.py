"""Names of cases: unique, file-name friendly, in the order a person would sort them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

_DOUBLE_SUFFIXES = (".nii.gz", ".hdr.gz", ".img.gz", ".ome.tif", ".ome.tiff")


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key that puts ``scan2`` before ``scan10``."""
    parts = re.split(r"(\d+)", text.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def stem(path: str | Path) -> str:
    """The file name without its format's suffix: ``scan`` for ``a/scan.nii.gz``."""
    path = Path(path)
    name = path.name
    for suffix in _DOUBLE_SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    # A DICOM series is a folder, and 1.2.840.10008 is no file with the suffix .10008.
    return path.stem if re.fullmatch(r"\.[A-Za-z][A-Za-z0-9]{1,5}", path.suffix) else name


def case_ids(paths: Sequence[str | Path]) -> list[str]:
    """Name every path: its stem, with parent folders in front where two are the same, and a count where that fails.

    Args:
        paths: one path for each case; the same path may be there twice (two points of one scan).

    Returns:
        unique names of letters, digits, ``-``, ``_`` and ``.``, in the order of ``paths``.
    """
    resolved = [Path(path) for path in paths]
    names = [_friendly(stem(path)) for path in resolved]
    for depth in range(1, max((len(path.parts) for path in resolved), default=0)):
        places: dict[str, set[Path]] = {}
        for name, path in zip(names, resolved, strict=True):
            places.setdefault(name.casefold(), set()).add(path)
        if all(len(there) == 1 for there in places.values()):
            break
        for index, path in enumerate(resolved):
            if len(places[names[index].casefold()]) > 1 and depth < len(path.parts) - 1:
                names[index] = f"{_friendly(path.parts[-1 - depth])}_{names[index]}"
    return _counted(names)


def _counted(names: list[str]) -> list[str]:
    """Add ``_2``, ``_3`` … to names that are still there twice (compared without case, as some disks do)."""
    total = Counter(name.casefold() for name in names)
    taken = {name for name, count in total.items() if count == 1}
    unique = []
    for name in names:
        candidate, number = name, 1
        while total[name.casefold()] > 1 and candidate.casefold() in taken:
            number += 1
            candidate = f"{name}_{number}"
        taken.add(candidate.casefold())
        unique.append(candidate)
    return unique


def _friendly(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text).strip("._") or "case"
