"""The answer of a bundle for one case."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medresnet3d.errors import DataError
from medresnet3d.io import Volume, atomic_write_text, save_itk, save_nifti
from medresnet3d.io.detections import change_handedness, detection_rows

if TYPE_CHECKING:
    from monai.data import MetaTensor


PIXELS = "pixels"
"""Name of the table of pixels by structure among the details of a labelled picture."""


@dataclass
class Prediction:
    """What a bundle says about one case.

    Args:
        case: unique, file-name friendly name of the case.
        task: ``"segmentation"``, ``"classification"``, ``"regression"`` or ``"detection"``.
        labels: class names in index order.
        path: the input, or ``None`` for an array in memory; for several modalities the first.
        patient: as the manifest names it, or a pseudonym of the DICOM PatientID.
        pred: label map (i, j, k), whole numbers, on the input's own grid; segmentation only.
        probabilities: by class name; classification only.
        label: name of the most probable class; classification only.
        value: estimate; regression only.
        volumes_ml: millilitres by structure, background left out; segmentation only.
        detections: (N, 5), columns as :data:`medresnet3d.io.detections.COLUMNS` (mm, RAS+), most probable first;
            detection only.
        images: further images (i, j, k) on the input's grid by name, such as structures that overlap.
        details: what a bundle says beyond that, as plain values that JSON knows.
        position: the point that was classified, (3,), mm, RAS+.
        affine: 4 x 4, from the input's voxel indices to RAS+ millimetres.
        seconds: work from reading the input to the answer; waiting for another case is not counted.
        stage_seconds: the same by stage: ``"reading"``, ``"preprocessing"``, ``"network"``, ``"answer"``, and
            ``"writing"`` where files were written.
        warnings: what was repaired, assumed or unusual, one sentence each.
        volume: the input (the first of several modalities).
        input_tensor: what the network saw, (C, i, j, k) with its affine; only when asked for.
        heat: importance of every voxel of it for the class that was chosen, (i, j, k), from 0 to 1; only when asked
            for.
    """

    case: str
    task: str
    labels: tuple[str, ...]
    path: str | None = None
    patient: str | None = None
    pred: NDArray[Any] | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    label: str | None = None
    value: float | None = None
    volumes_ml: dict[str, float] = field(default_factory=dict)
    detections: NDArray[np.float64] | None = None
    images: dict[str, NDArray[Any]] = field(default_factory=dict, repr=False)
    details: dict[str, Any] = field(default_factory=dict)
    position: tuple[float, float, float] | None = None
    affine: NDArray[np.float64] | None = None
    seconds: float = 0.0
    stage_seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    volume: Volume | None = field(default=None, repr=False)
    input_tensor: MetaTensor | None = field(default=None, repr=False)
    heat: NDArray[Any] | None = field(default=None, repr=False)

    def answer(self) -> dict[str, Any]:
        """Give the answer as plain values, without the label map."""
        return {
            "case": self.case,
            "path": self.path,
            "patient": self.patient,
            "label": self.label,
            "probabilities": self.probabilities,
            "value": self.value,
            "volumes_ml": self.volumes_ml,
            **({} if self.detections is None else {"detections": self.listed_detections()}),
            **({"details": self.details} if self.details else {}),
            "position": list(self.position) if self.position else None,
            "seconds": round(self.seconds, 3),
            "stage_seconds": {stage: round(seconds, 3) for stage, seconds in self.stage_seconds.items()},
            "warnings": self.warnings,
        }

    def listed_detections(self) -> list[dict[str, float]]:
        """Give the detections as plain values: x, y, z in mm, RAS+, of a picture column, row and 0 in pixels."""
        if self.detections is None:
            return []
        table = self.detections.copy()
        if self.volume is not None and self.volume.source.format == "image":
            table[:, :3] = change_handedness(table[:, :3])
        return detection_rows(table)

    def save(self, path: str | Path) -> Path:
        """Write the answer, whole or not at all.

        Args:
            path: for a segmentation, an image file (``.nii.gz``, ``.nii``, ``.mha``, ``.nrrd``), written in the
                input's own geometry; otherwise, or where it ends in ``.json``, a JSON file.

        Raises:
            DataError: if the format does not fit the answer or the file cannot be written.
        """
        target = Path(path)
        if target.suffix.lower() == ".json":
            atomic_write_text(target, json.dumps(self.answer(), indent=1, ensure_ascii=False) + "\n")
            return target
        if self.pred is None or self.volume is None:
            raise DataError(f"{target}: the answer of a {self.task} is no image; save it as .json.")
        if target.name.lower().endswith((".mha", ".nrrd")):
            return save_itk(self.pred, self.volume.affine, target)
        return save_nifti(self.pred, self.volume.affine, target, like=self.volume)


def structure_pixels(labels: tuple[str, ...], pred: NDArray[Any]) -> dict[str, int]:
    """Give the number of pixels of every structure by name, background left out; those that are not there have 0.

    Args:
        labels: class names in index order; number 0 is background.
        pred: label map of a picture (i, j, 1).
    """
    counts = np.bincount(pred.ravel(), minlength=len(labels)).tolist()
    unnamed = range(max(1, len(labels)), len(counts))
    named = dict(zip(labels[1:], counts[1:], strict=False))
    return {**named, **{f"label {index}": counts[index] for index in unnamed if counts[index]}}


def structure_volumes(labels: tuple[str, ...], pred: NDArray[Any], affine: NDArray[np.float64]) -> dict[str, float]:
    """Give the volume of every structure in millilitres by name; structures that are not there have 0.

    Args:
        labels: class names in index order; number 0 is background.
        pred: label map (i, j, k).
        affine: 4 x 4, to millimetres.
    """
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000.0
    counts = np.bincount(pred.ravel(), minlength=len(labels)).tolist()
    volumes = {name: count * voxel_ml for name, count in zip(labels[1:], counts[1:], strict=False)}
    unnamed = range(max(1, len(labels)), len(counts))
    return {**volumes, **{f"label {index}": counts[index] * voxel_ml for index in unnamed if counts[index]}}
