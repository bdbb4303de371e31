"""CT series of an archive that has one folder for each, and where their slices lie in the volume."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medresnet3d.data.preparation.cohort import Cohort
from medresnet3d.errors import DataError, GeometryError
from medresnet3d.io import list_series
from medresnet3d.io.volume import LPS_TO_RAS
from medresnet3d.progress import track


@dataclass(frozen=True)
class Series:
    """The folder of a CT series, and what its first file says.

    Args:
        folder: holds this series only.
        patient: PatientID.
        thickness: SliceThickness in mm, or ``None``.
    """

    folder: Path
    patient: str
    thickness: float | None


@dataclass(frozen=True, eq=False)
class ScanGrid:
    """Where the slices of a series lie in the volume that :func:`medresnet3d.io.load` makes of it.

    Args:
        affine: (4, 4) from voxels (column, row, slice) to mm, RAS+.
        shape: voxels along each.
        corners: first voxel of each slice by SOPInstanceUID, homogeneous (4,), mm, RAS+.
        instances: SOPInstanceUID of each InstanceNumber.
    """

    affine: NDArray[np.float64]
    shape: tuple[int, int, int]
    corners: dict[str, NDArray[np.float64]]
    instances: dict[int, str] = field(default_factory=dict)

    @property
    def spacing(self) -> NDArray[np.float64]:
        """Voxel size (3,) in mm."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    def first_voxel(self, image: str, z: float = float("nan")) -> NDArray[np.int64] | None:
        """Voxel (3,) of a slice's first pixel.

        Args:
            image: SOPInstanceUID.
            z: position, mm, by which the slice is found where its UID is unknown.

        Returns:
            the voxel, or ``None`` if there is no such slice.
        """
        corner = self.corners.get(image)
        if corner is None:
            corner = min(self.corners.values(), key=lambda one: abs(one[2] - z))
            if not abs(corner[2] - z) <= self.spacing[2] / 2:
                return None
        return np.rint(np.linalg.inv(self.affine) @ corner)[:3].astype(np.int64)

    def to_world(self, voxel: NDArray) -> NDArray[np.float64]:
        """Millimetres (3,), RAS+, of a voxel (3,)."""
        return nib.affines.apply_affine(self.affine, voxel)


def find_ct(cohort: Cohort) -> dict[str, Series]:
    """The CT series below the cohort's folder by SeriesInstanceUID; the first file of each folder is read.

    Raises:
        DataError: if there are no DICOM files, or one is not readable.
    """
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    found: dict[str, Series] = {}
    tags = ["Modality", "SeriesInstanceUID", "PatientID", "SliceThickness"]
    folders = {path.parent: path for path in reversed(cohort.folder.require("DICOM files", "*.dcm"))}
    for folder, path in track(sorted(folders.items()), "looking for CT series"):
        try:
            header = dcmread(path, stop_before_pixels=True, specific_tags=tags)
        except (InvalidDicomError, EOFError, OSError) as error:
            raise DataError(f"{path}: is no readable DICOM file ({error}); get it again.") from error
        uid = str(header.get("SeriesInstanceUID", ""))
        if header.get("Modality") != "CT":
            cohort.drop("series that is no CT", folder.name)
        elif uid in found:
            cohort.drop("second folder of one series", folder.name)
        else:
            thickness = header.get("SliceThickness")
            found[uid] = Series(folder, str(header.get("PatientID", "")), float(thickness) if thickness else None)
    return found


def scan_grid(cohort: Cohort, uid: str, series: Series) -> ScanGrid | None:
    """Where the slices of a series lie; ``None`` if its folder gives no single volume, which is counted."""
    volumes = [info for info in list_series(series.folder) if info.volumetric]
    if len(volumes) != 1 or volumes[0].uid != uid:
        cohort.drop("folder that does not hold one volume", series.folder.name)
        return None
    try:
        stack = volumes[0].stack(str(series.folder))
    except GeometryError:
        cohort.drop("scan whose slices form no volume", series.folder.name)
        return None
    corners, instances = {}, {}
    for one in stack.slices:
        image = str(one.dataset.SOPInstanceUID)
        if one.position is not None:
            corners[image] = LPS_TO_RAS @ np.append(one.position, 1.0)
        if one.dataset.get("InstanceNumber") is not None:
            instances[int(one.dataset.InstanceNumber)] = image
    shape = volumes[0].shape if stack.regrid is None else stack.regrid.shape
    return ScanGrid(stack.affine, shape, corners, instances)
