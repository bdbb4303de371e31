"""Files of one case found by the names of their modalities: ``T1``, ``T1_IR``, ``T2_FLAIR``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medresnet3d.data.cases import stem
from medresnet3d.errors import ConfigError, DataError

Incomplete = tuple[str, list[str], DataError]
"""A case by its path, the files that were found of it, and what is wrong."""


def group_modalities(
    listed: Sequence[dict[str, Any]], modalities: Sequence[str]
) -> tuple[list[dict[str, Any]], list[Incomplete]]:
    """Join files into cases with one file for each modality.

    A file belongs to the modality that its name (without suffix) ends with, the longest where there are several; files
    in one folder whose names begin alike are one case: ``1/T1.nii``, ``1/T1_IR.nii``, or ``sub-01_T1.nii.gz``,
    ``sub-01_T1_IR.nii.gz``. Files of no modality are left out.

    Args:
        listed: items with ``image``; those of a manifest (a list, or further keys) stay as they are.
        modalities: names in the order of the network's channels.

    Returns:
        Items with ``image``, a list of paths, and ``named_after``, a path that the case gets its name from; and the
        cases that lack a modality or have one twice, with the error.

    Raises:
        ConfigError: if a name is missing or there twice.
        DataError: if there is no case.
    """
    names = [name.strip() for name in modalities]
    if not all(names) or len({name.casefold() for name in names}) < len(names):
        raise ConfigError(f"--modalities {','.join(modalities)}: name each modality once, with commas between them.")
    cases: dict[str, dict[str, list[str]]] = {}
    whole: list[dict[str, Any]] = []
    for item in listed:
        if item.keys() != {"image"} or isinstance(item["image"], list):
            whole.append(item)
        else:
            _add(cases, item["image"], names)
    if not cases and not whole:
        raise DataError(f"No file's name ends with {' or '.join(names)}; check --modalities.")
    incomplete = [
        (case, _files(found), error) for case, found in cases.items() if (error := _problem(case, found, names))
    ]
    bad = {case for case, _, _ in incomplete}
    joined = [
        {"image": [found[name][0] for name in names], "named_after": case}
        for case, found in cases.items()
        if case not in bad
    ]
    return [*whole, *joined], incomplete


def _files(found: dict[str, list[str]]) -> list[str]:
    return [path for paths in found.values() for path in paths]


def _add(cases: dict[str, dict[str, list[str]]], path: str, names: Sequence[str]) -> None:
    name = stem(path)
    fitting = [each for each in names if name.casefold().endswith(each.casefold())]
    if not fitting:
        return
    modality = max(fitting, key=len)
    beginning = name[: len(name) - len(modality)].rstrip("_-. ")
    folder = Path(path).parent
    cases.setdefault(str(folder / beginning if beginning else folder), {}).setdefault(modality, []).append(path)


def _problem(case: str, found: dict[str, list[str]], names: Sequence[str]) -> DataError | None:
    missing = [name for name in names if name not in found]
    if missing:
        there = ", ".join(Path(path).name for path in _files(found))
        return DataError(f"{case}: beside {there} there is no {', no '.join(missing)}; add it or check --modalities.")
    for modality, paths in found.items():
        if len(paths) > 1:
            both = " and ".join(Path(path).name for path in paths)
            return DataError(f"{case}: {both} are both the {modality} of one case; name one of them.")
    return None
