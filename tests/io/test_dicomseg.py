from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import NuclearMedicineImageStorage

from medresnet3d.data.phantoms.mammography import write_inbreast
from medresnet3d.errors import ConfigError, DataError, GeometryError
from medresnet3d.io import Volume, list_series, load, read_dicom_seg, write_dicom_seg
from medresnet3d.io.dicom_results import DISCLAIMER
from medresnet3d.io.dicom_sr import Findings, write_dicom_sr
from tests.io.dicom_maker import OBLIQUE, Series, stored_values
from tests.io.dicom_vendors import Frame, enhanced_mr, save, siemens_mosaic, tomographic, uih_grid
from tests.io.test_dicom_slices import enhanced

LABELS = ("background", "left lung", "right lung")
CODES = {"1": {"category": ["91723000", "SCT", "Anatomical structure"], "type": ["44029006", "SCT", "Left lung"]}}
SHAPE = (16, 12, 7)


def mask_like(volume: Volume) -> np.ndarray:
    """Labels whose every flip and swap differs from themselves, with an empty first slice."""
    mask = np.random.default_rng(3).integers(0, 3, volume.shape).astype(np.uint8)
    mask[:, :, 0] = 0
    return mask


@pytest.mark.parametrize("kind", ["binary", "labelmap", "fractional"])
@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), OBLIQUE])
def test_round_trip_is_exact(tmp_path: Path, kind: str, orientation: tuple[float, ...]) -> None:
    volume = load(Series(stored_values(SHAPE), orientation=orientation).write(tmp_path / "scan"))
    mask = mask_like(volume)
    path = write_dicom_seg(mask, volume, LABELS, tmp_path / "seg.dcm", kind=kind)
    assert np.array_equal(read_dicom_seg(path, volume), mask)


def test_every_frame_lies_where_its_source_slice_lies(tmp_path: Path) -> None:
    series = Series(stored_values(SHAPE))
    flipped = Series(series.stored[:, :, ::-1], origin=(-20, 30, 40 + 6 * 2.5), shear=(0, 0, -5.0))
    volume = load(flipped.write(tmp_path / "scan", seed=5))
    mask = mask_like(volume)
    seg = hd.seg.segread(write_dicom_seg(mask, volume, LABELS, tmp_path / "seg.dcm"))
    place = {ds.SOPInstanceUID: ds.ImagePositionPatient for ds in map(dcmread, (tmp_path / "scan").iterdir())}
    inverse = np.linalg.inv(volume.affine)
    frames = seg.pixel_array
    for index, groups in enumerate(seg.PerFrameFunctionalGroupsSequence):
        source = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        position = groups.PlanePositionSequence[0].ImagePositionPatient
        assert list(position) == list(place[source])
        x, y, z = (float(value) for value in position)
        k = round(float((inverse @ [-x, -y, z, 1])[2]))
        label = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        assert np.array_equal(frames[index].T, mask[:, :, k] == label)


def test_round_trip_of_an_enhanced_file_with_shuffled_frames(tmp_path: Path) -> None:
    path = tmp_path / "multi.dcm"
    enhanced(Series(stored_values()), [3, 0, 4, 1, 2]).save_as(path, enforce_file_format=True)
    volume = load(path)
    mask = mask_like(volume)
    seg = write_dicom_seg(mask, volume, LABELS, tmp_path / "seg.dcm")
    assert np.array_equal(read_dicom_seg(seg, volume), mask)


def frames_of(path: Path) -> list[tuple[np.ndarray, np.ndarray, str]]:
    """The pixels (columns, rows) of each frame, its position and the instance that it refers to."""
    seg = hd.seg.segread(path)
    pixels = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    return [
        (
            plane.T,
            np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float),
            str(groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID),
        )
        for plane, groups in zip(pixels, seg.PerFrameFunctionalGroupsSequence, strict=True)
    ]


