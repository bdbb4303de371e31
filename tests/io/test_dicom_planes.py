from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from medresnet3d.io import Volume, load
from medresnet3d.io.dicom_planes import from_planes, is_multi_frame, on_grid, source_planes, to_planes
from tests.io.dicom_maker import OBLIQUE, Series, stored_values

SHAPE = (14, 11, 6)


def shifted(volume: Volume, affine: np.ndarray, shape: tuple[int, ...]) -> Volume:
    """The same source on another grid."""
    source = replace(volume.source, regridded=True)
    return Volume(np.zeros(shape, np.int16), affine, volume.modality, (), source)


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), OBLIQUE])
def test_planes_of_an_ordinary_series(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    series = Series(stored_values(SHAPE), orientation=orientation)
    volume = load(series.write(tmp_path / "scan"))
    planes = source_planes(volume)
    assert planes is not None and on_grid(volume, planes) and not is_multi_frame(volume)
    assert (planes.size, planes.spacing, planes.thickness) == ((11, 14), (1.1, 0.8), 2.5)
    np.testing.assert_allclose(planes.positions[3], np.array(series.origin) + 3 * series.step, atol=1e-5)
    mask = np.random.default_rng(0).integers(0, 5, SHAPE)
    assert np.array_equal(to_planes(mask, volume, planes), mask.T)
    assert np.array_equal(from_planes(mask.T, volume, planes), mask)


def test_a_grid_that_is_larger_and_turned_over(tmp_path: Path) -> None:
    volume = load(Series(stored_values(SHAPE), orientation=OBLIQUE).write(tmp_path / "scan"))
    planes = source_planes(volume)
    assert planes is not None
    turn = np.array([[-1, 0, 0, 15], [0, 1, 0, -2], [0, 0, -1, 7], [0, 0, 0, 1.0]])  # old index of a new one
    other = shifted(volume, volume.affine @ turn, (18, 15, 10))
    assert not on_grid(other, planes)
    labels = np.random.default_rng(0).integers(1, 5, (6, 11, 14))
    on_other = from_planes(labels, other, planes)
    assert np.array_equal(to_planes(on_other, other, planes), labels)
    assert on_other[15, 2, 7] == labels[0, 0, 0] and on_other[2, 12, 2] == labels[5, 10, 13]
    assert not on_other[0].any() and not on_other[:, 14].any()


def test_channels_are_kept(tmp_path: Path) -> None:
    volume = load(Series(stored_values(SHAPE)).write(tmp_path / "scan"))
    planes = source_planes(volume)
    assert planes is not None
    values = np.random.default_rng(0).random((3, *SHAPE))
    assert np.array_equal(to_planes(values, volume, planes), values.transpose(0, 3, 2, 1))


def test_an_irregular_series_has_planes_beside_the_grid(tmp_path: Path) -> None:
    volume = load(Series(stored_values(SHAPE)).write(tmp_path / "scan"))
    planes = source_planes(volume)
    assert planes is not None
    finer = volume.affine @ np.diag([1, 1, 0.5, 1])
    other = shifted(volume, finer, (14, 11, 11))
    mask = np.arange(11) * np.ones((14, 11, 1), int)
    assert np.array_equal(to_planes(mask, other, planes)[:, 0, 0], [0, 2, 4, 6, 8, 10])


def test_a_single_image_without_a_place(tmp_path: Path) -> None:
    def strip(ds: Dataset, k: int) -> None:
        del ds.ImagePositionPatient, ds.ImageOrientationPatient

    volume = load(Series(stored_values((14, 11, 1)), change=strip).write(tmp_path / "scan"))
    planes = source_planes(volume)
    assert planes is not None and on_grid(volume, planes)
    np.testing.assert_allclose(planes.positions, [volume.affine[:3, 3] * [-1, -1, 1]])  # that of the grid, in LPS


def test_tiles_of_one_image_have_no_planes(tmp_path: Path) -> None:
    volume = load(Series(stored_values((14, 12, 1))).write(tmp_path / "scan"))
    mosaic = Volume(np.zeros((7, 6, 4)), volume.affine, "MR", (), replace(volume.source, frames=(), regridded=True))
    assert source_planes(mosaic) is None
