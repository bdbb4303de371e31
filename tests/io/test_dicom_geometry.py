from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import Dataset

from medresnet3d.errors import GeometryError
from medresnet3d.io import load
from tests.io.dicom_maker import OBLIQUE, Series, stored_values
from tests.io.dicom_vendors import save, tomographic


def ramp(shape: tuple[int, int, int]) -> NDArray[np.int16]:
    """Values that grow linearly along every axis, which interpolation between slices keeps."""
    i, j, k = np.indices(shape)
    return (2 * i + 30 * j + 50 * k).astype(np.int16)


def values_at(affine: NDArray[np.float64], shape: tuple[int, ...], slope: NDArray[np.float64]) -> NDArray[Any]:
    """A linear function of the place in millimetres, at every voxel."""
    return np.einsum("a,ab,bijk->ijk", slope, affine[:3, :3], np.indices(shape)) + slope @ affine[:3, 3]


def source_rows(affine: NDArray[np.float64], source: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[Any]:
    """For each voxel of a volume, the row of the source series at its place."""
    back = np.linalg.inv(source) @ affine
    return np.einsum("b,bijk->ijk", back[1, :3], np.indices(shape)) + back[1, 3]


@settings(max_examples=15, deadline=None)
@given(
    turn=st.floats(-np.pi, np.pi),
    nod=st.floats(-1.4, 1.4),
    spacing=st.tuples(*[st.floats(0.2, 6.0)] * 3),
    origin=st.tuples(*[st.floats(-300, 300)] * 3),
    seed=st.integers(0, 100),
)
def test_any_orientation(
    tmp_path_factory: pytest.TempPathFactory,
    turn: float,
    nod: float,
    spacing: tuple[float, float, float],
    origin: tuple[float, float, float],
    seed: int,
) -> None:
    row = np.array([np.cos(turn), np.sin(turn), 0])
    column = np.array([-np.sin(turn) * np.cos(nod), np.cos(turn) * np.cos(nod), np.sin(nod)])
    series = Series(stored_values(), orientation=(*row, *column), spacing=spacing, origin=origin)
    volume = load(series.write(tmp_path_factory.mktemp("any"), seed=seed))
    assert np.array_equal(volume.array, series.stored - 1024)
    np.testing.assert_allclose(volume.affine, series.affine, atol=1e-4)


def test_slice_against_the_normal_is_turned(tmp_path: Path) -> None:
    series = Series(stored_values())
    backwards = Series(series.stored[:, :, ::-1], origin=(-20, 30, 40 + 4 * 2.5), shear=(0, 0, -5.0))
    volume = load(backwards.write(tmp_path / "scan"))
    assert np.array_equal(volume.array, series.stored - 1024)
    np.testing.assert_allclose(volume.affine, series.affine, atol=1e-6)


def test_missing_slice_names_the_gap(tmp_path: Path) -> None:
    series = Series(ramp((7, 6, 9)))
    folder = series.write(tmp_path / "scan", skip=[3])
    sentence = r"1 slice is missing: between 45\.00 and 50\.00 mm.*2\.5 mm apart"
    with pytest.raises(GeometryError, match=sentence):
        load(folder, strict=True)
    volume = load(folder)
    assert re.search(sentence, volume.warnings[0])
    assert volume.source.regridded
    assert np.array_equal(volume.array, series.stored - 1024)
    np.testing.assert_allclose(volume.affine, series.affine, atol=1e-6)


def test_two_gaps(tmp_path: Path) -> None:
    series = Series(ramp((7, 6, 12)))
    folder = series.write(tmp_path / "scan", skip=[3, 4, 8])
    with pytest.raises(
        GeometryError, match=r"3 slices are missing: between 45\.00 and 52\.50 .* between 57\.50 and 62\.50"
    ):
        load(folder, strict=True)
    assert np.array_equal(load(folder).array, series.stored - 1024)


def test_varying_distance(tmp_path: Path) -> None:
    """Values that grow linearly in space stay exact on any grid; positions are 0, 2.7, 5.8, 9.3 and 13.2 mm."""
    along = 2.5 * np.arange(5) + 0.2 * np.arange(5) ** 2

    def stretch(ds: Dataset, k: int) -> None:
        ds.ImagePositionPatient = [-20, 30, 40 + along[k]]

    stored = np.broadcast_to(np.rint(along * 100), (7, 6, 5)).astype(np.int16)
    folder = Series(stored, change=stretch, intercept=0).write(tmp_path / "scan")
    with pytest.raises(GeometryError, match=r"distance between slices varies from 2\.7 to 3\.9 mm"):
        load(folder, strict=True)
    volume = load(folder)
    assert "6 slices from 5" in volume.warnings[0]
    assert volume.spacing == pytest.approx((0.8, 1.1, 13.2 / 5))
    heights = (volume.affine @ np.stack([0 * np.arange(6), 0 * np.arange(6), np.arange(6), np.ones(6)]))[2] - 40
    assert np.abs(volume.array[3, 3] - 100 * heights).max() <= 1


def test_small_irregularity_is_told(tmp_path: Path) -> None:
    def jitter(ds: Dataset, k: int) -> None:
        ds.ImagePositionPatient = [-20, 30, 40 + 2.5 * k + (0.1 if k == 2 else 0)]

    volume = load(Series(stored_values(), change=jitter).write(tmp_path / "scan"))
    assert len(volume.warnings) == 1
    assert "vary from 2.400 to 2.600 mm" in volume.warnings[0]


@pytest.mark.parametrize("degrees", [15, -15, 25])
@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), OBLIQUE])
def test_gantry_tilt_is_resampled(tmp_path: Path, degrees: float, orientation: tuple[float, ...]) -> None:
    """A function that is linear in space has the same values at the same places, before and after."""
    column = np.array(orientation[3:])
    series = Series(ramp((7, 30, 9)), orientation=orientation)
    series.shear = tuple(2.5 * np.tan(np.radians(degrees)) * column)
    slope = np.array([1.0, 10.0, 3.0])
    series.stored = np.rint(values_at(series.affine, (7, 30, 9), slope) + 2000).astype(np.int16)
    folder = series.write(tmp_path / "scan")
    with pytest.raises(GeometryError, match=rf"{abs(degrees):.1f} degrees \(gantry tilt\)"):
        load(folder, strict=True)
    volume = load(folder)
    assert "gantry tilt" in volume.warnings[0]
    axes = volume.affine[:3, :3] / volume.spacing
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-7)
    extra = int(np.ceil(8 * 2.5 * np.tan(np.radians(abs(degrees))) / 1.1))
    assert volume.shape == (7, 30 + extra, 9)
    rows = source_rows(volume.affine, series.affine, volume.shape)
    inside = (rows >= 0) & (rows <= 29)
    expected = values_at(volume.affine, volume.shape, slope) + 2000 - 1024
    assert inside.sum() > 7 * 29 * 9 * 0.9
    assert np.abs(volume.array - expected)[inside].max() <= 1.01
    assert (volume.array[(rows < -1) | (rows > 30)] == volume.array.min()).all()