def ball(volume: Volume, radius: float = 5.0) -> np.ndarray:
    """A ball in the middle of the volume."""
    centre = volume.affine @ [*(np.array(volume.shape) - 1) / 2, 1]
    grid = np.stack(np.meshgrid(*map(np.arange, volume.shape), indexing="ij"), -1)
    points = grid @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    return (np.linalg.norm(points - centre[:3], axis=-1) < radius).astype(np.uint8)


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
@pytest.mark.parametrize(
    ("series", "skip"),
    [
        (Series(stored_values((30, 26, 9)), spacing=(0.8, 1.1, 1.5), shear=(0.1, 0.4, 0.0)), ()),
        (Series(stored_values((30, 26, 9)), spacing=(0.8, 1.1, 1.5)), (3, 4)),
    ],
    ids=["tilted", "slices missing"],
)
def test_a_volume_on_a_grid_of_its_own_goes_back_to_the_source_slices(
    tmp_path: Path, kind: str, series: Series, skip: tuple[int, ...]
) -> None:
    volume = load(series.write(tmp_path / "scan", skip=skip))
    assert volume.source.regridded
    mask = ball(volume)
    path = write_dicom_seg(mask, volume, ["background", "ball"], tmp_path / "seg.dcm", kind=kind)
    place = {ds.SOPInstanceUID: ds for ds in map(dcmread, (tmp_path / "scan").iterdir())}
    centre = (volume.affine @ [*(np.array(volume.shape) - 1) / 2, 1])[:3] * [-1, -1, 1]
    column, row = np.mgrid[:30, :26]
    seen = 0
    for pixels, position, source in frames_of(path):
        assert np.allclose(position, np.array(place[source].ImagePositionPatient, float))
        points = position + np.stack([column * 0.8, row * 1.1, 0 * row], -1)
        away = np.linalg.norm(points - centre, axis=-1)
        assert (pixels[away < 4.2] > 0).all()
        assert not pixels[away > 5.8].any()
        seen += int((pixels > 0).sum())
    assert seen > 100
    back = read_dicom_seg(path, volume)
    assert 2 * (back & mask).sum() / (back.sum() + mask.sum()) > 0.9


def test_one_of_several_time_points_of_an_enhanced_file(tmp_path: Path) -> None:
    series = Series(stored_values())
    dataset = enhanced(series, [0, 1, 2, 3, 4, 4, 3, 2, 1, 0])
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for index, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        content = Dataset()
        content.TemporalPositionIndex = 1 + index // 5
        groups.FrameContentSequence = [content]
        groups.PlaneOrientationSequence, groups.PixelMeasuresSequence = (
            shared.PlaneOrientationSequence,
            shared.PixelMeasuresSequence,
        )
    del shared.PlaneOrientationSequence, shared.PixelMeasuresSequence  # some vendors repeat them frame by frame
    dataset.save_as(tmp_path / "multi.dcm", enforce_file_format=True)
    for info in list_series(tmp_path / "multi.dcm"):
        volume = load(tmp_path / "multi.dcm", series=info.id)
        mask = mask_like(volume)
        path = write_dicom_seg(mask, volume, LABELS, tmp_path / "seg.dcm")
        assert np.array_equal(read_dicom_seg(path, volume), mask)
        referred = {
            int(groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber) - 1
            for groups in hd.seg.segread(path).PerFrameFunctionalGroupsSequence
        }
        assert referred == set(volume.source.frames[1:])  # the first slice is empty
    assert len(list_series(tmp_path / "multi.dcm")) == 2


def nuclear(series: Series) -> Dataset:
    """A multi-frame file whose frames have no positions of their own."""
    dataset = tomographic(series)
    dataset.SOPClassUID = NuclearMedicineImageStorage
    return dataset


def shuffled(series: Series) -> Dataset:
    """Three time points in one file, its frames in no order."""
    frames = [Frame(k, time) for time in range(3) for k in range(series.stored.shape[2])]
    return enhanced_mr([series] * 3, [frames[index] for index in np.random.default_rng(0).permutation(len(frames))])


@pytest.mark.parametrize("make", [siemens_mosaic, uih_grid, nuclear, shuffled])
@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), OBLIQUE])
def test_forms_of_several_vendors(
    tmp_path: Path, make: Callable[[Series], Dataset], orientation: tuple[float, ...]
) -> None:
    folder = save(make(Series(stored_values((8, 6, 7)), orientation=orientation)), tmp_path / "scan" / "x.dcm")
    for info in list_series(folder):
        volume = load(folder, series=info.id)
        mask = mask_like(volume)
        assert np.array_equal(read_dicom_seg(write_dicom_seg(mask, volume, LABELS, tmp_path / "s.dcm"), volume), mask)


@pytest.mark.skipif(shutil.which("segimage2itkimage") is None, reason="dcmqi is not installed")
def test_dcmqi_reads_it_on_the_same_voxels(tmp_path: Path) -> None:
    volume = load(Series(stored_values(SHAPE), orientation=OBLIQUE).write(tmp_path / "scan"))
    mask = mask_like(volume)
    path = write_dicom_seg(mask, volume, LABELS, tmp_path / "seg.dcm")
    command = ["segimage2itkimage", "--inputDICOM", path, "--outputDirectory", tmp_path, "-t", "nii"]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    for value, file in enumerate(sorted(tmp_path.glob("*.nii*")), start=1):
        read = load(file)
        turn = np.linalg.inv(volume.affine) @ read.affine
        for index in np.argwhere(read.array > 0):
            assert mask[tuple(np.rint(turn @ [*index, 1])[:3].astype(int))] == value
        assert np.count_nonzero(read.array) == np.count_nonzero(mask == value)


