"""The door: one function that reads a scan of any known format."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from medresnet3d.errors import AmbiguousInputError, DataError
from medresnet3d.io.checks import check_affine, check_voxels
from medresnet3d.io.volume import Volume

NIFTI_SUFFIXES = (".nii", ".nii.gz")
ANALYZE_SUFFIXES = (".img",)
ITK_SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
ARCHIVE_SUFFIXES = (".zip",)
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".pgm")
KNOWN_SUFFIXES = NIFTI_SUFFIXES + ANALYZE_SUFFIXES + ITK_SUFFIXES + DICOM_SUFFIXES + ARCHIVE_SUFFIXES + PICTURE_SUFFIXES

PathLike = str | os.PathLike[str]


def known_suffix(path: PathLike) -> str | None:
    """Give the suffix of ``path`` by which its format is known (``".nii.gz"``, ``".mha"``, ...), or ``None``."""
    name = Path(path).name.lower()
    return next((suffix for suffix in sorted(KNOWN_SUFFIXES, key=len, reverse=True) if name.endswith(suffix)), None)


def load(
    path: PathLike | Sequence[PathLike],
    series: str | None = None,
    *,
    strict: bool = False,
    constant_ok: bool = False,
    nan_ok: bool = False,
) -> Volume:
    """Read a scan.

    Formats: NIfTI (``.nii``, ``.nii.gz``), Analyze 7.5 (``.img`` with ``.hdr``), MetaImage (``.mha``, ``.mhd``), NRRD
    (``.nrrd``, ``.nhdr``), DICOM (a folder with any nesting, one file, a list of files, or a ZIP archive of them) and
    pictures (PNG, JPEG, TIFF, BMP, PGM), which become volumes of one slice. DICOM series are recognised by their tags,
    never by file names. The geometry is converted to RAS+ here and nowhere else.

    Args:
        path: a file, a DICOM folder, or a list of DICOM files.
        series: which DICOM series to take where there are several: its SeriesInstanceUID, or its ``id`` as
            :func:`medresnet3d.io.list_series` shows it. The default takes the only volumetric one. For images of four
            dimensions and TIFF files of several pages, the number of the volume or page, from 0.
        strict: refuse a DICOM series with gantry tilt, missing or doubled slices, varying gaps or incomplete time
            points instead of repairing it with a warning.
        constant_ok: accept an image that has one value everywhere, as label maps may.
        nan_ok: accept voxels that are NaN or infinite.

    Returns:
        The volume: voxels (i, j, k) in the file's own order and type, affine to RAS+ millimetres, warnings, source.

    Raises:
        DataError: if the file is missing, damaged, of an unknown format, not a 3-D grey-scale image, has voxels that
            are not finite, or is constant; or if several series could be meant (the message lists them).
        GeometryError: if the spacing, the orientation or the slice positions are unusable.

    Example:
        >>> volume = load("scan.nii.gz")  # doctest: +SKIP
        >>> volume.array.shape, volume.spacing  # doctest: +SKIP
        ((240, 240, 155), (1.0, 1.0, 1.0))
    """
    volume = _read(path, series, strict)
    check_affine(volume.affine, volume.source.name)
    check_voxels(volume.array, volume.source.name, constant_ok=constant_ok, nan_ok=nan_ok)
    return volume


def load_each(path: PathLike, *, constant_ok: bool = False, nan_ok: bool = False) -> Iterator[Volume]:
    """Read every volume of an image of four dimensions, every page of a TIFF file, or the one image that there is.

    Args:
        path: a file that is not DICOM.
        constant_ok: as for :func:`load`.
        nan_ok: as for :func:`load`.

    Yields:
        The volumes in their order, one in memory at a time.

    Raises:
        DataError: as for :func:`load`.
    """
    source = existing(path)
    if known_suffix(source) in NIFTI_SUFFIXES and source.stat().st_size:
        from medresnet3d.io.nifti import read_nifti_volumes

        volumes = read_nifti_volumes(source)
    else:
        volumes = _numbered(source)
    for volume in volumes:
        check_affine(volume.affine, volume.source.name)
        check_voxels(volume.array, volume.source.name, constant_ok=constant_ok, nan_ok=nan_ok)
        yield volume


def _numbered(source: Path) -> Iterator[Volume]:
    try:
        volume = _read(source, None, strict=False)
    except AmbiguousInputError:
        number = 0
    else:
        yield volume
        return
    while True:
        try:
            yield _read(source, str(number), strict=False)
        except AmbiguousInputError:
            return
        number += 1


def load_header(path: PathLike) -> Volume:
    """Read where a scan lies and how large it is, without its voxels.

    Args:
        path: a file or a DICOM folder, as for :func:`load`.

    Returns:
        The volume that :func:`load` gives, except that its array is a stand-in that takes no memory: zeros of the right
        shape, read-only, in the type that the file stores (int16 for DICOM). The size that a ZIP archive holds is known
        only once it is unpacked, which is done.

    Raises:
        DataError: as for :func:`load`, as far as the header tells.
        GeometryError: if the spacing, the orientation or the slice positions are unusable.
    """
    source = existing(path)
    volume = _read_header(source, _family(source))
    check_affine(volume.affine, volume.source.name)
    return volume


def _read_header(source: Path, family: str) -> Volume:
    if family == "dicom":
        from medresnet3d.io.dicom import read_dicom_header

        return read_dicom_header(source)
    if family == "nifti":
        from medresnet3d.io.nifti import read_nifti_header

        return read_nifti_header(source)
    if family == "analyze":
        from medresnet3d.io.analyze import read_analyze_header

        return read_analyze_header(source)
    if family == "image":
        from medresnet3d.io.images import read_image_header

        return read_image_header(source)
    from medresnet3d.io.itk import read_itk_header

    return read_itk_header(source)


def _read(path: PathLike | Sequence[PathLike], series: str | None, strict: bool) -> Volume:
    if not isinstance(path, (str, os.PathLike)):
        return _read_slices([existing(one) for one in path], series, strict)
    source = existing(path)
    family = _family(source)
    if family == "dicom":
        from medresnet3d.io.dicom import read_dicom

        return read_dicom(source, series, strict=strict)
    if family == "nifti":
        from medresnet3d.io.nifti import read_nifti

        return read_nifti(source, series)
    if family == "analyze":
        from medresnet3d.io.analyze import read_analyze

        return read_analyze(source, series)
    if family == "image":
        from medresnet3d.io.images import read_image

        return read_image(source, series)
    from medresnet3d.io.itk import read_itk

    return read_itk(source, series)


def _family(source: Path) -> str:
    """Tell which reader a file or folder is for, by its name and, where that says nothing, its first bytes."""
    suffix = known_suffix(source)
    if suffix in ANALYZE_SUFFIXES or (suffix is None and source.suffix.lower() == ".hdr"):
        suffix = None if is_dicom(source) else ".img"  # some archives call DICOM files so
    if source.is_dir() or suffix in DICOM_SUFFIXES + ARCHIVE_SUFFIXES or (suffix is None and is_dicom(source)):
        return "dicom"
    if suffix is None:
        raise DataError(
            f"{source}: the file extension is not known; known are {', '.join(KNOWN_SUFFIXES)} and DICOM folders."
        )
    if source.stat().st_size == 0:
        raise DataError(f"{source}: the file is empty; copy it again from its source.")
    families = {"nifti": NIFTI_SUFFIXES, "analyze": ANALYZE_SUFFIXES, "image": PICTURE_SUFFIXES}
    return next((name for name, suffixes in families.items() if suffix in suffixes), "itk")


def _read_slices(files: list[Path], series: str | None, strict: bool) -> Volume:
    from medresnet3d.io.dicom import read_dicom

    for file in files:
        if known_suffix(file) in NIFTI_SUFFIXES + ITK_SUFFIXES + PICTURE_SUFFIXES:
            raise DataError(f"{file}: a list of files means one DICOM series; read other files one by one.")
    return read_dicom(files, series, strict=strict)


def existing(path: PathLike) -> Path:
    """Give ``path`` as a :class:`~pathlib.Path` that exists.

    Raises:
        DataError: if there is no such file or folder.
    """
    found = Path(path).expanduser()
    if not found.exists():
        raise DataError(f"{found}: no such file or folder; check the path.")
    return found


def is_dicom(path: PathLike) -> bool:
    """Tell whether a file is DICOM by its content: the ``DICM`` mark, or a group 0008 element at its very start."""
    source = Path(path)
    if not source.is_file():
        return False
    with source.open("rb") as handle:
        start = handle.read(132)
    return start[128:132] == b"DICM" or (start[:2] == b"\x08\x00" and len(start) == 132 and start[3:4] == b"\x00")
