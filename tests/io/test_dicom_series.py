from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from medresnet3d.errors import DataError
from medresnet3d.io import list_series, load, write_dicom_seg
from tests.io.dicom_maker import Series, check, stored_values


def test_copies_of_files_are_skipped(tmp_path: Path) -> None:
    series = Series(stored_values())
    folder = series.write(tmp_path / "scan")
    shutil.copy(folder / "000.dcm", folder / "copy.dcm")
    volume = load(folder)
    assert volume.shape == (7, 6, 5)
    assert "1 file is a copy" in volume.warnings[0]


def test_two_series_are_listed_and_chosen(tmp_path: Path) -> None:
    thin = Series(stored_values((7, 6, 5)), number=2, description="thin", origin=(0, 0, 0))
    thick = Series(stored_values((4, 3, 6)), number=3, description="thick")
    thin.write(tmp_path / "scan", prefix="a")
    thick.write(tmp_path / "scan", prefix="b", seed=1)
    with pytest.raises(DataError) as caught:
        load(tmp_path / "scan")
    message = str(caught.value)
    assert "--series" in message
    assert "2: thin, CT, 5 slices of 7 x 6, 0.8 x 1.1 x 2.5 mm" in message
    assert "3: thick, CT, 6 slices of 4 x 3" in message
    assert load(tmp_path / "scan", series="2").shape == (7, 6, 5)
    assert load(tmp_path / "scan", series=thick.uid).shape == (4, 3, 6)
    with pytest.raises(DataError, match="no series '9'"):
        load(tmp_path / "scan", series="9")


def test_list_says_what_is_wrong(tmp_path: Path) -> None:
    Series(stored_values((7, 6, 9)), number=1).write(tmp_path / "scan", prefix="a", skip=[3])
    Series(stored_values((7, 6, 9)), number=2).write(tmp_path / "scan", prefix="b")
    broken, whole = list_series(tmp_path / "scan")
    assert broken.spacing == pytest.approx((0.8, 1.1, 2.5))
    assert broken.repairs[0].startswith("1 slice is missing")
    assert "(1 slice is missing: between 45.00 and 50.00 mm" in str(broken)
    assert whole.spacing == pytest.approx((0.8, 1.1, 2.5))
    assert whole.fault == ""
    assert whole.repairs == ()


def test_equal_series_numbers_get_running_ids(tmp_path: Path) -> None:
    for prefix in "ab":
        Series(stored_values()).write(tmp_path / "scan", prefix=prefix)
    assert [info.id for info in list_series(tmp_path / "scan")] == ["1", "2"]