def test_headers_that_differ_in_the_last_digits(tmp_path: Path) -> None:
    def shake(ds: Dataset, k: int) -> None:
        ds.ImageOrientationPatient = [1, k * 1e-6, 0, 0, 1, k * 1e-6]
        del ds.SliceThickness

    volume = load(Series(stored_values(SHAPE), change=shake).write(tmp_path / "scan"))
    mask = mask_like(volume)
    assert np.array_equal(read_dicom_seg(write_dicom_seg(mask, volume, LABELS, tmp_path / "seg.dcm"), volume), mask)


def test_a_single_slice(tmp_path: Path) -> None:
    volume = load(Series(stored_values((16, 12, 1))).write(tmp_path / "scan"))
    mask = np.random.default_rng(3).integers(0, 3, volume.shape).astype(np.uint8)
    assert np.array_equal(read_dicom_seg(write_dicom_seg(mask, volume, LABELS, tmp_path / "seg.dcm"), volume), mask)


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_a_mosaic_has_its_planes_in_the_patient(tmp_path: Path, kind: str) -> None:
    """Its slices are tiles of one image, so there is no source slice that a plane of the SEG could refer to."""
    read = load(Series(stored_values((32, 24, 1))).write(tmp_path / "scan"))
    affine = np.array([[-0.8, 0, 0, 20], [0, -1.1, 0, -30], [0, 0, 2.5, 40], [0, 0, 0, 1.0]])
    source = replace(read.source, frames=(), regridded=True)
    volume = Volume(np.zeros((16, 12, 4), np.int16), affine, "MR", (), source)
    mask = mask_like(volume)
    path = write_dicom_seg(mask, volume, LABELS, tmp_path / "seg.dcm", kind=kind)
    assert np.array_equal(read_dicom_seg(path, volume), mask)
    seg = hd.seg.segread(path)
    places = {
        tuple(map(float, groups.PlanePositionSequence[0].ImagePositionPatient))
        for groups in seg.PerFrameFunctionalGroupsSequence
    }
    assert places == {(-20, 30, 42.5), (-20, 30, 45), (-20, 30, 47.5)}  # the first slice is empty
    assert seg.SourceImageSequence[0].ReferencedSOPInstanceUID == source.datasets[0].SOPInstanceUID


def test_a_scan_without_identifiers(tmp_path: Path) -> None:
    volume = load(Series(stored_values(SHAPE), change=lambda ds, k: delattr(ds, "StudyInstanceUID")).write(tmp_path))
    with pytest.raises(DataError, match="no StudyInstanceUID, by which DICOM SEG would refer to the scan"):
        write_dicom_seg(mask_like(volume), volume, LABELS, tmp_path / "seg.dcm")


def test_what_the_file_says(tmp_path: Path) -> None:
    volume = load(Series(stored_values(SHAPE)).write(tmp_path / "scan"))
    path = write_dicom_seg(
        mask_like(volume), volume, LABELS, tmp_path / "seg.dcm", codes=CODES, bundle="lungs", version="0.3"
    )
    seg = hd.seg.segread(path)
    assert DISCLAIMER in seg.SeriesDescription
    assert DISCLAIMER in seg.ContentDescription
    assert (seg.PatientID, seg.StudyInstanceUID) == ("P1", "1.2.3.4")
    left, right = (seg.get_segment_description(number) for number in (1, 2))
    assert (left.segment_label, left.segmented_property_type.value) == ("left lung", "44029006")
    assert (right.segment_label, right.segmented_property_type.value) == ("right lung", "91723000")
    algorithm = left.algorithm_identification
    assert algorithm is not None
    assert (algorithm.name, algorithm.version) == ("lungs", "0.3")
    referenced = seg.ReferencedSeriesSequence[0]
    assert referenced.SeriesInstanceUID == volume.source.series
    assert len(referenced.ReferencedInstanceSequence) == SHAPE[2]


def test_probabilities(tmp_path: Path) -> None:
    volume = load(Series(stored_values(SHAPE)).write(tmp_path / "scan"))
    probability = np.random.default_rng(0).random((2, *SHAPE)).astype(np.float32)
    path = write_dicom_seg(probability, volume, LABELS, tmp_path / "seg.dcm", kind="fractional")
    uids = [dataset.SOPInstanceUID for dataset in volume.source.datasets]
    seg = hd.seg.segread(path)
    assert seg.SegmentationFractionalType == "PROBABILITY"
    assert seg.file_meta.TransferSyntaxUID.name == "RLE Lossless"
    planes = seg.get_pixels_by_source_instance(uids, ignore_spatial_locations=True)
    np.testing.assert_allclose(planes.transpose(3, 2, 1, 0), probability, atol=1 / 255)


