"""DICOM in: a folder, nested folders, one file, a list of files, a DICOMDIR or a ZIP archive of them."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from medresnet3d.errors import AmbiguousInputError, DataError, GeometryError
from medresnet3d.io.checks import check_affine, check_voxels
from medresnet3d.io.dicom_headers import dicom_files, read_headers
from medresnet3d.io.dicom_pixels import read_voxels
from medresnet3d.io.dicom_series import SeriesInfo, find_series
from medresnet3d.io.dicom_slices import Slice
from medresnet3d.io.dicom_values import number, text
from medresnet3d.io.reading import PathLike, existing
from medresnet3d.io.volume import Source, Volume, stand_in


def list_series(path: PathLike | Sequence[PathLike]) -> list[SeriesInfo]:
    """List the DICOM series, and the volumes in them, of a folder, file, list of files, DICOMDIR or ZIP archive.

    Args:
        path: where to look; folders are searched with all their sub-folders.

    Returns:
        One entry for each volume and each image that is none, in order of SeriesNumber. Files extracted from a ZIP
        archive are gone when this returns, but everything shown here comes from the headers.

    Raises:
        DataError: if there is nothing to read, or a file is damaged.
    """
    with _found(path) as (found, _, _):
        return found


def load_all(
    path: PathLike | Sequence[PathLike], *, strict: bool = False, constant_ok: bool = False, nan_ok: bool = False
) -> Iterator[tuple[SeriesInfo, Volume | DataError | None]]:
    """Read every volume among DICOM files, one after the other; the headers are parsed once.

    Args:
        path: as for :func:`list_series`.
        strict: refuse what would be repaired with a warning, as for :func:`medresnet3d.io.load`.
        constant_ok: accept images that have one value everywhere.
        nan_ok: accept voxels that are NaN or infinite.

    Yields:
        For each entry of :func:`list_series`, in its order, the entry and its volume; or the error that says why it
        cannot be read; or ``None`` for what is no volume (localisers, colour images, single images). Where no entry is
        a volume, grey images are read as volumes of one slice. A volume is not kept here once the next is asked for.

    Raises:
        DataError: if there is nothing to read, or a file is damaged.
    """
    with _found(path) as (found, source, name):
        wanted = [info for info in found if info.volumetric] or [info for info in found if info.readable]
        for info in found:
            if info not in wanted:
                yield info, None
                continue
            try:
                volume = _read(info, source, f"{name} (series {info.id})", strict)
                check_affine(volume.affine, volume.source.name)
                check_voxels(volume.array, volume.source.name, constant_ok=constant_ok, nan_ok=nan_ok)
            except DataError as error:
                yield info, error
            else:
                yield info, volume


def read_dicom(source: Path | Sequence[Path], series: str | None = None, *, strict: bool = False) -> Volume:
    """Read one DICOM volume.

    Args:
        source: a folder, file, DICOMDIR, ZIP archive or list of files, all existing.
        series: SeriesInstanceUID or ``id`` of the series; by default the only volumetric one.
        strict: refuse what would be repaired with a warning.

    Returns:
        The volume of shape (columns, rows, slices), slices in increasing order along row direction x column direction,
        values rescaled slice by slice. ``source.datasets`` are the headers in this order.

    Raises:
        DataError: if there is nothing to read, a file is damaged or of unknown compression, or the choice is not clear.
        GeometryError: if the slices form no volume; with ``strict`` also if slices are missing, doubled, sheared or at
            varying distances.
    """
    with _found(source) as (found, path, name):
        info = choose(found, series, name)
        if len(info.slices) > 1:
            name = f"{name} (series {info.id}{', ' if info.description else ''}{info.description})"
        return _read(info, path, name, strict)


def read_dicom_header(source: Path) -> Volume:
    """Read the headers of one DICOM volume; its array is a stand-in without memory.

    Raises:
        DataError: as :func:`read_dicom`, pixels aside.
        GeometryError: if the slices form no volume.
    """
    with _found(source) as (found, path, name):
        info = choose(found, None, name)
        _require_grey(info, name)
        stack = info.stack(name)
    first = stack.slices[0]
    columns, rows, slices = info.shape if stack.regrid is None else stack.regrid.shape
    if first.mosaic is not None:
        columns, rows, slices = columns // first.mosaic.across, rows // first.mosaic.down, first.mosaic.tiles
    files = tuple(dict.fromkeys(one.path for one in stack.slices))
    origin = Source(path, files, "dicom", series=info.uid, description=info.description)
    notes = (*info.set_aside, *stack.warnings)
    return Volume(stand_in((columns, rows, slices), np.int16), stack.affine, info.modality or None, notes, origin)


def _read(info: SeriesInfo, path: Path, name: str, strict: bool) -> Volume:
    _require_grey(info, name)
    stack = info.stack(name, strict=strict)
    notes = [*info.set_aside, *stack.warnings]
    array = read_voxels(stack.slices, name, notes)
    first = stack.slices[0]
    if first.mosaic is not None:
        array = first.mosaic.take_apart(array[:, :, 0])
    elif stack.regrid is not None:
        array = stack.regrid.apply(array, _padding(first))
    single_file = len({one.path for one in stack.slices}) == 1
    datasets = [one.dataset for one in stack.slices]
    several = single_file and first.mosaic is None
    origin = Source(
        path=path,
        files=tuple(dict.fromkeys(one.path for one in stack.slices)) if path.suffix.lower() != ".zip" else (path,),
        format="dicom",
        datasets=tuple(datasets[:1] if single_file else datasets),
        frames=tuple(one.frame for one in stack.slices) if several else (),
        series=info.uid,
        description=info.description,
        regridded=first.mosaic is not None or stack.regrid is not None,
    )
    return Volume(array, stack.affine, text(datasets[0], "Modality") or None, tuple(notes), origin)


def _padding(one: Slice) -> float | None:
    """Give the rescaled value of pixels outside of the scanned region, where the header has one."""
    value = number(one.dataset, "PixelPaddingValue")
    return None if value is None else value * one.slope + one.intercept


def choose(found: Sequence[SeriesInfo], series: str | None, name: str) -> SeriesInfo:
    """Choose a series by id or UID, or the only volumetric one, or the only image.

    Raises:
        DataError: if the choice is not clear; the message lists what there is.
    """
    if not found:
        raise DataError(f"{name}: the DICOM files hold no image.")
    if series is not None:
        matching = [info for info in found if series in (info.id, info.uid)]
        if len(matching) == 1:
            return matching[0]
        fault = f"no series {series!r}" if not matching else f"several volumes in series {series!r}"
        raise AmbiguousInputError(f"{name}: there {'is' if not matching else 'are'} {fault}. {_list(found)}")
    volumes = [info for info in found if info.volumetric]
    if len(volumes) == 1:
        return volumes[0]
    if not volumes and len(found) == 1:
        return found[0]
    fault = "no series is a volume" if not volumes else f"{len(volumes)} series are volumes"
    raise AmbiguousInputError(f"{name}: {fault}, so one has to be chosen. {_list(found)}")


def _list(found: Sequence[SeriesInfo]) -> str:
    lines = "".join(f"\n  {info}" for info in found)
    return f"Choose with --series ID (series='ID' in Python) from these:{lines}"


def _require_grey(info: SeriesInfo, name: str) -> None:
    if not info.readable:
        raise DataError(f"{name}: this is {info.note}; give a grey-scale scan.")


def _common(files: Sequence[Path]) -> Path:
    if not files:
        raise DataError("a DICOM series is given as an empty list of files; name at least one.")
    return files[0] if len(files) == 1 else files[0].parent


@contextmanager
def _found(path: PathLike | Sequence[PathLike]) -> Iterator[tuple[list[SeriesInfo], Path, str]]:
    """Give the series among the files, the path that stands for them, and its name for messages."""
    single = isinstance(path, (str, Path)) or hasattr(path, "__fspath__")
    source = existing(path) if single else [existing(one) for one in path]  # type: ignore[arg-type,union-attr]
    place = source if isinstance(source, Path) else _common(source)
    with _unpacked(source) as files:
        damaged: list[DataError] = []
        found = find_series(read_headers(dicom_files(files, str(place)), damaged))
        yield _beside_damaged(found, damaged), place, str(place)


def _beside_damaged(found: list[SeriesInfo], damaged: Sequence[DataError]) -> list[SeriesInfo]:
    """Set damaged files aside where the others form regular volumes; nobody knows which one they belong to.

    Raises:
        DataError: if there is nothing but them, or a slice is missing where one of them may have been.
    """
    if not damaged:
        return found
    volumes = [info for info in found if info.volumetric]
    if not volumes or any(not _is_regular(info) for info in volumes):
        raise damaged[0]
    count = f"{len(damaged)} damaged files were" if len(damaged) > 1 else "a damaged file was"
    told = (
        f"{count[:1].upper()}{count[1:]} set aside ({damaged[0]}) The others lie at regular distances; should one have "
        "been the first or last slice, the volume lacks it."
    )
    return [
        replace(info, set_aside=(*info.set_aside, told), left_out=(*info.left_out, told)) if info in volumes else info
        for info in found
    ]


def _is_regular(info: SeriesInfo) -> bool:
    """Whether no slice is missing between others."""
    try:
        info.stack("", strict=True)
    except GeometryError:
        return False
    return True


@contextmanager
def _unpacked(source: Path | Sequence[Path]) -> Iterator[Path | Sequence[Path]]:
    """Give ``source`` itself or, for a ZIP archive, a temporary folder with its content."""
    if not isinstance(source, Path) or source.suffix.lower() != ".zip":
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="medresnet3d-") as folder:
        try:
            with zipfile.ZipFile(source) as archive:
                archive.extractall(folder)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
            raise DataError(f"{source}: the ZIP archive cannot be unpacked ({error}); copy it again.") from error
        yield Path(folder)
