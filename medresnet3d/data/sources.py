"""What a person names for inference, turned into a list of cases."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from medresnet3d.data.cases import case_ids, natural_key
from medresnet3d.data.manifest import list_items, load_manifest
from medresnet3d.data.manifest_table import is_table
from medresnet3d.data.modalities import Incomplete, group_modalities
from medresnet3d.errors import DataError
from medresnet3d.io import KNOWN_SUFFIXES, is_dicom, known_suffix
from medresnet3d.io.reading import DICOM_SUFFIXES, PICTURE_SUFFIXES

PathLike = str | os.PathLike[str]
_TRUTH_KEYS = ("label", "mask", "boxes", "excluded_boxes")


def inputs(
    source: PathLike | Sequence[PathLike],
    position: Sequence[float] | None = None,
    modalities: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """List the cases that ``source`` names, for inference.

    A source is an image file, a folder, a pattern with ``*``, ``?`` or ``[…]``, or a manifest (``.json``, ``.csv`` or
    ``.tsv``, all its sections). A folder means the images directly in it, or where there are none, all below it. Each
    folder that holds DICOM files is one case, whatever the files are called.

    Args:
        source: one source, or several.
        position: the point to classify, (3,), mm, RAS+, for every case that brings none of its own.
        modalities: names of the modalities of a case, in the order of its channels: files whose names end with them
            are joined to cases, see :func:`medresnet3d.data.modalities.group_modalities`. A manifest says itself which
            files are one case.

    Returns:
        dictionaries with ``image`` and ``path`` (path, or list of paths for several modalities), ``case`` (a
        unique name) and, where known, ``position``, ``patient`` and further keys of the manifest, without its truth.
        Sorted as a person would sort them within each source.

    Raises:
        DataError: if a source does not exist or holds no image, or a case lacks a modality.
    """
    listed, incomplete = find_cases(source, position, modalities)
    if incomplete:
        raise incomplete[0][2]
    return listed


def find_cases(
    source: PathLike | Sequence[PathLike],
    position: Sequence[float] | None = None,
    modalities: Sequence[str] | None = None,
) -> tuple[list[dict[str, Any]], list[Incomplete]]:
    """As :func:`inputs`, with the cases that lack a modality set apart instead of raised.

    Raises:
        DataError: if a source does not exist or holds no image.
        ConfigError: if a modality is named twice.
    """
    sources = [source] if isinstance(source, str | os.PathLike) else list(source)
    if not sources:
        raise DataError("No input is given; name an image, a folder, a pattern or a manifest.")
    listed: list[dict[str, Any]] = []
    for one in sources:
        listed.extend(_cases_of(one))
    listed = _without_repeats(_join_slices(listed))
    incomplete: list[Incomplete] = []
    if modalities is not None:
        listed, incomplete = group_modalities(listed, modalities)
    first = [item.pop("named_after", None) or _first(item["image"]) for item in listed]
    for item, case in zip(listed, case_ids(first), strict=True):
        item["case"] = case
        item["path"] = item["image"]
        if position is not None and "position" not in item:
            item["position"] = [float(value) for value in position]
    return listed, incomplete


def _first(image: str | list[str]) -> str:
    return image[0] if isinstance(image, list) else image


def _cases_of(source: PathLike) -> Iterator[dict[str, Any]]:
    """Yield the cases of one source."""
    path = Path(source).expanduser()
    if path.is_dir():
        found = list(_images_in(path, recursive=False)) or list(_images_in(path, recursive=True))
        if not found:
            raise DataError(f"{path}: no image is in this folder; known are {_known()}.")
        scans = [one for one in found if known_suffix(one) not in PICTURE_SUFFIXES]  # pictures beside scans show them
        yield from ({"image": str(one)} for one in scans or found)
    elif _is_manifest(path) and path.is_file():
        for item in list_items(load_manifest(path)):
            yield {key: value for key, value in item.items() if key not in _TRUTH_KEYS}
    elif path.exists():
        yield {"image": str(path)}
    elif glob.has_magic(os.fspath(source)):
        matches = sorted(glob.glob(str(path), recursive=True), key=natural_key)  # noqa: PTH207 (absolute patterns)
        images = [match for match in matches if _is_source(Path(match))]
        if not images:
            what = "matches no file" if not matches else "matches no image"
            raise DataError(f"{source}: this pattern {what}; known are {_known()}.")
        for match in images:
            yield from _cases_of(match)
    else:
        raise DataError(f"{path}: no such file or folder; check the path.")


def _is_source(path: Path) -> bool:
    return path.is_dir() or known_suffix(path) is not None or _is_manifest(path) or is_dicom(path)


def _is_manifest(path: Path) -> bool:
    return path.suffix.lower() == ".json" or is_table(path)


def _images_in(folder: Path, recursive: bool) -> Iterator[Path]:
    """Yield the images of a folder in natural order; a folder of DICOM files stands for its series."""
    children = sorted((one for one in folder.iterdir() if not one.name.startswith(".")), key=_by_name)
    files = [one for one in children if one.is_file()]
    if any(_is_dicom_file(one) for one in files):
        yield folder
    yield from (one for one in files if known_suffix(one) is not None and not _is_dicom_file(one))
    for child in children if recursive else ():
        if child.is_dir():
            yield from _images_in(child, recursive)


def _by_name(path: Path) -> list[tuple[int, int, str]]:
    return natural_key(path.name)


def _is_dicom_file(path: Path) -> bool:
    suffix = known_suffix(path)
    return suffix in DICOM_SUFFIXES or (suffix is None and path.name.upper() != "DICOMDIR" and is_dicom(path))


def _without_repeats(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drop a case that is named twice, such as a file and its folder; two points of one scan are two cases."""
    unique = {(repr(item["image"]), repr(item.get("position"))): item for item in reversed(listed)}
    return list(reversed(unique.values()))


def _join_slices(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Let the slices of a series that a shell's ``series/*.dcm`` names one by one stand for their folder.

    Raises:
        DataError: if only some of a folder's DICOM files are named.
    """
    named: dict[Path, list[str]] = {}
    for item in listed:
        path = Path(item["image"]) if item.keys() == {"image"} else None  # a manifest means what it says
        if path is not None and path.is_file() and _is_dicom_file(path):
            named.setdefault(path.parent, []).append(item["image"])
    series: dict[str, str] = {}
    for folder, files in named.items():
        there = sum(one.is_file() and _is_dicom_file(one) for one in folder.iterdir()) if len(files) > 1 else 1
        if len(set(files)) < there:
            raise DataError(
                f"{folder}: {len(files)} of its {there} DICOM files are named; name the folder for the whole series."
            )
        if there > 1:
            series.update(dict.fromkeys(files, str(folder)))
    return [{**item, "image": series[item["image"]]} if str(item["image"]) in series else item for item in listed]


def _known() -> str:
    return f"{', '.join(KNOWN_SUFFIXES)} and folders of DICOM files"
