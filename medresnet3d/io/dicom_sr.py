"""DICOM SR out: the figures of a result as a measurement report (TID 1500) that refers to its scan."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from highdicom.sr.coding import CodedConcept
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes as dictionary
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from medresnet3d._version import __version__
from medresnet3d.errors import DataError, GeometryError
from medresnet3d.io.atomic import atomic_path
from medresnet3d.io.dicom_results import (
    DISCLAIMER,
    LONGEST_NAME,
    MANUFACTURER,
    PRIVATE_SCHEME,
    coded,
    new_series,
    source_headers,
)
from medresnet3d.io.volume import LPS_TO_RAS, Volume

PROBABILITY = dictionary.DCM.Probability
VOLUME = dictionary.SCT.Volume
AREA = dictionary.SCT.Area
DIAMETER = dictionary.SCT.LongAxis
MILLILITRE = CodedConcept("ml", "UCUM", "milliliter")
ESTIMATE = CodedConcept("estimate", PRIVATE_SCHEME, "Estimate")
_Group = hd.sr.MeasurementsAndQualitativeEvaluations | hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations


@dataclass(frozen=True)
class Findings:
    """The figures of one result.

    Args:
        labels: class names in order of the label values.
        probabilities: by class name, 0 to 1.
        label: name of the most probable class.
        value: an estimate, such as an age.
        volumes_ml: millilitres by structure.
        diameters_mm: longest axial diameter by structure, mm.
        position: the point that was classified, (3,), mm, RAS+.
        detections: (N, 5), columns as :data:`medresnet3d.io.detections.COLUMNS`; None where nothing is detected for.
        areas_mm2: square millimetres by structure, on films, where nothing has a volume.
    """

    labels: tuple[str, ...] = ()
    probabilities: Mapping[str, float] = field(default_factory=dict)
    label: str | None = None
    value: float | None = None
    volumes_ml: Mapping[str, float] = field(default_factory=dict)
    diameters_mm: Mapping[str, float] = field(default_factory=dict)
    position: tuple[float, float, float] | None = None
    detections: NDArray[np.float64] | None = None
    areas_mm2: Mapping[str, float] = field(default_factory=dict)


def write_dicom_sr(
    findings: Findings,
    volume: Volume,
    path: str | os.PathLike[str],
    *,
    codes: Mapping[str, Any] | None = None,
    bundle: str = MANUFACTURER,
    version: str = "",
    segmentation: str | os.PathLike[str] | None = None,
) -> Path:
    """Write figures as a DICOM structured report: TID 1500 "Measurement Report", Comprehensive 3D SR.

    Each class is a group of measurements with its probability, each structure one with its volume and diameter, each
    detection one with its probability and diameter and, where the scan has a frame of reference, the ball that it
    stands for (SCOORD3D, an ellipsoid); each with the code of what it is and a tracking identifier. With
    ``segmentation``, a structure refers to its segment there.

    Args:
        findings: the figures.
        volume: the scan, read from DICOM.
        path: the file to write.
        codes: of the labels, as for :func:`medresnet3d.io.write_dicom_seg`.
        bundle: name of the bundle that made the result.
        version: its version.
        segmentation: the DICOM SEG that was written for the same result.

    Returns:
        The path.

    Raises:
        ConfigError: if a code is malformed.
        DataError: if the scan is not DICOM, or there is no figure to report.
        GeometryError: if ``segmentation`` belongs to another scan.
    """
    evidence = source_headers(volume, "DICOM SR")
    if not _has_figures(findings):
        raise DataError(f"{volume.source.name}: the result has no figure that a DICOM SR could report.")
    maker = _Groups(findings, codes or {}, bundle, version or __version__, evidence[0])
    if segmentation is not None:
        maker.segmentation = _segmentation(segmentation, evidence[0])
        evidence.append(maker.segmentation)
    report = hd.sr.MeasurementReport(
        observation_context=_observer(bundle),
        procedure_reported=dictionary.SCT.ImagingProcedure,
        imaging_measurements=maker.groups(),
        title=dictionary.DCM.ImagingMeasurementReport,
    )
    report[0].ContentSequence.append(
        hd.sr.TextContentItem(dictionary.DCM.Comment, DISCLAIMER, hd.sr.RelationshipTypeValues.CONTAINS)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # values of the source that break the standard are copied as they are
        made = hd.sr.Comprehensive3DSR(
            evidence=evidence,
            content=report[0],
            is_complete=True,
            series_description=f"Measurements. {DISCLAIMER}",
            manufacturer_model_name=bundle[:LONGEST_NAME],
            software_versions=__version__,
            device_serial_number="0",
            **new_series(evidence[0], "SR"),
        )
    target = Path(path)
    with atomic_path(target) as temporary:
        made.save_as(temporary)
    return target


def _has_figures(findings: Findings) -> bool:
    """Say whether there is something to report; to have looked and detected nothing is something."""
    measured = findings.probabilities or findings.volumes_ml or findings.areas_mm2
    return bool(measured) or findings.value is not None or findings.detections is not None


class _Groups:
    """Makes one group of measurements for each class, structure and detection."""

    def __init__(
        self, findings: Findings, codes: Mapping[str, Any], bundle: str, version: str, header: Dataset
    ) -> None:
        self.findings = findings
        self.codes = codes
        self.header = header
        self.segmentation: Dataset | None = None
        self.algorithm = hd.sr.AlgorithmIdentification(bundle[:LONGEST_NAME], version)

    def groups(self) -> list[_Group]:
        """Give all groups, classes before structures."""
        made = [self._class(name, value) for name, value in self.findings.probabilities.items()]
        made += [self._structure(name, VOLUME, ml, MILLILITRE) for name, ml in self.findings.volumes_ml.items()]
        square = dictionary.UCUM.SquareMillimeter
        made += [self._structure(name, AREA, mm2, square) for name, mm2 in self.findings.areas_mm2.items()]
        if self.findings.value is not None:
            measurement = hd.sr.Measurement(ESTIMATE, self.findings.value, dictionary.UCUM.NoUnits)
            made.append(self._plain("estimate", ESTIMATE, [measurement]))
        return made + self._detections()

    def _class(self, name: str, probability: float) -> _Group:
        measurement = hd.sr.Measurement(
            PROBABILITY, probability, dictionary.UCUM.NoUnits, referenced_coordinates=self._point()
        )
        code = self._code(name)
        chosen = [hd.sr.QualitativeEvaluation(dictionary.DCM.Conclusion, code)] if name == self.findings.label else None
        return self._plain(name, code, [measurement], chosen)

    def _structure(self, name: str, quantity: Code, amount: float, unit: Code | CodedConcept) -> _Group:
        measurements = [hd.sr.Measurement(quantity, amount, unit)]
        if name in self.findings.diameters_mm:
            diameter = self.findings.diameters_mm[name]
            measurements.append(hd.sr.Measurement(DIAMETER, diameter, dictionary.UCUM.Millimeter))
        number = self._value(name)
        if self.segmentation is None or number is None or amount == 0:
            return self._plain(name, self._code(name), measurements)
        return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=hd.sr.TrackingIdentifier(generate_uid(), name),
            referenced_segment=self._segment(self.segmentation, number),
            finding_type=self._code(name),
            algorithm_id=self.algorithm,
            measurements=measurements,
        )

    def _detections(self) -> list[_Group]:
        """Give a group for each detection, or one that says that nothing was detected."""
        if self.findings.detections is None:
            return []
        if len(self.findings.detections) == 0:
            name = self._detected()
            absent = hd.sr.QualitativeEvaluation(dictionary.DCM.Conclusion, dictionary.SCT.Absent)
            return [self._plain(name, self._code(name), [], [absent])]
        return [self._detection(number, row) for number, row in enumerate(self.findings.detections, 1)]

    def _detected(self) -> str:
        """Name what is detected."""
        return self.findings.labels[0] if self.findings.labels else "finding"

    def _detection(self, number: int, row: NDArray[np.float64]) -> _Group:
        *place, diameter, probability = (float(value) for value in row)
        name = self._detected()
        measurements = [
            hd.sr.Measurement(PROBABILITY, probability, dictionary.UCUM.NoUnits),
            hd.sr.Measurement(DIAMETER, diameter, dictionary.UCUM.Millimeter),
        ]
        frame_of_reference = self.header.get("FrameOfReferenceUID")
        if not frame_of_reference:
            return self._plain(f"{name} {number}", self._code(name), measurements)
        centre = LPS_TO_RAS[:3, :3] @ place
        axes = np.repeat(np.eye(3), 2, axis=0) * np.tile([[-1.0], [1.0]], (3, 1)) * diameter / 2
        ball = hd.sr.VolumeSurface(
            "ELLIPSOID",
            centre + axes,
            frame_of_reference,
            source_series=hd.sr.SourceSeriesForSegmentation(self.header.SeriesInstanceUID),
        )
        return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=hd.sr.TrackingIdentifier(generate_uid(), f"{name} {number}"),
            referenced_volume_surface=ball,
            finding_type=self._code(name),
            algorithm_id=self.algorithm,
            measurements=measurements,
        )

    def _segment(self, segmentation: Dataset, number: int) -> hd.sr.ReferencedSegment:
        series = hd.sr.SourceSeriesForSegmentation(self.header.SeriesInstanceUID)
        return hd.sr.ReferencedSegment(
            segmentation.SOPClassUID, segmentation.SOPInstanceUID, number, source_series=series
        )

    def _plain(self, name: str, code: CodedConcept, measurements: list[Any], chosen: list[Any] | None = None) -> _Group:
        return hd.sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=hd.sr.TrackingIdentifier(generate_uid(), name),
            finding_type=code,
            algorithm_id=self.algorithm,
            measurements=measurements,
            qualitative_evaluations=chosen,
        )

    def _value(self, name: str) -> int | None:
        return self.findings.labels.index(name) if name in self.findings.labels else None

    def _code(self, name: str) -> CodedConcept:
        """Give the bundle's code of a label, or else a private one with its name."""
        value = self._value(name)
        found = self.codes.get(str(value), {}).get("type")
        if found is not None:
            return coded(found, name)
        return CodedConcept(str(name if value is None else value)[:16], PRIVATE_SCHEME, name[:LONGEST_NAME])

    def _point(self) -> list[hd.sr.CoordinatesForMeasurement3D] | None:
        frame_of_reference = self.header.get("FrameOfReferenceUID")
        if self.findings.position is None or not frame_of_reference:
            return None
        point: NDArray[np.float64] = (LPS_TO_RAS @ [*self.findings.position, 1.0])[None, :3]
        return [hd.sr.CoordinatesForMeasurement3D("POINT", point, frame_of_reference)]


def _observer(bundle: str) -> hd.sr.ObservationContext:
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=generate_uid(entropy_srcs=[MANUFACTURER, bundle, __version__]),
        name=bundle[:LONGEST_NAME],
        manufacturer_name=MANUFACTURER,
        model_name=bundle[:LONGEST_NAME],
    )
    return hd.sr.ObservationContext(observer_device_context=hd.sr.ObserverContext(dictionary.DCM.Device, device))


def _segmentation(path: str | os.PathLike[str], header: Dataset) -> Dataset:
    """Read a DICOM SEG of the same study."""
    found = dcmread(path)
    if found.get("StudyInstanceUID") != header.StudyInstanceUID:
        raise GeometryError(f"{path}: belongs to another study than the scan; give the SEG that was made from it.")
    return found
