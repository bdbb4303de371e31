"""What a converted scan is, as plain values: geometry, acquisition and, only where wanted, the patient."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from typing import Any

from pydicom.errors import BytesLengthException

from medresnet3d.io import SeriesInfo, Volume
from medresnet3d.workflows.pseudonym import shown_patient

ACQUISITION_TAGS = (
    *("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "BodyPartExamined", "PatientPosition", "ImageType"),
    *("MagneticFieldStrength", "ScanningSequence", "SequenceVariant", "SequenceName", "ProtocolName"),
    *("RepetitionTime", "EchoTime", "InversionTime", "FlipAngle", "EchoTrainLength", "DiffusionBValue"),
    *("KVP", "XRayTubeCurrent", "ExposureTime", "ConvolutionKernel", "GantryDetectorTilt", "ContrastBolusAgent"),
    *("SliceThickness", "SpacingBetweenSlices", "Units", "DecayCorrection", "RescaleType"),
)
PATIENT_TAGS = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "PatientAge", "PatientWeight"),
    *("StudyDate", "StudyTime", "AcquisitionDate", "AcquisitionTime", "AccessionNumber", "StudyDescription"),
    *("InstitutionName", "ReferringPhysicianName", "StudyInstanceUID", "SeriesInstanceUID"),
)
"""Tags that may lead to a person; written only with ``--phi keep``."""


def series_facts(info: SeriesInfo) -> dict[str, Any]:
    """Say what a DICOM series is, from its headers."""
    return {
        "description": info.description,
        "modality": info.modality or None,
        "shape": list(info.shape),
        **({"note": info.note} if info.note else {}),
    }


def volume_facts(volume: Volume, phi: str) -> dict[str, Any]:
    """Say what a volume is.

    Args:
        volume: the scan.
        phi: ``"none"``, ``"pseudonym"`` or ``"keep"``.
    """
    headers = volume.source.datasets
    facts: dict[str, Any] = {
        "description": volume.source.description,
        "modality": volume.modality,
        "shape": list(volume.array.shape),
        "spacing_mm": [round(size, 6) for size in volume.spacing],
        "affine_to_ras_mm": [[round(float(value), 6) for value in row] for row in volume.affine],
        "source": {"format": volume.source.format, "files": len(volume.source.files)},
        "warnings": list(volume.warnings),
    }
    if not headers:
        return facts
    facts["acquisition"] = _tags(headers[0], ACQUISITION_TAGS)
    patient = shown_patient(str(_tags(headers[0], ("PatientID",)).get("PatientID", "")), phi)
    if phi == "keep":
        return {**facts, "patient": patient, "identity": _tags(headers[0], PATIENT_TAGS)}
    return facts if patient is None else {**facts, "patient": patient}


def index_text(rows: Sequence[dict[str, Any]]) -> str:
    """Give the text of the JSON file: one line for each fact, so that it can be read."""
    texts = []
    for row in rows:
        facts = ",\n".join(f"   {json.dumps(key)}: {json.dumps(row[key], ensure_ascii=False)}" for key in row)
        texts.append(f"  {{\n{facts}\n  }}")
    return '{\n "series": [\n' + ",\n".join(texts) + "\n ]\n}\n"


def _tags(header: Any, names: Sequence[str]) -> dict[str, Any]:
    """Read those of the tags that are there and readable."""
    found = {}
    for name in names:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # an invalid value is shown as it is, or left out
                value = header.get(name)
        except (ValueError, TypeError, UnicodeError, BytesLengthException):
            continue
        if value not in (None, ""):
            found[name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) or type(value).__name__ == "DSdecimal":
        return float(value)
    if hasattr(value, "__iter__") and not isinstance(value, (str, bytes)) and not hasattr(value, "family_name"):
        return [_plain(one) for one in value]
    return str(value)
