from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid

from medresnet3d.errors import GeometryError
from medresnet3d.io import Volume, list_series, load, load_all
from tests.io.dicom_maker import OBLIQUE, Series, stored_values
from tests.io.dicom_vendors import Frame, enhanced_mr, mr, save, tomographic

Change = Callable[[Dataset, int, int], None]


def repeated(folder: Path, times: int, change: Change, *, skip: dict[int, list[int]] | None = None) -> list[Series]:
    """Volumes of five slices in one series; ``change`` gets the data set, the volume and the slice."""
    uid = generate_uid()
    volumes = []
    for t in range(times):
        series = mr(Series(stored_values(seed=t), uid=uid, change=lambda ds, k, t=t: change(ds, t, k)))
        series.write(folder, prefix=f"{9 - t}_", seed=t, skip=(skip or {}).get(t, []))
        volumes.append(series)
    return volumes


def check_volumes(folder: Path, expected: list[Series]) -> None:
    """The volumes among the files are those that are expected, in this order."""
    found = [volume for _, volume in load_all(folder)]
    assert len(found) == len(expected)
    for volume, series in zip(found, expected, strict=True):
        assert isinstance(volume, Volume)
        assert np.array_equal(volume.array, series.stored)
        np.testing.assert_allclose(volume.affine, series.affine, atol=1e-5)


def number(ds: Dataset, t: int, k: int) -> None:
    ds.InstanceNumber = 5 * t + k + 1


def test_time_points_by_instance_number(tmp_path: Path) -> None:
    check_volumes(tmp_path, repeated(tmp_path, 4, number))


def test_time_points_that_run_fastest(tmp_path: Path) -> None:
    def change(ds: Dataset, t: int, k: int) -> None:
        ds.InstanceNumber = 3 * k + t + 1

    check_volumes(tmp_path, repeated(tmp_path, 3, change))


def test_acquisition_times_where_all_numbers_are_equal(tmp_path: Path) -> None:
    def change(ds: Dataset, t: int, k: int) -> None:
        ds.InstanceNumber, ds.AcquisitionTime = 1, f"1200{t:02d}.{k:06d}"

    check_volumes(tmp_path, repeated(tmp_path, 3, change))


def test_echoes_within_time_points(tmp_path: Path) -> None:
    """Volumes 0 to 5 are time point t // 2 at echo t % 2; echoes come first, as they are no repetitions."""

    def change(ds: Dataset, t: int, k: int) -> None:
        number(ds, t, k)
        ds.EchoNumbers, ds.EchoTime, ds.AcquisitionNumber = t % 2 + 1, [5, 12][t % 2], t // 2 + 1

    volumes = repeated(tmp_path, 6, change)
    check_volumes(tmp_path, [volumes[t] for t in (0, 2, 4, 1, 3, 5)])
    assert list_series(tmp_path)[4].description == "phantom [EchoNumbers 2, AcquisitionNumber 2]"


def test_magnitude_and_phase(tmp_path: Path) -> None:
    def change(ds: Dataset, t: int, k: int) -> None:
        ds.ImageType = ["ORIGINAL", "PRIMARY", "MP"[t], "ND"]

    check_volumes(tmp_path, repeated(tmp_path, 2, change))


def test_phase_of_ge_is_told_by_its_private_tag(tmp_path: Path) -> None:
    def change(ds: Dataset, t: int, k: int) -> None:
        ds.InstanceNumber = 1
        ds.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x2F, "SS", 1 - t)

    volumes = repeated(tmp_path, 2, change)
    check_volumes(tmp_path, volumes[::-1])
    assert list_series(tmp_path)[0].description == "phantom [GERawDataType 0]"


def test_b_values(tmp_path: Path) -> None:
    """Two directions at b = 1000 lie around one image without weighting; the order stays that of the scan."""

    def change(ds: Dataset, t: int, k: int) -> None:
        number(ds, t, k)
        ds.DiffusionBValue = [1000, 0, 1000][t]

    check_volumes(tmp_path, repeated(tmp_path, 3, change))
    assert "DiffusionBValue 0" in list_series(tmp_path)[1].description


