"""dcm2niix, the field's reference converter, as a second opinion on the shape and place of every volume."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import generate_uid

from medresnet3d.io import Volume, load_all
from tests.io.dicom_maker import OBLIQUE, Series, stored_values
from tests.io.dicom_vendors import Frame, enhanced_mr, mr, save, siemens_mosaic, tomographic, uih_grid

pytest.importorskip("dcm2niix", reason="dcm2niix comes with the extra [test]")
AXIAL, SAGITTAL, CORONAL = (1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1)
SHAPE = (12, 10, 7)
Grid = tuple[tuple[int, ...], NDArray[np.float64]]


def canonical(shape: tuple[int, ...], affine: NDArray[Any]) -> Grid:
    """Shape and affine after flips and swaps of axes to the order nearest to RAS+, which differs between readers."""
    empty = nib.Nifti1Image(np.broadcast_to(np.uint8(0), shape[:3]), affine)
    turned = nib.as_closest_canonical(empty)
    return turned.shape, turned.affine


def theirs(folder: Path, out: Path) -> list[Grid]:
    """Grids that dcm2niix writes."""
    out.mkdir()
    command = [str(Path(sys.executable).with_name("dcm2niix")), "-b", "n", "-f", "%s", "-o", str(out), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    images = [nib.load(path) for path in out.glob("*.nii")]
    return [canonical(image.shape, image.affine) for image in images]


def agree(folder: Path, out: Path, volumes: int) -> None:
    """All our volumes lie on a grid of dcm2niix's; there are as many as expected."""
    grids = theirs(folder, out)
    assert grids
    found = [volume for _, volume in load_all(folder)]
    assert len(found) == volumes
    for volume in found:
        assert isinstance(volume, Volume)
        shape, affine = canonical(volume.shape, volume.affine)
        assert any(shape == other and np.abs(affine - place).max() < 2e-3 for other, place in grids), (shape, grids)