def test_padding_is_not_mixed_with_the_scan(tmp_path: Path) -> None:
    stored = np.full((7, 20, 6), 500, np.int16)
    stored[:, :3] = -2000
    tilt = float(2.5 * np.tan(np.radians(20)))
    tags = {"PixelPaddingValue": -2000}
    series = Series(stored, shear=(0, tilt, 0), intercept=0, tags=tags)
    assert set(np.unique(load(series.write(tmp_path / "scan")).array)) == {-2000, 500}


def test_tilt_and_gap_together(tmp_path: Path) -> None:
    tilt = float(2.5 * np.tan(np.radians(20)))
    series = Series(ramp((7, 30, 9)), shear=(0, tilt, 0))
    whole = load(series.write(tmp_path / "whole"))
    gap = load(series.write(tmp_path / "gap", skip=[4]))
    assert gap.shape == whole.shape
    np.testing.assert_allclose(gap.affine, whole.affine, atol=1e-6)
    others = [0, 1, 2, 3, 5, 6, 7, 8]
    assert np.array_equal(gap.array[:, :, others], whole.array[:, :, others])
    assert len(gap.warnings) == 2


def test_slices_shifted_in_their_plane_are_moved_back(tmp_path: Path) -> None:
    def shift(ds: Dataset, k: int) -> None:
        ds.ImagePositionPatient = [-20 + 1.6 * (k == 2), 30, 40 + 2.5 * k]

    series = Series(stored_values((7, 6, 5)), change=shift)
    folder = series.write(tmp_path / "scan")
    with pytest.raises(GeometryError, match=r"slices are shifted in their plane by up to 1\.6 mm"):
        load(folder, strict=True)
    volume = load(folder)
    assert volume.shape == (9, 6, 5)
    assert np.array_equal(volume.array[2:, :, 2], series.stored[:, :, 2] - 1024)
    assert np.array_equal(volume.array[:7, :, 3], series.stored[:, :, 3] - 1024)


