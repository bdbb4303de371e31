from __future__ import annotations

from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import Dataset, dcmread

from medresnet3d.errors import ConfigError, DataError, GeometryError
from medresnet3d.io import Volume, load, read_dicom_seg, write_dicom_seg
from medresnet3d.io.dicomseg import DISCLAIMER
from tests.io.dicom_maker import OBLIQUE, Series, stored_values
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


def test_sentence_is_the_package_s() -> None:
    from medresnet3d.reports import DISCLAIMER as sentence  # noqa: N811

    assert sentence == DISCLAIMER


def test_probabilities(tmp_path: Path) -> None:
    volume = load(Series(stored_values(SHAPE)).write(tmp_path / "scan"))
    probability = np.random.default_rng(0).random((2, *SHAPE)).astype(np.float32)
    path = write_dicom_seg(probability, volume, LABELS, tmp_path / "seg.dcm", kind="fractional")
    uids = [dataset.SOPInstanceUID for dataset in volume.source.datasets]
    planes = hd.seg.segread(path).get_pixels_by_source_instance(uids, ignore_spatial_locations=True)
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
