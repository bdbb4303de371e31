"""What adapters of volumes share: label maps numbered anew, and small volumes for the tiny copies of data sets."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from medresnet3d.data.preparation.cohort import Cohort, DerivedFile, Image
from medresnet3d.errors import DataError
from medresnet3d.io import Volume, load, same_grid, save_nifti
from medresnet3d.io.atomic import atomic_path

TISSUE = np.array([0, 300, 600, 900], np.int16)
"""Intensity of the mimics' background, fluid, grey and white matter."""


def renumbered(name: str, source: Path, numbers: Mapping[int, int], reference: Path | None = None) -> DerivedFile:
    """A label map with other numbers, written beside the manifest.

    Args:
        name: path below the folder of derived masks, without suffix.
        source: the official label map.
        numbers: new number of each old one.
        reference: a NIfTI file of the same shape whose place counts; the source's own if none is given.
    """
    return DerivedFile(f"masks/{name}.nii.gz", partial(_renumber, source, dict(numbers), reference))


def _renumber(source: Path, numbers: dict[int, int], reference: Path | None, path: Path) -> None:
    volume = load(source, constant_ok=True)
    affine = volume.affine if reference is None else _grid(reference).affine
    old, places = np.unique(volume.array, return_inverse=True)
    unknown = [value for value in old.tolist() if value not in numbers]
    if unknown:
        shown = ", ".join(f"{value:g}" for value in unknown[:5])
        raise DataError(
            f"{source}: the label map has the values {shown}, which the data set does not name; get it again."
        )
    new = np.array([numbers[int(value)] for value in old.tolist()], np.uint8)
    save_nifti(new[places].reshape(volume.shape), affine, path)


def on_grid(cohort: Cohort, name: str, source: Path, reference: Path, kind: str = "masks") -> Image | None:
    """A NIfTI file that its data set says to lie on the grid of another: itself, or a copy where its header disagrees.

    Args:
        cohort: told of copies, and of files of another shape, which are dropped.
        name: path of a copy below the folder of derived files of this ``kind``, without suffix.
        source: the file.
        reference: the file whose grid it must have.
        kind: ``masks`` or ``images``.

    Returns:
        the file or its copy; ``None`` if its shape is another.
    """
    first, other = _grid(reference), _grid(source)
    if same_grid(first, other):
        return source
    if first.shape != other.shape:
        cohort.drop("file of another shape than its image", source.name)
        return None
    cohort.warn(f"Headers that place {source.name} elsewhere than {reference.name} were corrected in copies.")
    return DerivedFile(f"{kind}/{name}.nii.gz", partial(_copy_onto, source, first.affine))


def _grid(path: Path) -> Volume:
    """Shape and place of a NIfTI file, from its header."""
    try:
        image = nib.nifti1.Nifti1Image.from_filename(path)
    except (OSError, ValueError, ImageFileError, HeaderDataError) as error:
        raise DataError(f"{path}: is no NIfTI file ({error}); get it again.") from error
    return Volume(np.broadcast_to(np.uint8(0), (*image.shape, 1)[:3]), np.asarray(image.affine, np.float64))


def _copy_onto(source: Path, affine: NDArray[np.float64], path: Path) -> None:
    save_nifti(load(source, constant_ok=True).array, affine, path)


def head(
    rng: np.random.Generator, shape: Sequence[int] = (20, 24, 16), kind: int = 0
) -> tuple[NDArray[Any], NDArray[Any]]:
    """A volume (i, j, k), int16, of nested ellipsoids on noise and its label map, uint8: 1 fluid, 2 grey, 3 white.

    Args:
        rng: of position and noise.
        shape: voxels along i, j and k.
        kind: changes the size of the fluid in the middle.
    """
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij"))
    centre = rng.uniform(-0.08, 0.08, 3).reshape(3, 1, 1, 1)
    radius = np.sqrt(((grid - centre) ** 2).sum(0))
    labels = np.zeros(radius.shape, np.uint8)
    for number, outer in ((1, 0.9), (2, 0.8), (3, 0.6), (1, 0.15 + 0.05 * (kind % 5))):
        labels[radius < outer] = number
    image = TISSUE[labels] + rng.integers(0, 60, labels.shape)
    return image.astype(np.int16), labels


def write_analyze(path: Path, array: NDArray[Any], sizes: Sequence[float] = (1, 1, 1), orient: int = 0) -> None:
    """Write int16 voxels as an Analyze 7.5 pair in big-endian order, with a fourth axis of one as OASIS has it.

    Args:
        path: the ``.img`` file.
        array: voxels (i, j, k).
        sizes: of the voxels, mm.
        orient: plane of the slices: 0 transverse, 1 coronal, 2 sagittal.
    """
    header = bytearray(348)
    struct.pack_into(">i", header, 0, 348)
    struct.pack_into(">8h", header, 40, 4, *array.shape, 1, 1, 1, 1)
    struct.pack_into(">hh", header, 70, 4, 16)
    struct.pack_into(">4f", header, 76, 0, *sizes)
    header[252] = orient
    contents = ((path.with_suffix(".hdr"), bytes(header)), (path, array.astype(">i2").tobytes(order="F")))
    for target, content in contents:
        with atomic_path(target) as temporary:
            temporary.write_bytes(content)