@pytest.mark.parametrize("tagged", [True, False])
def test_incomplete_last_time_point_is_set_aside(tmp_path: Path, tagged: bool) -> None:
    def change(ds: Dataset, t: int, k: int) -> None:
        number(ds, t, k)
        if tagged:
            ds.TemporalPositionIdentifier = t + 1

    volumes = repeated(tmp_path, 4, change, skip={3: [3, 4]})
    check_volumes(tmp_path, volumes[:3])
    assert "3 images were set aside" in load(tmp_path, "4.1").warnings[0]
    with pytest.raises(GeometryError, match="3 images were set aside"):
        load(tmp_path, "4.1", strict=True)


def test_series_that_was_sent_twice_is_one_volume(tmp_path: Path) -> None:
    """The second copy has SOPInstanceUIDs of its own, as some archives give."""
    series = mr(Series(stored_values()))
    series.write(tmp_path, prefix="a")
    series.write(tmp_path, prefix="b")
    check_volumes(tmp_path, [series])
    assert load(tmp_path).warnings == (
        "5 images were set aside: others have the same instance number, position and time.",
    )


def test_overlapping_acquisitions(tmp_path: Path) -> None:
    """Two acquisitions share two of their positions; each is a volume."""
    uid = generate_uid()
    first = mr(Series(stored_values(), uid=uid, tags={"AcquisitionNumber": 1}))
    second = mr(Series(stored_values(seed=1), uid=uid, origin=(-20, 30, 47.5), tags={"AcquisitionNumber": 2}))
    first.write(tmp_path, prefix="a")
    second.write(tmp_path, prefix="b")
    check_volumes(tmp_path, [first, second])


@pytest.mark.parametrize("spacing", [0.008, 0.1, 1.0, 5.0])
def test_positions_that_tremble_a_little_are_repeats_at_any_scale(tmp_path: Path, spacing: float) -> None:
    """Preclinical slices lie a hundredth of a millimetre apart, others tremble by that much."""
    uid = generate_uid()
    volumes = []
    for t in range(2):
        origin = (-20, 30, 40 + 0.015 * spacing * t)
        series = mr(Series(stored_values(seed=t), uid=uid, spacing=(0.8, 1.1, spacing), origin=origin))
        series.change = lambda ds, k, t=t: number(ds, t, k)
        series.write(tmp_path, prefix=str(t))
        volumes.append(series)
    check_volumes(tmp_path, volumes)


def test_fine_slices_that_are_called_thick_are_a_volume(tmp_path: Path) -> None:
    series = mr(Series(stored_values(), spacing=(0.8, 1.1, 0.02), tags={"SliceThickness": 5}))
    check_volumes(series.write(tmp_path / "scan"), [series])


def test_one_slice_in_time(tmp_path: Path) -> None:
    uid = generate_uid()
    frames = []
    for t in range(3):
        series = mr(Series(stored_values((7, 6, 1), seed=t), uid=uid, tags={"InstanceNumber": t + 1}))
        series.write(tmp_path, prefix=str(9 - t))
        frames.append(series)
    assert not any(info.volumetric for info in list_series(tmp_path))
    check_volumes(tmp_path, frames)


@pytest.mark.parametrize("by_slice", [True, False])
def test_enhanced_file_with_time_points(tmp_path: Path, by_slice: bool) -> None:
    volumes = [Series(stored_values(seed=t), orientation=OBLIQUE) for t in range(3)]
    frames = [Frame(k, t) for k in range(5) for t in range(3)] if by_slice else []
    frames = frames or [Frame(k, t) for t in range(3) for k in (4, 2, 0, 1, 3)]
    folder = save(enhanced_mr(volumes, frames), tmp_path / "scan" / "a.dcm")
    check_volumes(folder, volumes)
    assert load(folder, "4.2").source.frames == tuple(frames.index(Frame(k, 1)) for k in range(5))


