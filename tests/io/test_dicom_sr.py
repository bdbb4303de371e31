from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread

from medresnet3d.errors import ConfigError, DataError, GeometryError
from medresnet3d.io import Volume, load, write_dicom_seg
from medresnet3d.io.dicom_results import DISCLAIMER
from medresnet3d.io.dicom_sr import Findings, write_dicom_sr
from tests.io.dicom_maker import Series, stored_values

LABELS = ("background", "left lung", "right lung", "heart")
CODES = {"1": {"category": ["91723000", "SCT", "Anatomical structure"], "type": ["44029006", "SCT", "Left lung"]}}
STRUCTURES = Findings(
    LABELS,
    volumes_ml={"left lung": 12.25, "right lung": 3.5, "heart": 0.0},
    diameters_mm={"left lung": 31.4, "right lung": 20.0},
)
CLASSES = Findings(("benign", "malignant"), {"benign": 0.125, "malignant": 0.875}, "malignant", position=(1, 2, -3))


@pytest.fixture
def scan(tmp_path: Path) -> Volume:
    return load(Series(stored_values((16, 12, 7))).write(tmp_path / "scan"))


def figures(group: Any) -> dict[str, tuple[float, str]]:
    return {one.name.meaning: (one.value, one.unit.value) for one in group.get_measurements()}


@pytest.mark.parametrize("kind", ["binary", "labelmap", "fractional"])
def test_structures_refer_to_their_segments(scan: Volume, tmp_path: Path, kind: str) -> None:
    mask = np.random.default_rng(0).integers(0, 3, scan.shape).astype(np.uint8)
    seg = write_dicom_seg(mask, scan, LABELS, tmp_path / "seg.dcm", kind=kind)
    path = write_dicom_sr(
        STRUCTURES, scan, tmp_path / "sr.dcm", codes=CODES, bundle="lungs", version="0.3", segmentation=seg
    )
    report: Any = hd.sr.srread(path)
    left, right = report.content.get_volumetric_roi_measurement_groups()
    assert (left.finding_type.value, left.finding_type.meaning) == ("44029006", "Left lung")
    assert (right.finding_type.scheme_designator, right.finding_type.meaning) == ("99MEDRESNET", "right lung")
    assert figures(left) == {"Volume": (12.25, "ml"), "Long axis": (31.4, "mm")}
    assert figures(right) == {"Volume": (3.5, "ml"), "Long axis": (20.0, "mm")}
    for number, group in enumerate((left, right), start=1):
        (segment,) = [item for item in group[0].ContentSequence if item.name.meaning == "Referenced Segment"]
        assert segment.referenced_sop_instance_uid == dcmread(seg).SOPInstanceUID
        assert list(segment.referenced_segment_numbers) == [number]
    (heart,) = report.content.get_image_measurement_groups()
    assert heart.finding_type.meaning == "heart" and figures(heart) == {"Volume": (0.0, "ml")}


def test_classes_with_the_point(scan: Volume, tmp_path: Path) -> None:
    report: Any = hd.sr.srread(write_dicom_sr(CLASSES, scan, tmp_path / "sr.dcm"))
    benign, malignant = report.content.get_image_measurement_groups()
    assert figures(benign) == {"Probability": (0.125, "1")}
    assert figures(malignant) == {"Probability": (0.875, "1")}
    assert benign.get_qualitative_evaluations() == []
    (conclusion,) = malignant.get_qualitative_evaluations()
    assert (conclusion.name.meaning, conclusion.value.meaning) == ("Conclusion", "malignant")
    (point,) = malignant.get_measurements()[0][0].ContentSequence
    assert point.value.tolist() == [[-1, -2, -3]]  # LPS
    assert point.frame_of_reference_uid == "1.2.3.4.5"


def test_an_estimate(scan: Volume, tmp_path: Path) -> None:
    report: Any = hd.sr.srread(write_dicom_sr(Findings(value=71.5), scan, tmp_path / "sr.dcm"))
    (group,) = report.content.get_image_measurement_groups()
    assert figures(group) == {"Estimate": (71.5, "1")}


def balls(report: Any) -> list[tuple[str, np.ndarray, dict[str, tuple[float, str]]]]:
    groups = report.content.get_volumetric_roi_measurement_groups()
    return [(one.tracking_identifier, one.roi.graphic_data, figures(one)) for one in groups]