def several(change: Callable[[Dataset, int, int], None], manufacturer: str, folder: Path) -> Path:
    """Three volumes at one place in one series."""
    uid = generate_uid()
    for t in range(3):
        series = Series(stored_values(SHAPE, seed=t), uid=uid, change=lambda ds, k, t=t: change(ds, t, k))
        mr(series, manufacturer).write(folder, prefix=str(t))
    return folder


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, CORONAL, OBLIQUE])
@pytest.mark.parametrize("manufacturer", ["SIEMENS", "GE MEDICAL SYSTEMS", "Philips Medical Systems", "CANON", "UIH"])
def test_plain_volume(tmp_path: Path, orientation: tuple[float, ...], manufacturer: str) -> None:
    series = mr(Series(stored_values(SHAPE), orientation=orientation), manufacturer)
    agree(series.write(tmp_path / "scan"), tmp_path / "out", 1)


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, CORONAL, OBLIQUE])
@pytest.mark.parametrize("make", [siemens_mosaic, uih_grid])
def test_mosaics(tmp_path: Path, make: Any, orientation: tuple[float, ...]) -> None:
    uid = generate_uid()
    for t in range(2):
        series = Series(stored_values(SHAPE, seed=t), orientation=orientation, uid=uid)
        save(make(series, t + 1), tmp_path / "scan" / f"{t}.dcm")
    agree(tmp_path / "scan", tmp_path / "out", 2)


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, OBLIQUE])
def test_mosaic_against_the_normal(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    dataset = siemens_mosaic(Series(stored_values(SHAPE), orientation=orientation), reverse=True)
    agree(save(dataset, tmp_path / "scan" / "a.dcm"), tmp_path / "out", 1)


def test_mosaic_without_a_number_of_slices(tmp_path: Path) -> None:
    dataset = siemens_mosaic(Series(stored_values(SHAPE)), csa=False)
    agree(save(dataset, tmp_path / "scan" / "a.dcm"), tmp_path / "out", 1)


@pytest.mark.parametrize("manufacturer", ["SIEMENS", "Philips Medical Systems", "GE MEDICAL SYSTEMS", "CANON"])
@pytest.mark.parametrize("by_slice", [True, False])
def test_enhanced_time_points(tmp_path: Path, manufacturer: str, by_slice: bool) -> None:
    volumes = [Series(stored_values(SHAPE, seed=t), orientation=OBLIQUE) for t in range(3)]
    frames = [Frame(k, t) for k in range(7) for t in range(3)]
    frames = frames if by_slice else sorted(frames, key=lambda frame: (frame.t, frame.k))
    folder = save(enhanced_mr(volumes, frames, manufacturer=manufacturer), tmp_path / "scan" / "a.dcm")
    agree(folder, tmp_path / "out", 3)


@pytest.mark.parametrize("manufacturer", ["SIEMENS", "GE MEDICAL SYSTEMS", "Philips Medical Systems", "UIH"])
def test_classic_time_points(tmp_path: Path, manufacturer: str) -> None:
    def change(ds: Dataset, t: int, k: int) -> None:
        ds.InstanceNumber, ds.AcquisitionNumber, ds.AcquisitionTime = 7 * t + k + 1, t + 1, f"1200{t:02d}.{k:03d}"

    agree(several(change, manufacturer, tmp_path / "scan"), tmp_path / "out", 3)


def test_echoes(tmp_path: Path) -> None:
    def change(ds: Dataset, t: int, k: int) -> None:
        ds.InstanceNumber, ds.EchoNumbers, ds.EchoTime = 7 * t + k + 1, t + 1, [5, 12, 20][t]

    agree(several(change, "SIEMENS", tmp_path / "scan"), tmp_path / "out", 3)


@pytest.mark.parametrize("degrees", [20, -20])
def test_gantry_tilt(tmp_path: Path, degrees: float) -> None:
    shear = (0, 2.5 * float(np.tan(np.radians(degrees))), 0)
    tags = {"Manufacturer": "SIEMENS", "PatientPosition": "HFS", "GantryDetectorTilt": degrees}
    series = Series(stored_values(SHAPE), shear=shear, tags=tags)
    agree(series.write(tmp_path / "scan"), tmp_path / "out", 1)


def test_missing_slices(tmp_path: Path) -> None:
    series = Series(stored_values((12, 10, 15)), tags={"Manufacturer": "SIEMENS"})
    agree(series.write(tmp_path / "scan", skip=[3, 4, 9]), tmp_path / "out", 1)


def test_varying_distances(tmp_path: Path) -> None:
    def stretch(ds: Dataset, k: int) -> None:
        ds.ImagePositionPatient = [-20, 30, 40 + 2.5 * k + 0.2 * k * k]

    series = Series(stored_values(SHAPE), change=stretch, tags={"Manufacturer": "SIEMENS"})
    agree(series.write(tmp_path / "scan"), tmp_path / "out", 1)


def test_tomographic_file(tmp_path: Path) -> None:
    agree(save(tomographic(Series(stored_values(SHAPE))), tmp_path / "scan" / "a.dcm"), tmp_path / "out", 1)


def test_one_slice_in_time(tmp_path: Path) -> None:
    uid = generate_uid()
    for t in range(3):
        series = mr(Series(stored_values((12, 10, 1), seed=t), uid=uid, tags={"InstanceNumber": t + 1}))
        series.write(tmp_path / "scan", prefix=str(t))
    agree(tmp_path / "scan", tmp_path / "out", 3)


def test_picture_without_a_place(tmp_path: Path) -> None:
    def strip(ds: Dataset, k: int) -> None:
        ds.Modality = "CR"
        for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
            delattr(ds, tag)

    series = Series(stored_values((12, 10, 1)), change=strip)
    agree(series.write(tmp_path / "scan"), tmp_path / "out", 1)


def test_frames_without_a_place(tmp_path: Path) -> None:
    dataset = tomographic(Series(stored_values(SHAPE)))
    del dataset.DetectorInformationSequence, dataset.SliceVector
    agree(save(dataset, tmp_path / "scan" / "a.dcm"), tmp_path / "out", 1)


def test_planes_of_a_localiser(tmp_path: Path) -> None:
    uid = generate_uid()
    for index, orientation in enumerate((AXIAL, SAGITTAL, CORONAL)):
        series = Series(stored_values((10, 10, 3), seed=index), uid=uid, orientation=orientation)
        series.change = lambda ds, k, index=index: setattr(ds, "InstanceNumber", 3 * index + k + 1)
        mr(series).write(tmp_path / "scan", prefix=str(index))
    agree(tmp_path / "scan", tmp_path / "out", 3)
