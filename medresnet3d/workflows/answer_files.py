"""Answers as files: label maps in the input's own geometry, and DICOM objects that belong to the scan's study."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.io import known_suffix, save_grey_picture, save_like
from medresnet3d.io.detections import COLUMNS, write_table
from medresnet3d.io.reading import DICOM_SUFFIXES
from medresnet3d.names import did_you_mean

if TYPE_CHECKING:
    from medresnet3d.io import Volume
    from medresnet3d.workflows.prediction import Prediction
    from medresnet3d.workflows.predictor import Predictor

IMAGE_FORMATS = ("nifti", "mha", "nrrd")
SEG_KINDS = {"dicomseg": "binary", "dicomseg-labelmap": "labelmap", "dicomseg-fractional": "fractional"}
ANSWER_FORMATS = (*IMAGE_FORMATS, *SEG_KINDS, "dicomsr", "sc")
TAKEN_BACK = (
    "The volume was computed from its source images (gantry tilt, gaps or a mosaic were resolved). The DICOM SEG lies "
    "on the source slices, each pixel with the label of the nearest voxel; for a mosaic it lies on the volume's grid."
)
DICOM_FORMATS = (*SEG_KINDS, "dicomsr", "sc")


def check_format(names: str | None) -> None:
    """Check the formats that were asked for, before anything is computed.

    Args:
        names: :data:`ANSWER_FORMATS`, with commas for several; ``None`` for those that fit the input.

    Raises:
        ConfigError: if one is unknown; the message names the nearest.
    """
    if names is not None:
        _formats(names)


def _formats(names: str) -> tuple[str, ...]:
    """Give the formats, each once, in the order of :data:`ANSWER_FORMATS`: a SEG before the SR that refers to it."""
    given = [name.strip() for name in names.split(",")]
    for name in given:
        if name not in ANSWER_FORMATS:
            choices = f"use {', '.join(ANSWER_FORMATS)}, with commas for several."
            hint = did_you_mean(name.lower(), ANSWER_FORMATS, choices)
            raise ConfigError(f"--format {name}: this format is unknown; {hint}")
    if sum(name in SEG_KINDS for name in set(given)) > 1:
        raise ConfigError(f"--format {names}: choose one kind of DICOM SEG, {' or '.join(SEG_KINDS)}.")
    return tuple(name for name in ANSWER_FORMATS if name in given)


def check_input(names: str | None, path: str | Sequence[str]) -> None:
    """Check, before anything is computed, whether an input whose name tells its kind allows the formats asked for.

    Args:
        names: as for :func:`check_format`.
        path: the input; of several modalities the first counts.

    Raises:
        ConfigError: if a DICOM object is asked for an input that is not DICOM.
    """
    first = path if isinstance(path, str) else path[0]
    suffix = known_suffix(first)
    if names is not None and suffix is not None and suffix not in (*DICOM_SUFFIXES, ".zip"):
        _refuse_dicom(names, first, suffix.lstrip("."))


def _refuse_dicom(names: str, source: str, kind: str) -> None:
    """Refuse DICOM objects for an input that is not DICOM."""
    refused = next((name for name in _formats(names) if name in DICOM_FORMATS), None)
    if refused is not None:
        raise ConfigError(
            f"{source}: --format {refused} needs a DICOM scan to refer to, but this is {kind}; leave it out, or choose "
            "nifti."
        )


def write_answer(prediction: Prediction, predictor: Predictor, folder: Path, names: str | None) -> list[Path]:
    """Write the files of one case.

    A label map becomes ``<case>_seg`` with the suffix of its format, a structured report ``<case>_sr.dcm`` and an
    overview ``<case>_sc.dcm``; detections are always listed in ``<case>_detections.csv``. Without ``names``, a label
    map is written in the format family of its input, for DICOM as NIfTI and DICOM SEG, and detections in DICOM also as
    a structured report; where a header is too incomplete for a DICOM object, the answer gets a warning instead.

    Args:
        prediction: the answer.
        predictor: its bundle describes the segments of a DICOM SEG.
        folder: where to.
        names: formats asked for, with commas; ``None`` for those that fit the input.

    Returns:
        the files.

    Raises:
        ConfigError: if a DICOM object is asked for an input that is not DICOM.
        DataError: if a file cannot be written.
    """
    volume = prediction.volume
    if volume is None:
        return []
    files = _Files(prediction, predictor, volume, folder)
    if names is None:
        return files.fitting()
    if volume.source.format != "dicom":
        _refuse_dicom(names, volume.source.name, volume.source.format)
    return files.wanted(_formats(names))


class _Files:
    """Writes the files of one answer."""

    def __init__(self, prediction: Prediction, predictor: Predictor, volume: Volume, folder: Path) -> None:
        self.prediction = prediction
        self.volume = volume
        self.stem = folder / prediction.case
        self.about: dict[str, Any] = {"bundle": predictor.bundle_name}
        version = str(predictor.metadata.get("version", ""))
        self.coded: dict[str, Any] = {**self.about, "version": version, "codes": predictor.metadata.get("codes")}
        self.title = f"{predictor.bundle_name} {version}".strip()

    def fitting(self) -> list[Path]:
        """Write what fits the input."""
        if self.volume.source.format != "dicom":
            return [*self.detections(), *self.images(None)]
        written = [*self.detections(), *self.images("nifti")]
        if self.prediction.pred is not None:
            written += self._tried("SEG", lambda: self.segmentation("binary"))
        if self.prediction.detections is not None:
            written += self._tried("SR", lambda: self.report(None))
        return written

    def _tried(self, what: str, write: Callable[[], Path]) -> list[Path]:
        """Write a DICOM object, or say in a warning why it cannot be written."""
        try:
            return [write()]
        except DataError as error:
            self.prediction.warnings.append(f"No DICOM {what} was written: {error}")
            return []

    def wanted(self, names: Sequence[str]) -> list[Path]:
        """Write what was asked for; what an answer has not (a label map of a classification) is left out."""
        written = self.detections()
        segmentation: Path | None = None
        for name in names:
            if name in IMAGE_FORMATS:
                written += self.images(name)
            elif name in SEG_KINDS and self.prediction.pred is not None:
                segmentation = self.segmentation(SEG_KINDS[name])
                written.append(segmentation)
            elif name == "dicomsr":
                written.append(self.report(segmentation))
            elif name == "sc":
                written.append(self.overview())
        return written

    def detections(self) -> list[Path]:
        """Write the table of detections: mm, RAS+, of a picture pixels."""
        if self.prediction.detections is None:
            return []
        target = Path(f"{self.stem}_detections.csv")
        return [write_table(self.prediction.listed_detections(), COLUMNS, target)]

    def images(self, name: str | None) -> list[Path]:
        """Write the label map, and the further images of a bundle that gives some; a picture's as PNG."""
        written: list[Path] = []
        if self.prediction.pred is not None:
            written += save_like(self.volume, self.prediction.pred, Path(f"{self.stem}_seg.nii"), format=name)
            if self.volume.source.format == "image":
                from medresnet3d.workflows.picture_overlay import save_overlay

                written.append(save_overlay(self.volume, self.prediction.pred, Path(f"{self.stem}_overlay.png")))
        for key, array in self.prediction.images.items():
            is_share = array.dtype.kind == "f" and 0 <= float(array.min()) <= float(array.max()) <= 1
            if is_share and name is None and self.volume.source.format == "image":
                written.append(save_grey_picture(array, Path(f"{self.stem}_{key}.png")))
                continue
            written += save_like(self.volume, array, Path(f"{self.stem}_{key}.nii"), format=name)
        return written

    def segmentation(self, kind: str) -> Path:
        """Write the DICOM SEG."""
        from medresnet3d.io import write_dicom_seg

        pred, labels = self.prediction.pred, self.prediction.labels
        assert pred is not None
        names = labels or tuple(f"label {value}" for value in range(max(2, int(pred.max()) + 1)))
        written = write_dicom_seg(pred, self.volume, names, Path(f"{self.stem}_seg.dcm"), kind=kind, **self.coded)
        if self.volume.source.regridded:
            self.prediction.warnings.append(TAKEN_BACK)
        return written

    def report(self, segmentation: Path | None) -> Path:
        """Write the structured report."""
        from medresnet3d.io.dicom_sr import Findings, write_dicom_sr

        given = self.prediction
        findings = Findings(
            given.labels,
            given.probabilities,
            given.label,
            given.value,
            given.volumes_ml,
            _diameters(given),
            given.position,
            given.detections,
            _areas(given, self.volume),
        )
        target = Path(f"{self.stem}_sr.dcm")
        return write_dicom_sr(findings, self.volume, target, segmentation=segmentation, **self.coded)

    def overview(self) -> Path:
        """Write the overview."""
        from medresnet3d.io.secondary_capture import write_secondary_capture
        from medresnet3d.workflows.overview import overview

        picture = overview(self.prediction, self.title)
        return write_secondary_capture(picture, self.volume, Path(f"{self.stem}_sc.dcm"), **self.about)


def _areas(prediction: Prediction, film: Volume) -> dict[str, float]:
    """Give the area of each structure on a film, mm2; none where structures have volumes."""
    from medresnet3d.workflows.prediction import PIXELS

    pixel = film.spacing[0] * film.spacing[1]
    return {name: count * pixel for name, count in (prediction.details.get(PIXELS) or {}).items()}


def _diameters(prediction: Prediction) -> dict[str, float]:
    """Give the longest axial diameter of each structure that is there, mm."""
    if prediction.pred is None or prediction.affine is None:
        return {}
    from medresnet3d.reports.planes import orient
    from medresnet3d.reports.structures import longest_axial_diameters

    turned = orient({"labels": prediction.pred}, prediction.affine)
    found = longest_axial_diameters(turned.arrays["labels"], turned.spacing)
    return {name: found[value] for value, name in enumerate(prediction.labels) if value in found}
