"""A small maker of DICOM series whose voxels and affine are known, with faults on request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

from medresnet3d.io import load

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
OBLIQUE = (
    *(0.9848077530122080, 0.1710100716628344, 0.0301536896070458),
    *(-0.1736481776669303, 0.9698463103929542, 0.1710100716628344),
)


@dataclass
class Series:
    """What to write. ``stored`` has shape (columns, rows, slices); slice k lies at origin + k * step."""

    stored: NDArray[Any]
    orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0)
    spacing: tuple[float, float, float] = (0.8, 1.1, 2.5)
    origin: tuple[float, float, float] = (-20.0, 30.0, 40.0)
    shear: tuple[float, float, float] = (0.0, 0.0, 0.0)
    uid: str = field(default_factory=generate_uid)
    number: int = 4
    description: str = "phantom"
    slope: float | Sequence[float] = 1.0
    intercept: float | Sequence[float] = -1024.0
    tags: dict[str, Any] = field(default_factory=dict)
    change: Callable[[Dataset, int], None] | None = None
    syntax: UID = ExplicitVRLittleEndian
    study: str = "1.2.3.4"
    frame_of_reference: str = "1.2.3.4.5"

    @property
    def step(self) -> NDArray[np.float64]:
        row, column = np.reshape(self.orientation, (2, 3))
        return np.cross(row, column) * self.spacing[2] + np.array(self.shear)

    @property
    def affine(self) -> NDArray[np.float64]:
        """The truth: (column, row, slice) to RAS+ millimetres."""
        lps = np.eye(4)
        row, column = np.reshape(self.orientation, (2, 3))
        lps[:3, 0] = row * self.spacing[0]
        lps[:3, 1] = column * self.spacing[1]
        lps[:3, 2] = self.step
        lps[:3, 3] = self.origin
        return LPS_TO_RAS @ lps

    def dataset(self, k: int) -> Dataset:
        """Header and pixels of slice ``k``."""
        plane = np.ascontiguousarray(self.stored[:, :, k].T)
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = self.syntax
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = (
            self.study,
            self.uid,
            self.frame_of_reference,
        )
        ds.Modality, ds.SeriesNumber, ds.SeriesDescription = "CT", self.number, self.description
        ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Phantom", "P1", "", "O"
        ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20200101", "120000", "1", ""
        ds.ReferringPhysicianName, ds.ImageType, ds.InstanceNumber = "", ["ORIGINAL", "PRIMARY", "AXIAL"], k + 1
        ds.ImageOrientationPatient = [f"{value:.9g}" for value in self.orientation]
        ds.ImagePositionPatient = [f"{value:.9g}" for value in np.array(self.origin) + k * self.step]
        ds.PixelSpacing, ds.SliceThickness = [self.spacing[1], self.spacing[0]], self.spacing[2]
        ds.Rows, ds.Columns = plane.shape
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated = ds.BitsStored = plane.dtype.itemsize * 8
        ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, int(plane.dtype.kind == "i")
        ds.RescaleSlope, ds.RescaleIntercept = _at(self.slope, k), _at(self.intercept, k)
        ds.PixelData = plane.tobytes()
        for name, value in self.tags.items():
            setattr(ds, name, value)
        if self.change is not None:
            self.change(ds, k)
        return ds

    def write(self, folder: Path, *, skip: Sequence[int] = (), seed: int = 0, prefix: str = "") -> Path:
        """Write all slices but ``skip`` under names that say nothing about their order."""
        folder.mkdir(parents=True, exist_ok=True)
        names = np.random.default_rng(seed).permutation(self.stored.shape[2])
        for k in range(self.stored.shape[2]):
            if k not in skip:
                ds = self.dataset(k)
                ds.save_as(folder / f"{prefix}{names[k]:03d}.dcm", enforce_file_format=True)
        return folder


def check(path: Path, series: Series) -> None:
    """The volume that is read equals the maker's truth."""
    volume = load(path)
    assert np.array_equal(volume.array, series.stored.astype(float) * series.slope + series.intercept)
    np.testing.assert_allclose(volume.affine, series.affine, atol=1e-5)


def _at(value: float | Sequence[float], k: int) -> float:
    return value[k] if isinstance(value, Sequence) else value


def stored_values(shape: tuple[int, int, int] = (7, 6, 5), dtype: Any = np.int16, seed: int = 0) -> NDArray[Any]:
    """Values that differ everywhere, so that any flip or swap of axes shows."""
    return np.random.default_rng(seed).permutation(int(np.prod(shape))).reshape(shape).astype(dtype)