def test_detections_are_balls_in_the_frame_of_the_scan(scan: Volume, tmp_path: Path) -> None:
    found = Findings(("nodule",), detections=np.array([[1.0, 2.0, -3.0, 6.0, 0.875], [5.0, 0.0, 9.0, 4.0, 0.5]]))
    codes = {"0": {"type": ["27925004", "SCT", "Nodule"]}}
    report: Any = hd.sr.srread(write_dicom_sr(found, scan, tmp_path / "sr.dcm", codes=codes))
    first, second = report.content.get_volumetric_roi_measurement_groups()
    assert first.finding_type.value == "27925004"
    assert [first.tracking_identifier, second.tracking_identifier] == ["nodule 1", "nodule 2"]
    assert first.tracking_uid != second.tracking_uid
    (_, points, own), _ = balls(report)
    assert own == {"Probability": (0.875, "1"), "Long axis": (6.0, "mm")}
    np.testing.assert_allclose(np.mean(points, axis=0), [-1, -2, -3])  # LPS
    np.testing.assert_allclose(points[[0, 2, 4]] - points[[1, 3, 5]], -6 * np.eye(3))  # three axes of 6 mm
    (surface,) = [one for one in first[0].ContentSequence if one.name.meaning == "Volume Surface"]
    assert surface.frame_of_reference_uid == "1.2.3.4.5" and surface.GraphicType == "ELLIPSOID"


def test_to_have_looked_and_detected_nothing_is_reported(scan: Volume, tmp_path: Path) -> None:
    report: Any = hd.sr.srread(
        write_dicom_sr(Findings(("nodule",), detections=np.zeros((0, 5))), scan, tmp_path / "sr.dcm")
    )
    (group,) = report.content.get_image_measurement_groups()
    assert group.finding_type.meaning == "nodule" and group.get_measurements() == []
    (said,) = group.get_qualitative_evaluations()
    assert (said.name.meaning, said.value.meaning) == ("Conclusion", "Absent")


def test_without_a_frame_of_reference_detections_have_figures_only(tmp_path: Path) -> None:
    volume = load(Series(stored_values((16, 12, 7)), frame_of_reference="").write(tmp_path / "scan"))
    found = Findings(detections=np.array([[1.0, 2.0, -3.0, 6.0, 0.875]]))
    report: Any = hd.sr.srread(write_dicom_sr(found, volume, tmp_path / "sr.dcm"))
    (group,) = report.content.get_image_measurement_groups()
    assert group.tracking_identifier == "finding 1" and figures(group)["Long axis"] == (6.0, "mm")


def test_what_the_file_says(scan: Volume, tmp_path: Path) -> None:
    report = dcmread(write_dicom_sr(CLASSES, scan, tmp_path / "sr.dcm", bundle="nodules"))
    assert report.SOPClassUID.name == "Comprehensive 3D SR Storage"
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert (report.PatientID, report.StudyInstanceUID) == ("P1", "1.2.3.4")
    assert DISCLAIMER in report.SeriesDescription
    assert (report.CompletionFlag, report.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    assert report.ContentSequence[-1].TextValue == DISCLAIMER
    evidence = (
        report.CurrentRequestedProcedureEvidenceSequence
        if ("CurrentRequestedProcedureEvidenceSequence" in report)
        else report.PertinentOtherEvidenceSequence
    )
    (series,) = evidence[0].ReferencedSeriesSequence
    assert series.SeriesInstanceUID == scan.source.series and len(series.ReferencedSOPSequence) == 7


def test_unusable_requests(scan: Volume, tmp_path: Path) -> None:
    target = tmp_path / "sr.dcm"
    with pytest.raises(DataError, match="has no figure that a DICOM SR could report"):
        write_dicom_sr(Findings(), scan, target)
    with pytest.raises(DataError, match="DICOM SR needs a DICOM scan"):
        write_dicom_sr(CLASSES, Volume(scan.array, scan.affine), target)
    with pytest.raises(ConfigError, match="the code of label 'left lung'"):
        write_dicom_sr(STRUCTURES, scan, target, codes={"1": {"type": "lung"}})
    other = load(Series(stored_values((16, 12, 7)), study="9.9").write(tmp_path / "other"))
    seg = write_dicom_seg(np.ones(other.shape, np.uint8), other, LABELS, tmp_path / "seg.dcm")
    with pytest.raises(GeometryError, match=r"seg\.dcm: belongs to another study"):
        write_dicom_sr(STRUCTURES, scan, target, segmentation=seg)
    assert not target.exists()


@pytest.mark.skipif(shutil.which("tid1500reader") is None, reason="dcmqi is not installed")
def test_dcmqi_reads_it(scan: Volume, tmp_path: Path) -> None:
    seg = write_dicom_seg(np.ones(scan.shape, np.uint8), scan, LABELS, tmp_path / "seg.dcm")
    path = write_dicom_sr(STRUCTURES, scan, tmp_path / "sr.dcm", codes=CODES, segmentation=seg)
    command = ["tid1500reader", "--inputDICOM", path, "--outputMetadata", tmp_path / "sr.json"]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    left, right, heart = json.loads((tmp_path / "sr.json").read_text())["Measurements"]
    assert (left["Finding"]["CodeValue"], left["ReferencedSegment"]) == ("44029006", 1)
    assert left["segmentationSOPInstanceUID"] == dcmread(seg).SOPInstanceUID
    assert [float(item["value"]) for item in right["measurementItems"]] == [3.5, 20.0]
    assert "ReferencedSegment" not in heart
