from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset

from medresnet3d.errors import GeometryError
from medresnet3d.io import load
from tests.io.dicom_maker import Series, stored_values


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
    folder = Series(stored_values((7, 6, 9))).write(tmp_path / "scan", skip=[3])
    with pytest.raises(GeometryError, match=r"1 slice is missing: between 45\.00 and 50\.00 mm.*2\.5 mm apart"):
        load(folder)


def test_two_gaps(tmp_path: Path) -> None:
    folder = Series(stored_values((7, 6, 12))).write(tmp_path / "scan", skip=[3, 4, 8])
    with pytest.raises(
        GeometryError, match=r"3 slices are missing: between 45\.00 and 52\.50 .* between 57\.50 and 62\.50"
    ):
        load(folder)


def test_varying_distance(tmp_path: Path) -> None:
    def stretch(ds: Dataset, k: int) -> None:
        ds.ImagePositionPatient = [-20, 30, 40 + 2.5 * k + 0.2 * k * k]

    folder = Series(stored_values(), change=stretch).write(tmp_path / "scan")
    with pytest.raises(GeometryError, match=r"distance between slices varies from 2\.7 to 3\.9 mm"):
        load(folder)


def test_small_irregularity_is_told(tmp_path: Path) -> None:
    def jitter(ds: Dataset, k: int) -> None:
        ds.ImagePositionPatient = [-20, 30, 40 + 2.5 * k + (0.1 if k == 2 else 0)]

    volume = load(Series(stored_values(), change=jitter).write(tmp_path / "scan"))
    assert len(volume.warnings) == 1
    assert "vary from 2.400 to 2.600 mm" in volume.warnings[0]


def test_gantry_tilt_is_refused_with_its_angle(tmp_path: Path) -> None:
    tilt = 2.5 * np.tan(np.radians(15))
    folder = Series(stored_values(), shear=(0, float(tilt), 0)).write(tmp_path / "scan")
    with pytest.raises(GeometryError, match=r"15\.0 degrees \(gantry tilt\)"):
        load(folder)


def test_two_different_slices_at_one_position(tmp_path: Path) -> None:
    series = Series(stored_values())
    folder = series.write(tmp_path / "scan")
    series.dataset(2).save_as(folder / "more.dcm", enforce_file_format=True)
    with pytest.raises(GeometryError, match=r"2 slices share a position, for example .*more\.dcm.* 45\.00 mm"):
        load(folder)


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
