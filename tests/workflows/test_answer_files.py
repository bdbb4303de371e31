from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread

from medresnet3d import Predictor
from medresnet3d.errors import ConfigError
from medresnet3d.io import load, read_dicom_seg
from medresnet3d.reports import DISCLAIMER
from medresnet3d.workflows.answer_files import ANSWER_FORMATS, TAKEN_BACK, check_format, write_answer
from medresnet3d.workflows.prediction import Prediction
from tests.io.dicom_maker import Series


def values() -> np.ndarray:
    """A bright block in noise."""
    array = np.random.default_rng(0).integers(1024, 1100, (20, 16, 9))
    array[5:14, 4:9, 2:7] = 1400
    return array.astype(np.int16)


def content(path: Path) -> Any:
    """What a structured report says."""
    return hd.sr.srread(path).content


@pytest.fixture
def dicom(tmp_path: Path) -> Path:
    return Series(values(), spacing=(1.0, 2.0, 3.0)).write(tmp_path / "dicom")


def test_formats() -> None:
    for name in (None, *ANSWER_FORMATS, "nifti,dicomseg, dicomsr,sc"):
        check_format(name)
    with pytest.raises(ConfigError, match=r"--format NIFTI: this format is unknown; did you mean 'nifti'\?"):
        check_format("NIFTI")
    with pytest.raises(ConfigError, match=r"--format dcmsr: .*did you mean 'dicomsr'\?"):
        check_format("nifti,dcmsr")
    with pytest.raises(ConfigError, match=r"use nifti, mha, .*, dicomsr, sc, with commas for several\."):
        check_format("xyz")
    with pytest.raises(ConfigError, match="choose one kind of DICOM SEG"):
        check_format("dicomseg,dicomseg-labelmap")


def test_the_label_map_is_named_after_the_case(thresholder: Path, scan: Path, tmp_path: Path) -> None:
    predictor = Predictor(thresholder)
    prediction = predictor(scan)
    prediction.case = "1.2.840"
    assert write_answer(prediction, predictor, tmp_path / "out", None) == [tmp_path / "out" / "1.2.840_seg.nii.gz"]
    assert write_answer(prediction, predictor, tmp_path / "out", "nrrd") == [tmp_path / "out" / "1.2.840_seg.nrrd"]
    assert write_answer(Prediction("x", "classification", ()), predictor, tmp_path / "out", None) == []


def test_dicom_becomes_nifti_and_dicom_seg(thresholder: Path, dicom: Path, tmp_path: Path) -> None:
    predictor = Predictor(thresholder)
    prediction = predictor(dicom)
    nifti, seg = write_answer(prediction, predictor, tmp_path / "out", None)
    assert prediction.pred is not None and prediction.pred.any()
    assert (nifti.name, seg.name) == ("dicom_seg.nii.gz", "dicom_seg.dcm")
    assert np.array_equal(nib.nifti1.load(nifti).get_fdata(), prediction.pred)
    assert np.array_equal(read_dicom_seg(seg, load(dicom)), prediction.pred)
    assert not prediction.warnings


def test_all_dicom_objects_of_a_segmentation(thresholder: Path, dicom: Path, tmp_path: Path) -> None:
    predictor = Predictor(thresholder)
    prediction = predictor(dicom)
    files = write_answer(prediction, predictor, tmp_path / "out", "sc,dicomsr,dicomseg-fractional,mha")
    assert [file.name for file in files] == ["dicom_seg.mha", "dicom_seg.dcm", "dicom_sr.dcm", "dicom_sc.dcm"]
    for file in files[1:]:
        assert DISCLAIMER in dcmread(file).SeriesDescription
    assert dcmread(files[1]).SegmentationType == "FRACTIONAL"
    (group,) = content(files[2]).get_volumetric_roi_measurement_groups()
    found = {one.name.meaning: one.value for one in group.get_measurements()}
    assert found == {"Volume": pytest.approx(9 * 5 * 5 * 6 / 1000), "Long axis": pytest.approx(np.hypot(9, 10))}
    assert dcmread(files[3]).pixel_array.shape[2] == 3


def test_a_resampled_volume_is_told(thresholder: Path, tmp_path: Path) -> None:
    folder = Series(values(), spacing=(1.0, 2.0, 3.0)).write(tmp_path / "dicom", skip=(4,))
    predictor = Predictor(thresholder)
    prediction = predictor(folder)
    nifti, seg = write_answer(prediction, predictor, tmp_path / "out", None)
    assert TAKEN_BACK in prediction.warnings
    assert nib.nifti1.load(nifti).shape == (20, 16, 9)
    assert hd.seg.segread(seg).NumberOfFrames == 4  # the block lies in five slices, one of which is missing


def test_headers_too_poor_for_a_dicom_seg(thresholder: Path, tmp_path: Path) -> None:
    folder = Series(values(), change=lambda ds, k: delattr(ds, "StudyInstanceUID")).write(tmp_path / "dicom")
    predictor = Predictor(thresholder)
    prediction = predictor(folder)
    assert [file.name for file in write_answer(prediction, predictor, tmp_path / "out", None)] == ["dicom_seg.nii.gz"]
    assert prediction.warnings[-1].startswith("No DICOM SEG was written: ")


def test_a_classification(thresholder: Path, dicom: Path, tmp_path: Path) -> None:
    predictor = Predictor(thresholder)
    prediction = Prediction(
        "case",
        "classification",
        ("vessel", "nodule"),
        probabilities={"vessel": 0.25, "nodule": 0.75},
        label="nodule",
        volume=load(dicom),
        position=(1.0, -40.0, 50.0),
    )
    files = write_answer(prediction, predictor, tmp_path / "out", "nifti,dicomseg,dicomsr,sc")
    assert [file.name for file in files] == ["case_sr.dcm", "case_sc.dcm"]
    groups = content(files[0]).get_image_measurement_groups()
    assert [group.get_measurements()[0].value for group in groups] == [0.25, 0.75]
    assert write_answer(prediction, predictor, tmp_path / "out", None) == []


def test_further_images_lie_beside(thresholder: Path, scan: Path, tmp_path: Path) -> None:
    predictor = Predictor(thresholder)
    prediction = predictor(scan)
    assert prediction.volume is not None
    given = replace(prediction, images={"second": np.ones(prediction.volume.shape, np.uint8)})
    files = write_answer(given, predictor, tmp_path / "out", None)
    assert [file.name for file in files] == ["scan_seg.nii.gz", "scan_second.nii.gz"]


def test_dicom_objects_of_other_formats(thresholder: Path, scan: Path, tmp_path: Path) -> None:
    predictor = Predictor(thresholder)
    prediction = predictor(scan)
    for name in ("dicomseg", "nifti,dicomsr", "sc"):
        with pytest.raises(ConfigError, match="needs a DICOM scan to refer to, but this is nifti; leave it out"):
            write_answer(prediction, predictor, tmp_path / "out", name)
    assert not (tmp_path / "out").exists()