def test_enhanced_files_one_a_time_point(tmp_path: Path) -> None:
    uid = generate_uid()
    volumes = [Series(stored_values(seed=t), uid=uid) for t in range(3)]
    for t, series in enumerate(volumes):
        dataset = enhanced_mr([series], [Frame(k) for k in range(5)], manufacturer="SIEMENS")
        dataset.InstanceNumber = t + 1
        save(dataset, tmp_path / f"{9 - t}.dcm")
    check_volumes(tmp_path, volumes)


def test_enhanced_b_values_and_echoes_are_found_in_their_groups(tmp_path: Path) -> None:
    def change(groups: Dataset, frame: Frame) -> None:
        diffusion, echo = Dataset(), Dataset()
        diffusion.DiffusionBValue, echo.EffectiveEchoTime = [0.0, 800.0][frame.t % 2], [30.0, 60.0][frame.t // 2]
        groups.MRDiffusionSequence, groups.MREchoSequence = [diffusion], [echo]
        del groups.FrameContentSequence[0].TemporalPositionIndex

    volumes = [Series(stored_values(seed=t)) for t in range(4)]
    frames = [Frame(k, t) for k in range(5) for t in range(4)]
    folder = save(enhanced_mr(volumes, frames, change), tmp_path / "scan" / "a.dcm")
    check_volumes(folder, volumes)
    assert [info.description.split("[")[1] for info in list_series(folder)] == [
        f"EffectiveEchoTime {echo}, DiffusionBValue {value}]" for echo in (30.0, 60.0) for value in (0.0, 800.0)
    ]


def test_stacks_of_an_enhanced_file_are_volumes(tmp_path: Path) -> None:
    """Two parallel stacks with 30 mm between them; without their StackID they would be one with a gap."""

    def change(groups: Dataset, frame: Frame) -> None:
        groups.FrameContentSequence[0].StackID = str(frame.t + 1)
        groups.PlanePositionSequence[0].ImagePositionPatient = [-20, 30, 40 + 2.5 * frame.k + 40 * frame.t]

    volumes = [Series(stored_values(seed=t), origin=(-20, 30, 40 + 40 * t)) for t in range(2)]
    dataset = enhanced_mr(volumes, [Frame(k, t) for t in range(2) for k in range(5)], change)
    check_volumes(save(dataset, tmp_path / "scan" / "a.dcm"), volumes)


def test_position_in_the_private_sequence_of_philips(tmp_path: Path) -> None:
    def change(groups: Dataset, frame: Frame) -> None:
        private = Dataset()
        private.ImagePositionPatient = groups.PlanePositionSequence[0].ImagePositionPatient
        del groups.PlanePositionSequence
        groups.private_block(0x2005, "Philips MR Imaging DD 005", create=True)
        groups.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
        groups.add_new((0x2005, 0x140F), "SQ", [private])

    series = Series(stored_values())
    dataset = enhanced_mr([series], [Frame(k) for k in range(5)], change)
    check_volumes(save(dataset, tmp_path / "scan" / "a.dcm"), [series])


def test_tomographic_file_with_one_position(tmp_path: Path) -> None:
    series = Series(stored_values(), orientation=OBLIQUE, intercept=0)
    check_volumes(save(tomographic(series), tmp_path / "scan" / "a.dcm"), [series])


def test_dose_grid_offsets(tmp_path: Path) -> None:
    series = Series(stored_values(), intercept=0)
    dataset = tomographic(series)
    dataset.Modality, dataset.GridFrameOffsetVector = "RTDOSE", [0, 2.5, 5, 7.5, 10]
    del dataset.SliceVector, dataset.RescaleSlope, dataset.RescaleIntercept
    dataset.DoseGridScaling = 0.5
    volume = load(save(dataset, tmp_path / "scan" / "a.dcm"))
    np.testing.assert_allclose(volume.array, series.stored * 0.5)
    np.testing.assert_allclose(volume.affine, series.affine, atol=1e-5)