def test_empty_mask(tmp_path: Path) -> None:
    volume = load(Series(stored_values(SHAPE)).write(tmp_path / "scan"))
    path = write_dicom_seg(np.zeros(SHAPE, np.uint8), volume, LABELS, tmp_path / "seg.dcm")
    assert not read_dicom_seg(path, volume).any()


def test_labels_by_value_may_have_gaps(tmp_path: Path) -> None:
    volume = load(Series(stored_values(SHAPE)).write(tmp_path / "scan"))
    mask = np.where(mask_like(volume) == 2, 3, 0)
    path = write_dicom_seg(mask, volume, {"0": "background", "3": "nodule"}, tmp_path / "seg.dcm")
    assert np.array_equal(read_dicom_seg(path, volume), mask)
    assert hd.seg.segread(path).get_segment_description(3).segment_label == "nodule"


def test_headers_stripped_of_patient_tags(tmp_path: Path) -> None:
    def strip(ds: Dataset, k: int) -> None:
        for tag in ("PatientName", "PatientBirthDate", "AccessionNumber", "StudyTime", "FrameOfReferenceUID"):
            delattr(ds, tag)

    volume = load(Series(stored_values(SHAPE), change=strip).write(tmp_path / "scan"))
    mask = mask_like(volume)
    assert np.array_equal(read_dicom_seg(write_dicom_seg(mask, volume, LABELS, tmp_path / "seg.dcm"), volume), mask)
    assert "PatientName" not in volume.source.datasets[0]


def test_unusable_requests(tmp_path: Path) -> None:
    volume = load(Series(stored_values(SHAPE)).write(tmp_path / "scan"))
    mask = mask_like(volume)
    target = tmp_path / "seg.dcm"
    with pytest.raises(DataError, match="needs a DICOM scan"):
        write_dicom_seg(mask, Volume(volume.array, volume.affine), LABELS, target)
    with pytest.raises(GeometryError, match="does not fit"):
        write_dicom_seg(mask[1:], volume, LABELS, target)
    with pytest.raises(DataError, match="label 2, but the class list ends at 1"):
        write_dicom_seg(mask, volume, LABELS[:2], target)
    with pytest.raises(DataError, match="at least one label"):
        write_dicom_seg(mask * 0, volume, ["background"], target)
    with pytest.raises(ConfigError, match="kind 'surface'"):
        write_dicom_seg(mask, volume, LABELS, target, kind="surface")
    with pytest.raises(ConfigError, match="the code of label 'left lung'"):
        write_dicom_seg(mask, volume, LABELS, target, codes={"1": {"type": "lung"}})
    assert not target.exists()


def test_reading_what_does_not_belong(tmp_path: Path) -> None:
    volume = load(Series(stored_values(SHAPE)).write(tmp_path / "scan"))
    other = load(Series(stored_values(SHAPE)).write(tmp_path / "other"))
    path = write_dicom_seg(mask_like(volume), volume, LABELS, tmp_path / "seg.dcm")
    with pytest.raises(GeometryError, match="refers to 7 instances that are not among those of"):
        read_dicom_seg(path, other)
    with pytest.raises(DataError, match="cannot be read as DICOM SEG"):
        read_dicom_seg(next((tmp_path / "scan").iterdir()), volume)


def test_a_mammogram_takes_a_segmentation_and_a_report(tmp_path: Path) -> None:
    write_inbreast(tmp_path, women=6)
    volume = load(min(tmp_path.rglob("*.dcm")))
    mask = np.zeros(volume.shape, dtype=np.uint8)
    mask[5:20, 8:30] = 1
    for kind in ("binary", "fractional"):
        path = write_dicom_seg(mask, volume, ("background", "mass"), tmp_path / f"{kind}.dcm", kind=kind)
        assert np.array_equal(read_dicom_seg(path, volume), mask)
        referenced = dcmread(path).ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
        assert referenced.ReferencedSOPInstanceUID == dcmread(volume.source.files[0]).SOPInstanceUID
    findings = Findings(("benign", "malignant"), {"benign": 0.2, "malignant": 0.8}, "malignant")
    report = dcmread(write_dicom_sr(findings, volume, tmp_path / "report.dcm"))
    assert report.Modality == "SR" and "Probability" in str(report)