def test_localiser_is_set_aside(tmp_path: Path) -> None:
    series = Series(stored_values())
    folder = series.write(tmp_path / "scan")
    sideways = Series(
        stored_values((9, 8, 1)),
        uid=series.uid,
        orientation=(0, 1, 0, 0, 0, -1),
        tags={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
    )
    sideways.write(folder, prefix="scout")
    check(folder, series)
    assert load(folder).warnings == ("1 image of the series was set aside: a localiser.",)


def test_localiser_series_is_no_volume(tmp_path: Path) -> None:
    series = Series(stored_values(), number=2)
    series.write(tmp_path / "scan")
    Series(stored_values((9, 8, 1)), number=1, tags={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}).write(
        tmp_path / "scan", prefix="scout"
    )
    check(tmp_path / "scan", series)


def test_colour_summary_is_set_aside(tmp_path: Path) -> None:
    series = Series(stored_values())
    folder = series.write(tmp_path / "scan")

    def colour(ds: Dataset, k: int) -> None:
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
        ds.PixelData = bytes(ds.Rows * ds.Columns * 3)

    Series(stored_values((4, 4, 1), np.uint8), uid=series.uid, change=colour).write(folder, prefix="summary")
    check(folder, series)
    assert "a colour image" in load(folder).warnings[0]


@pytest.mark.parametrize("tag", ["EchoTime", "AcquisitionNumber"])
def test_images_at_one_position_become_volumes(tmp_path: Path, tag: str) -> None:
    first = Series(stored_values(), tags={tag: 5})
    second = Series(stored_values(seed=1), uid=first.uid, tags={tag: 12})
    folder = second.write(first.write(tmp_path / "scan"), prefix="second")
    infos = list_series(folder)
    assert [(info.id, info.description) for info in infos] == [
        ("4.1", f"phantom [{tag} 5{'.0' if tag == 'EchoTime' else ''}]"),
        ("4.2", f"phantom [{tag} 12{'.0' if tag == 'EchoTime' else ''}]"),
    ]
    with pytest.raises(DataError, match=r"4\.1: phantom"):
        load(folder)
    assert np.array_equal(load(folder, series="4.1").array, first.stored - 1024)
    assert np.array_equal(load(folder, series="4.2").array, second.stored - 1024)


def test_repeats_without_a_tag_follow_their_instance_numbers(tmp_path: Path) -> None:
    first = Series(stored_values())
    second = Series(stored_values(seed=1), uid=first.uid, change=lambda ds, k: setattr(ds, "InstanceNumber", k + 6))
    folder = second.write(first.write(tmp_path / "scan"), prefix="a")
    assert np.array_equal(load(folder, series="4.1").array, first.stored - 1024)
    assert np.array_equal(load(folder, series="4.2").array, second.stored - 1024)


def test_times_that_cut_across_positions_are_no_volumes(tmp_path: Path) -> None:
    first = Series(stored_values(), change=lambda ds, k: setattr(ds, "ContentTime", f"12000{k // 2}"))

    def later(ds: Dataset, k: int) -> None:
        ds.ContentTime, ds.InstanceNumber = f"12000{3 + k // 2}", k + 6

    second = Series(stored_values(seed=1), uid=first.uid, change=later)
    folder = second.write(first.write(tmp_path / "scan"), prefix="a")
    assert [info.shape for info in list_series(folder)] == [(7, 6, 5), (7, 6, 5)]
    assert np.array_equal(load(folder, series="4.2").array, second.stored - 1024)


def test_orientation_that_trembles_stays_one_volume(tmp_path: Path) -> None:
    def tremble(ds: Dataset, k: int) -> None:
        angle = 0.125 + 1e-6 * (k % 2)
        ds.ImageOrientationPatient = [f"{value:.9f}" for value in (1, 0, 0, 0, np.cos(angle), np.sin(angle))]

    angle = 0.125 + 0.5e-6
    series = Series(stored_values(), orientation=(1, 0, 0, 0, np.cos(angle), np.sin(angle)), change=tremble)
    volume = load(series.write(tmp_path / "scan"))
    np.testing.assert_allclose(volume.affine, series.affine, atol=1e-4)


def test_positions_that_tremble_are_repeats(tmp_path: Path) -> None:
    def tremble(ds: Dataset, k: int) -> None:
        ds.ImagePositionPatient = [-20, 30, 40.005 + 2.5 * k + 0.001]
        ds.EchoTime = 9

    first = Series(stored_values(), origin=(-20, 30, 40.005), tags={"EchoTime": 5})
    second = Series(stored_values(seed=1), uid=first.uid, change=tremble)
    folder = second.write(first.write(tmp_path / "scan"), prefix="b")
    assert [info.id for info in list_series(folder)] == ["4.1", "4.2"]
    assert np.array_equal(load(folder, series="4.2").array, second.stored - 1024)


def test_segmentation_beside_its_scan_is_no_scan(tmp_path: Path) -> None:
    series = Series(stored_values())
    folder = series.write(tmp_path / "scan")
    scan = load(folder)
    write_dicom_seg((scan.array > 0).astype(np.uint8), scan, ("background", "bright"), folder / "seg.dcm")
    check(folder, series)
    with pytest.raises(DataError, match="a segmentation, not a scan"):
        load(folder / "seg.dcm")
