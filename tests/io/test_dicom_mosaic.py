from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import generate_uid

from medresnet3d.errors import DataError
from medresnet3d.io import list_series, load
from medresnet3d.io.dicom_mosaic import find_mosaic, is_mosaic
from medresnet3d.io.volume import LPS_TO_RAS
from tests.io.dicom_maker import OBLIQUE, Series, stored_values
from tests.io.dicom_vendors import save, siemens_mosaic, uih_grid

AXIAL, SAGITTAL = (1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1)
ORIENTATIONS = [AXIAL, SAGITTAL, OBLIQUE]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("make", [siemens_mosaic, uih_grid])
def test_every_file_is_a_volume_at_its_place(tmp_path: Path, make: object, orientation: tuple[float, ...]) -> None:
    uid = generate_uid()
    volumes = [Series(stored_values((12, 10, 7), seed=t), orientation=orientation, uid=uid) for t in range(3)]
    for t in (2, 0, 1):
        save(make(volumes[t], t + 1), tmp_path / "scan" / f"{t * 7 % 5}.dcm")  # type: ignore[operator]
    infos = list_series(tmp_path / "scan")
    assert [(info.id, info.shape, info.volumetric) for info in infos] == [
        (f"4.{t + 1}", (12, 10, 7), True) for t in range(3)
    ]
    for t, series in enumerate(volumes):
        volume = load(tmp_path / "scan", f"4.{t + 1}")
        assert np.array_equal(volume.array, series.stored)
        np.testing.assert_allclose(volume.affine, series.affine, atol=1e-5)
        assert volume.array.flags.f_contiguous
        assert volume.source.regridded


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_slices_numbered_against_the_normal(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    series = Series(stored_values((12, 10, 7)), orientation=orientation)
    volume = load(save(siemens_mosaic(series, reverse=True), tmp_path / "scan" / "a.dcm"))
    assert np.array_equal(volume.array[:, :, ::-1], series.stored)
    turned = volume.affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 6], [0, 0, 0, 1]])
    np.testing.assert_allclose(turned, series.affine, atol=1e-5)


@pytest.mark.filterwarnings("ignore:The DICOM readers are highly experimental")
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_second_opinion_of_nibabel(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    from nibabel.nicom.dicomwrappers import MosaicWrapper

    dataset = siemens_mosaic(Series(stored_values((12, 12, 9)), orientation=orientation))
    wrapper = MosaicWrapper(dataset)
    volume = load(save(dataset, tmp_path / "scan" / "a.dcm"))
    assert np.array_equal(wrapper.get_data().transpose(1, 0, 2), volume.array)  # nibabel puts rows first
    np.testing.assert_allclose((LPS_TO_RAS @ wrapper.affine)[:, [1, 0, 2, 3]], volume.affine, atol=1e-4)


def test_positions_may_move_from_volume_to_volume(tmp_path: Path) -> None:
    uid = generate_uid()
    for t in range(3):
        series = Series(stored_values((12, 10, 7), seed=t), origin=(-20 + 0.3 * t, 30, 40 + 0.2 * t), uid=uid)
        save(siemens_mosaic(series, t + 1), tmp_path / "scan" / f"{t}.dcm")
    origins = [load(tmp_path / "scan", f"4.{t}").affine[:3, 3] for t in (1, 2, 3)]
    np.testing.assert_allclose(origins, [[20 - 0.3 * t, -30, 40 + 0.2 * t] for t in range(3)], atol=1e-5)


def test_lost_number_of_slices_is_guessed_and_told(tmp_path: Path) -> None:
    dataset = siemens_mosaic(Series(stored_values((12, 10, 7))), csa=False)
    volume = load(save(dataset, tmp_path / "scan" / "a.dcm"))
    assert volume.shape == (12, 10, 9)
    assert (volume.array[:, :, 7:] == 0).all()
    assert volume.warnings == ("The mosaic does not say how many slices it holds: all 9 were taken.",)


def test_number_of_slices_from_their_times(tmp_path: Path) -> None:
    dataset = siemens_mosaic(Series(stored_values((12, 10, 7))), csa=False)
    dataset.private_block(0x0019, "SIEMENS MR HEADER").add_new(0x29, "FD", [0.1 * k for k in range(7)])
    assert load(save(dataset, tmp_path / "scan" / "a.dcm")).shape == (12, 10, 7)


@pytest.mark.parametrize("broken", [b"SV10", b"SV10\x04\x03\x02\x01" + bytes(range(60)), b"no header at all" * 9])
def test_broken_private_header_stops_nothing(tmp_path: Path, broken: bytes) -> None:
    series = Series(stored_values((12, 10, 7)))
    dataset = siemens_mosaic(series)
    dataset[0x0029, 0x1010].value = broken
    volume = load(save(dataset, tmp_path / "scan" / "a.dcm"))
    assert np.array_equal(volume.array, series.stored)


def test_mosaic_that_cannot_be_divided(tmp_path: Path) -> None:
    dataset = siemens_mosaic(Series(stored_values((12, 10, 7))), csa=False)
    del dataset.AcquisitionMatrix
    with pytest.raises(DataError, match="a mosaic that does not say how it is divided into slices"):
        load(save(dataset, tmp_path / "scan" / "a.dcm"))


def test_slices_that_are_only_called_mosaic(tmp_path: Path) -> None:
    """Siemens XA keeps the word in ImageType after it has taken the mosaic apart."""
    tags = {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"], "AcquisitionMatrix": [0, 7, 6, 0]}
    series = Series(stored_values(), tags=tags)
    assert not is_mosaic(series.dataset(0))
    assert np.array_equal(load(series.write(tmp_path / "scan")).array, series.stored - 1024)


@pytest.mark.parametrize("tiles", [1, 2, 4, 5, 9, 10])
def test_number_of_tiles(tiles: int) -> None:
    """Siemens' mosaics are square; a grid of UIH has as many rows of tiles as it needs."""
    series = Series(stored_values((4, 3, tiles)))
    siemens, uih = find_mosaic(siemens_mosaic(series)), find_mosaic(uih_grid(series))
    assert siemens is not None and uih is not None
    assert (siemens.across, siemens.down) == (math.ceil(math.sqrt(tiles)),) * 2
    assert (uih.across, uih.down) == (siemens.across, math.ceil(tiles / siemens.across))


def test_grid_without_the_list_of_positions(tmp_path: Path) -> None:
    series = Series(stored_values((12, 10, 7)), orientation=OBLIQUE)
    dataset = uih_grid(series)
    del dataset[0x0065, 0x1051]
    volume = load(save(dataset, tmp_path / "scan" / "a.dcm"))
    assert np.array_equal(volume.array, series.stored)
    np.testing.assert_allclose(volume.affine, series.affine, atol=1e-5)
