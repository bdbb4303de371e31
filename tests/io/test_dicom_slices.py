from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.uid import UID, CTImageStorage

from medresnet3d.io import load
from tests.io.dicom_maker import Series, check, stored_values


def enhanced(series: Series, order: list[int]) -> Dataset:
    """The series as one multi-frame file whose frames lie in the given order."""
    ds = series.dataset(0)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = UID(CTImageStorage + ".1")
    for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        delattr(ds, tag)
    ds.NumberOfFrames = len(order)
    ds.PixelData = np.ascontiguousarray(series.stored[:, :, order].T).tobytes()
    shared, measures, orientation, values = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [series.spacing[1], series.spacing[0]], series.spacing[2]
    orientation.ImageOrientationPatient = list(series.orientation)
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = 1, -1024, "HU"
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    shared.PixelValueTransformationSequence = [values]
    ds.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for k in order:
        position, frame = Dataset(), Dataset()
        position.ImagePositionPatient = [float(value) for value in np.array(series.origin) + k * series.step]
        frame.PlanePositionSequence = [position]
        frames.append(frame)
    ds.PerFrameFunctionalGroupsSequence = frames
    return ds


def test_enhanced_multi_frame(tmp_path: Path) -> None:
    series = Series(stored_values())
    enhanced(series, [3, 0, 4, 1, 2]).save_as(tmp_path / "multi.dcm", enforce_file_format=True)
    check(tmp_path / "multi.dcm", series)
    volume = load(tmp_path / "multi.dcm")
    assert volume.source.frames == (1, 3, 4, 0, 2)
    assert len(volume.source.datasets) == 1
