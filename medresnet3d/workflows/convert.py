"""Scans into image files: DICOM, or any other format that can be read, as NIfTI, MetaImage or NRRD."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medresnet3d.errors import AmbiguousInputError, ConfigError, DataError, ExitCode
from medresnet3d.io import (
    SeriesInfo,
    Volume,
    atomic_write_text,
    is_dicom,
    known_suffix,
    list_series,
    load,
    load_all,
    load_each,
    save_itk,
    save_nifti,
)
from medresnet3d.io.dicom_values import text
from medresnet3d.io.reading import ARCHIVE_SUFFIXES, DICOM_SUFFIXES
from medresnet3d.progress import Progress
from medresnet3d.workflows.pseudonym import check_phi
from medresnet3d.workflows.scan_facts import index_text, series_facts, volume_facts

PathLike = str | os.PathLike[str]

WRITTEN_SUFFIXES = (".nii.gz", ".nii", ".mha", ".nrrd")
INDEX = "series.json"
_NOT_WRITTEN = {
    *(".dcm", ".dicom", ".ima", ".zip", ".gz", ".hdr", ".img", ".mhd", ".nhdr", ".json", ".mgz", ".mgh", ".mnc"),
    *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".npy", ".npz", ".mat", ".csv", ".txt"),
}


@dataclass
class Conversion:
    """What a run of :func:`convert` did.

    Args:
        files: the images that were written, by id of the series.
        rows: what was found, as in the JSON file.
        errors: what went wrong, by id of the series.
        index: the JSON file; ``None`` where nothing was written.
    """

    files: dict[str, Path] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    errors: dict[str, DataError] = field(default_factory=dict)
    index: Path | None = None

    @property
    def exit_code(self) -> ExitCode:
        """0 if everything that is a volume was written, 1 if some was, 3 if nothing was."""
        if not self.files:
            return ExitCode.NOTHING_DONE
        return ExitCode.SOME_FAILED if self.errors else ExitCode.OK


def convert(
    source: PathLike | Sequence[PathLike],
    output: PathLike,
    *,
    series: str | None = None,
    strict: bool = False,
    phi: str = "pseudonym",
) -> Conversion:
    """Write scans as image files, and beside them a JSON file of what each is.

    Where ``output`` is a file, the only volume becomes that file; several volumes get the id of their series behind its
    name (``scan_4.nii.gz``, ``scan_5.1.nii.gz``). Where it is a folder, they are called ``series_4.nii.gz`` and so on.
    The volumes of a four-dimensional file are numbered from 0. A series that cannot be read becomes an error and stops
    nothing. Voxels that are NaN or infinite are written as they are, with a warning. An interrupted run leaves its
    images and the JSON file of those that are complete.

    Args:
        source: a file, a DICOM folder, a ZIP archive, or a list of DICOM files of one folder.
        output: a file that ends in ``.nii.gz``, ``.nii``, ``.mha`` or ``.nrrd``; anything else is a folder.
        series: id or UID of the only DICOM series to convert, or number of a volume; by default every volumetric one.
        strict: refuse a geometry that would have to be repaired.
        phi: what the JSON says of the patient: ``"none"``, ``"pseudonym"`` or ``"keep"``.

    Returns:
        what was written and what failed.

    Raises:
        ConfigError: if the output cannot be meant, or ``phi`` is unknown.
        AmbiguousInputError: if there is no such series, or it holds several volumes; the message lists what there is.
        DataError: if the source does not exist or holds nothing to read, or the output cannot be written.
        KeyboardInterrupt: after an interruption, once the JSON file is written.
    """
    check_phi(phi)
    paths = _sources(source)
    target = _Target(output, paths)
    done = Conversion()
    try:
        _write_all(paths, target, done, series=series, strict=strict, phi=phi)
    except KeyboardInterrupt as interruption:
        _write_index(paths, target, done)
        raise KeyboardInterrupt(f"Interrupted; {_complete(len(done.files))}") from interruption
    if not done.files and not done.errors:
        raise DataError(f"{paths[0]}: {_why_nothing(done.rows)}")
    if len(done.files) == 1 and not done.errors:
        target.is_only_one(done.files)
    _write_index(paths, target, done)
    return done


def _write_all(
    paths: Sequence[Path], target: _Target, done: Conversion, *, series: str | None, strict: bool, phi: str
) -> None:
    with Progress("converting") as progress:
        for name, info, outcome in _volumes(paths, series, strict):
            row: dict[str, Any] = {"id": name, "file": None, **({} if info is None else series_facts(info))}
            try:
                if isinstance(outcome, DataError):
                    raise outcome
                if outcome is not None:
                    done.files[name] = target.write(outcome, name)
                    row |= volume_facts(outcome, phi)
                    row["warnings"] += [*_lonely_slice(paths, outcome), *_not_finite(outcome)]
            except DataError as error:
                done.errors[name] = error
                row["error"] = _without(paths, str(error))
            done.rows.append(row)
            progress.advance(status=name)


def _complete(count: int) -> str:
    return f"{count} of the volumes {'is' if count == 1 else 'are'} complete."


def _write_index(paths: Sequence[Path], target: _Target, done: Conversion) -> None:
    for row in done.rows:
        row["file"] = done.files[row["id"]].name if row["id"] in done.files else None
        row["warnings"] = [_without(paths, sentence) for sentence in row.get("warnings", ())]
    if done.files:
        done.index = target.write_index(index_text(done.rows))


def list_scans(source: PathLike | Sequence[PathLike]) -> list[SeriesInfo] | Volume:
    """Give the series among DICOM files, or else the one image that is there.

    Raises:
        AmbiguousInputError: if the file holds several volumes; the message says how many.
        DataError: if the source does not exist or holds nothing to read.
    """
    paths = _sources(source)
    return list_series(_one_or_all(paths)) if _holds_dicom(paths) else load(paths[0], constant_ok=True, nan_ok=True)


def _sources(source: PathLike | Sequence[PathLike]) -> list[Path]:
    """Give the paths, with those that a shell made of ``folder/*`` complete."""
    given = [source] if isinstance(source, str | os.PathLike) else list(source)
    paths = [Path(one).expanduser() for one in given]
    if not paths:
        raise ConfigError("no input is given; name a DICOM folder or an image file.")
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder; check the path.")
    folders = [path for path in paths if path.is_dir()]
    if folders and len(paths) > 1:
        raise ConfigError(f"{folders[0]}: is one of {len(paths)} inputs; convert folders one by one.")
    return paths


def _holds_dicom(paths: Sequence[Path]) -> bool:
    suffix = known_suffix(paths[0])
    if len(paths) > 1 or paths[0].is_dir() or suffix in DICOM_SUFFIXES + ARCHIVE_SUFFIXES:
        return True
    return suffix is None and is_dicom(paths[0])


def _one_or_all(paths: Sequence[Path]) -> PathLike | Sequence[PathLike]:
    return paths[0] if len(paths) == 1 else list(paths)


def _volumes(
    paths: Sequence[Path], series: str | None, strict: bool
) -> Iterator[tuple[str, SeriesInfo | None, Volume | DataError | None]]:
    """Yield what there is: an id, what the series is, and its volume, error or, for what is no volume, ``None``."""
    if not _holds_dicom(paths):
        yield from _of_one_file(paths[0], series)
    elif series is None:
        for info, outcome in load_all(_one_or_all(paths), strict=strict, constant_ok=True, nan_ok=True):
            yield info.id, info, outcome
    else:
        try:
            volume = load(_one_or_all(paths), series, strict=strict, constant_ok=True, nan_ok=True)
        except AmbiguousInputError:
            raise
        except DataError as error:
            yield series, None, error
        else:
            name = series if series != volume.source.series else text(volume.source.datasets[0], "SeriesNumber", "1")
            yield name, None, volume


def _of_one_file(path: Path, series: str | None) -> Iterator[tuple[str, None, Volume | DataError]]:
    """Read a file that is no DICOM: its only image, all its volumes numbered from 0, or the one that is chosen."""
    try:
        volume = load(path, constant_ok=True, nan_ok=True)
    except AmbiguousInputError:
        if series is not None:
            yield series, None, load(path, series, constant_ok=True, nan_ok=True)
            return
        yield from _numbered(path)
        return
    if series is not None:
        raise ConfigError(f"--series {series}: {path} holds one image, so there is nothing to choose; leave it out.")
    yield "1", None, volume


def _numbered(path: Path) -> Iterator[tuple[str, None, Volume | DataError]]:
    """Read all volumes of a file; one that is damaged ends with an error for the first that is lost."""
    number = 0
    try:
        for volume in load_each(path, constant_ok=True, nan_ok=True):
            yield str(number), None, volume
            number += 1
    except DataError as error:
        yield str(number), None, error


def _not_finite(volume: Volume) -> list[str]:
    if volume.array.dtype.kind != "f":
        return []
    bad = volume.array.size - int(np.count_nonzero(np.isfinite(volume.array)))
    if not bad:
        return []
    return [f"{bad} of {volume.array.size} voxels are NaN or infinite; they were written so, and infer refuses them."]


def _lonely_slice(paths: Sequence[Path], volume: Volume) -> list[str]:
    """Notice that one file of a series was named where its folder was meant."""
    if len(paths) > 1 or paths[0].is_dir() or volume.source.format != "dicom" or volume.shape[2] > 1:
        return []
    others = sum(is_dicom(path) for path in paths[0].parent.iterdir()) - 1
    if others < 1 or paths[0].suffix.lower() in ARCHIVE_SUFFIXES:
        return []
    return [f"This is a single slice, and its folder holds {others} more DICOM files; name the folder for all of them."]


class _Target:
    """Where the images and the JSON file go.

    Raises:
        ConfigError: if the name cannot be meant.
    """

    def __init__(self, output: PathLike, sources: Sequence[Path]) -> None:
        self.path = Path(output).expanduser()
        name = self.path.name.lower()
        self.suffix = next((one for one in WRITTEN_SUFFIXES if name.endswith(one)), "")
        if self.path.is_dir():
            self.suffix = ""
        elif not self.suffix and (self.path.suffix.lower() in _NOT_WRITTEN or self.path.exists()):
            raise ConfigError(
                f"-o {self.path}: this is no format that can be written; end it in {', '.join(WRITTEN_SUFFIXES)}, or "
                "name a folder."
            )
        if any(self.path.resolve() == source.resolve() and not source.is_dir() for source in sources):
            raise ConfigError(f"-o {self.path}: is the input itself; choose another name.")
        self.stem = self.path.name[: -len(self.suffix)] if self.suffix else "series"
        self.folder = self.path.parent if self.suffix else self.path
        self.index = self.folder / (f"{self.stem}.json" if self.suffix else INDEX)
        if not _is_index(self.index):
            raise ConfigError(
                f"{self.index}: the list of what each image is would replace this file; choose another name."
            )

    def write(self, volume: Volume, name: str) -> Path:
        """Write one volume under the id of its series."""
        file = self.folder / f"{self.stem}_{re.sub(r'[^A-Za-z0-9.-]', '_', name)}{self.suffix or '.nii.gz'}"
        if volume.channels > 1:
            raise DataError(f"{volume.source.name}: is a colour picture; convert writes grey images only.")
        if self.suffix in (".mha", ".nrrd"):
            return save_itk(volume.array, volume.affine, file)
        return save_nifti(volume.array, volume.affine, file, like=volume)

    def is_only_one(self, files: dict[str, Path]) -> None:
        """Give the only image the name that was asked for, where it was the name of a file."""
        if self.suffix:
            ((name, file),) = files.items()
            files[name] = file.replace(self.path)

    def write_index(self, content: str) -> Path:
        """Write the JSON file."""
        atomic_write_text(self.index, content)
        return self.index


def _is_index(path: Path) -> bool:
    """Tell whether the JSON file may be written: there is none, or one that an earlier conversion left."""
    try:
        return "series" in json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return True
    except (OSError, ValueError, TypeError):
        return False


def _without(paths: Sequence[Path], sentence: str) -> str:
    """Leave out where the scans lie, since folders are often named after patients."""
    for path in (*paths, paths[0].parent):
        sentence = sentence.replace(f"{path}: ", "").replace(f"{path} ", "")
    return sentence


def _why_nothing(rows: Sequence[dict[str, Any]]) -> str:
    kinds = ", ".join(dict.fromkeys(str(row.get("note") or "images") for row in rows)) or "no image"
    return f"holds only {kinds}, and convert writes grey images only."
