"""DICOM in: a folder, nested folders, one file, a list of files, a DICOMDIR or a ZIP archive of them."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from medresnet3d.errors import AmbiguousInputError, DataError
from medresnet3d.io.dicom_pixels import read_voxels
from medresnet3d.io.dicom_series import COLOUR, MOSAIC, SEGMENTATION, SeriesInfo, find_series
from medresnet3d.io.dicom_slices import dicom_files, read_headers, text
from medresnet3d.io.reading import PathLike, existing
from medresnet3d.io.volume import Source, Volume


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
    single = isinstance(path, (str, Path)) or hasattr(path, "__fspath__")
    source = existing(path) if single else [existing(one) for one in path]  # type: ignore[arg-type,union-attr]
    name = str(path) if single else None
    with _unpacked(source) as files:
        return find_series(read_headers(dicom_files(files, name)))


def read_dicom(source: Path | Sequence[Path], series: str | None = None) -> Volume:
    """Read one DICOM volume.

    Args:
        source: a folder, file, DICOMDIR, ZIP archive or list of files, all existing.
        series: SeriesInstanceUID or ``id`` of the series; by default the only volumetric one.

    Returns:
        The volume of shape (columns, rows, slices), slices in increasing order along row direction x column direction,
        values rescaled slice by slice. ``source.datasets`` are the headers in this order.

    Raises:
        DataError: if there is nothing to read, a file is damaged or of unknown compression, or the choice is not clear.
        GeometryError: if slices are missing, doubled, sheared or at varying distances.
    """
    path = source if isinstance(source, Path) else _common(source)
    name = str(path)
    with _unpacked(source) as files:
        info = choose(find_series(read_headers(dicom_files(files, name))), series, name)
        if len(info.slices) > 1:
            name = f"{name} (series {info.id}{', ' if info.description else ''}{info.description})"
        _require_grey(info, name)
        stack = info.stack(name)
        notes = [*info.set_aside, *stack.warnings]
        array = read_voxels(stack.slices, name, notes)
    single_file = len({one.path for one in stack.slices}) == 1
    datasets = [one.dataset for one in stack.slices]
    origin = Source(
        path=path,
        files=tuple(dict.fromkeys(one.path for one in stack.slices)) if path.suffix.lower() != ".zip" else (path,),
        format="dicom",
        datasets=tuple(datasets[:1] if single_file else datasets),
        frames=tuple(one.frame for one in stack.slices) if single_file else (),
        series=info.uid,
        description=info.description,
    )
    return Volume(array, stack.affine, text(datasets[0], "Modality") or None, tuple(notes), origin)


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
    if info.note in (COLOUR, SEGMENTATION, MOSAIC):
        raise DataError(f"{name}: this is {info.note}; give a grey-scale scan.")


def _common(files: Sequence[Path]) -> Path:
    if not files:
        raise DataError("a DICOM series is given as an empty list of files; name at least one.")
    return files[0] if len(files) == 1 else files[0].parent


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