def test_slices_far_apart_in_their_plane_are_no_volume(tmp_path: Path) -> None:
    def station(ds: Dataset, k: int) -> None:
        ds.ImagePositionPatient = [-20 + 200 * (k > 2), 30, 40 + 2.5 * k]

    folder = Series(stored_values(), change=station).write(tmp_path / "scan")
    with pytest.raises(GeometryError, match="apart within their plane; they form no volume"):
        load(folder)


def test_two_different_slices_at_one_position(tmp_path: Path) -> None:
    series = Series(stored_values())
    folder = series.write(tmp_path / "scan")
    more = Series(stored_values(seed=1), uid=series.uid).dataset(2)
    more.InstanceNumber = 99
    more.save_as(folder / "more.dcm", enforce_file_format=True)
    volume = load(folder)
    assert np.array_equal(volume.array, series.stored - 1024)
    assert "1 image was set aside" in volume.warnings[0]
    with pytest.raises(GeometryError, match=r"1 image was set aside.*Load without strict"):
        load(folder, strict=True)


@pytest.mark.parametrize("error,told", [(5e-3, True), (1e-6, False)])
def test_cosines_that_are_slightly_off(tmp_path: Path, error: float, told: bool) -> None:
    series = Series(stored_values(), orientation=(1, 0, 0, error, 1, 0))
    volume = load(series.write(tmp_path / "scan"))
    assert bool(volume.warnings) == told
    axes = volume.affine[:3, :3] / volume.spacing
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)


def test_cosines_that_are_wrong(tmp_path: Path) -> None:
    folder = Series(stored_values(), orientation=(1, 0, 0, 0.3, 1, 0)).write(tmp_path / "scan")
    with pytest.raises(GeometryError, match="not perpendicular"):
        load(folder)


@pytest.mark.parametrize("tag", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_slices_without_geometry(tmp_path: Path, tag: str) -> None:
    folder = Series(stored_values(), change=lambda ds, k: delattr(ds, tag)).write(tmp_path / "scan")
    with pytest.raises(GeometryError, match="has no usable"):
        load(folder)


def test_zero_spacing(tmp_path: Path) -> None:
    folder = Series(stored_values(), tags={"PixelSpacing": [0, 0]}).write(tmp_path / "scan")
    with pytest.raises(GeometryError, match="pixel spacing is 0 mm"):
        load(folder)


def test_projection_without_geometry(tmp_path: Path) -> None:
    def strip(ds: Dataset, k: int) -> None:
        ds.Modality = "DX"
        for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
            delattr(ds, tag)

    folder = Series(stored_values((7, 6, 1)), change=strip).write(tmp_path / "scan")
    volume = load(folder)
    assert volume.shape == (7, 6, 1)
    assert len(volume.warnings) == 3


def test_frames_without_any_position_are_taken_in_their_order(tmp_path: Path) -> None:
    series = Series(stored_values(), intercept=0)
    dataset = tomographic(series)
    del dataset.DetectorInformationSequence
    folder = save(dataset, tmp_path / "scan" / "a.dcm")
    volume = load(folder)
    assert np.array_equal(volume.array, series.stored)
    assert volume.spacing == pytest.approx((0.8, 1.1, 2.5))
    assert volume.warnings[0].startswith("The frames have no positions in the patient")
    with pytest.raises(GeometryError, match="has no usable Image Position"):
        load(folder, strict=True)


def test_film_of_one_place_is_no_volume(tmp_path: Path) -> None:
    dataset = tomographic(Series(stored_values(), intercept=0))
    del dataset.DetectorInformationSequence
    dataset.Modality = "US"
    with pytest.raises(GeometryError, match="has no usable Image Position"):
        load(save(dataset, tmp_path / "scan" / "a.dcm"))


def test_picture_with_a_pixel_spacing_of_zero(tmp_path: Path) -> None:
    folder = Series(stored_values((7, 6, 1)), tags={"Modality": "CR", "PixelSpacing": [0, 0]}).write(tmp_path / "scan")
    volume = load(folder)
    assert volume.spacing == (1, 1, 2.5)
    assert volume.warnings == ("The image has no pixel spacing: 1 mm was assumed.",)
