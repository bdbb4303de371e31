"""Detection: from a map of probabilities to a list of findings.

Between images and lists everything is in millimetres, RAS+, so that grids (resampled, flipped, cropped) do not matter:
a MetaTensor's affine says where its voxels are. Of a picture a millimetre is a pixel, and z is 0.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.io.detections import (
    COLUMNS,
    SUBMISSION_COLUMNS,
    submission_rows,
    write_table,
)
from medresnet3d.transforms.prediction import TABLE

SUBMISSION = "detections.csv"
_CASE_COLUMNS = ("case", "path", "detections", "strongest_probability")
SCORES = ("max", "mean")


class DetectionsFromMap(Transform):
    """Turn a map of probabilities into detections.

    Voxels at or above a threshold that touch (26 neighbours in 3D, 8 in 2D) are one component. Components whose
    centres are at most ``merge_distance_mm`` apart, also by way of others between them, are one detection. Its place is
    the centre of the map within it, each voxel weighing as much as its probability; its diameter that of a sphere of
    equal volume (in 2D of a circle of equal area).

    Args:
        threshold: probability from which on a voxel counts.
        merge_distance_mm: components no farther apart are one; 0 merges none.
        min_volume_mm3: detections of a smaller volume are left out, after merging (in 2D an area in mm2).
        score: a detection's probability: ``"max"`` or ``"mean"`` of its voxels.
        max_detections: only so many of the most probable are kept; ``None`` for all.

    Raises:
        ConfigError: for a threshold outside of 0 to 1, another score, or a negative distance or volume.
    """

    def __init__(
        self,
        threshold: float = 0.4,
        merge_distance_mm: float = 5.0,
        min_volume_mm3: float = 0.0,
        score: str = "max",
        max_detections: int | None = 100,
    ) -> None:
        if not 0 < threshold <= 1:
            raise ConfigError(f"threshold is {threshold}; give a probability above 0 and up to 1.")
        if score not in SCORES:
            raise ConfigError(f"score is {score!r}; choose {' or '.join(SCORES)}.")
        if merge_distance_mm < 0 or min_volume_mm3 < 0 or (max_detections is not None and max_detections < 1):
            raise ConfigError(
                f"merge_distance_mm is {merge_distance_mm}, min_volume_mm3 {min_volume_mm3} and max_detections "
                f"{max_detections}; the first two may not be negative, the last is 1 or more."
            )
        self.threshold = threshold
        self.merge_distance_mm = merge_distance_mm
        self.min_volume_mm3 = min_volume_mm3
        self.score = score
        self.max_detections = max_detections

    def __call__(self, image: torch.Tensor, affine: Any = None) -> torch.Tensor:
        """Find the detections of one map.

        Args:
            image: probabilities (1, i, j) or (1, i, j, k).
            affine: from voxel indices to mm, RAS+; by default that of a MetaTensor.

        Returns:
            (N, 5), float32: x, y, z in mm, RAS+, diameter in mm, probability; most probable first.

        Raises:
            DataError: if the map has several channels or no affine is known.
        """
        if image.ndim not in (3, 4) or image.shape[0] != 1:
            raise DataError(
                f"a map of probabilities has the shape {tuple(image.shape)}; detection needs one channel, (1, i, j, k)."
            )
        if affine is None and isinstance(image, MetaTensor):
            affine = image.affine
        if affine is None:
            raise DataError("a map of probabilities has no affine; give the MetaTensor, or the affine with it.")
        matrix = matrix_of(affine)
        values = torch.as_tensor(image).detach().cpu().float().numpy()[0]
        return torch.from_numpy(self._found(values, matrix).astype(np.float32))

    def _found(self, values: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        labels, _ = ndimage.label(values >= self.threshold, ndimage.generate_binary_structure(values.ndim, values.ndim))
        parts = [
            _part(values[box] * (labels[box] == number), box)
            for number, box in enumerate(ndimage.find_objects(labels), 1)
            if box is not None
        ]
        if not parts:
            return np.zeros((0, len(COLUMNS)))
        table = np.array(parts)  # voxels, mass, largest value, centre in voxels
        table[:, 3:] = apply_affine(matrix, in_space(table[:, 3:]))
        measure, dims = _measure(matrix, values.shape)
        found = self._merged(table)
        size = found[:, 0] * measure
        probability = found[:, 2] if self.score == "max" else found[:, 1] / found[:, 0]
        rows = np.column_stack([found[:, 3:], _diameter(size, dims), probability])[size >= self.min_volume_mm3]
        return rows[np.argsort(-rows[:, -1], kind="stable")][: self.max_detections]

    def _merged(self, table: NDArray[np.float64]) -> NDArray[np.float64]:
        """Join near components: voxels and mass add up, centres are weighted by mass."""
        if self.merge_distance_mm == 0 or len(table) < 2:
            return table
        pairs = KDTree(table[:, 3:]).query_pairs(self.merge_distance_mm, output_type="ndarray")
        graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(table), len(table)))
        count, group = connected_components(graph, directed=False)
        merged = np.zeros((count, table.shape[1]))
        np.add.at(merged[:, :2], group, table[:, :2])
        np.maximum.at(merged[:, 2], group, table[:, 2])
        np.add.at(merged[:, 3:], group, table[:, 3:] * table[:, 1:2])
        merged[:, 3:] /= merged[:, 1:2]
        return merged


def _part(values: NDArray[np.float32], box: tuple[slice, ...]) -> list[float]:
    """Give voxels, mass, largest value and centre (3 voxel indices) of one component.

    Args:
        values: probabilities in the box around it, 0 outside of the component.
        box: where that is.
    """
    mass = float(values.sum(dtype=np.float64))
    centre = [0.0, 0.0, 0.0]
    for axis, side in enumerate(box):
        others = tuple(other for other in range(values.ndim) if other != axis)
        profile = values.sum(axis=others, dtype=np.float64)
        centre[axis] = side.start + float(profile @ np.arange(len(profile))) / mass
    return [float(np.count_nonzero(values)), mass, float(values.max()), *centre]


def in_space(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give points three coordinates; those of a plane get a third, 0."""
    return np.pad(points, ((0, 0), (0, 3 - points.shape[1])))


def matrix_of(affine: Any) -> NDArray[np.float64]:
    """Give an affine of a plane, 3 x 3, or of a volume as 4 x 4."""
    given = np.asarray(affine, dtype=np.float64)
    if given.shape == (4, 4):
        return given
    matrix = np.eye(4)
    matrix[np.ix_([0, 1, 3], [0, 1, 3])] = given
    return matrix


def _measure(matrix: NDArray[np.float64], shape: tuple[int, ...]) -> tuple[float, int]:
    """Give the volume of a voxel (mm3) and 3; of a map of one slice the area of a pixel (mm2) and 2."""
    axes = [axis for axis, length in enumerate(shape) if length > 1]
    if len(axes) == 3:
        return abs(float(np.linalg.det(matrix[:3, :3]))), 3
    first, second = (matrix[:3, axis] for axis in (axes if len(axes) == 2 else (0, 1)))
    return float(np.linalg.norm(np.cross(first, second))), 2


def _diameter(size: NDArray[np.float64], dims: int) -> NDArray[np.float64]:
    """Give the diameter of a sphere of a volume, or of a circle of an area."""
    return np.cbrt(6 * size / np.pi) if dims == 3 else 2 * np.sqrt(size / np.pi)


class DetectionsFromMapd(MapTransform):
    """Dictionary version of :class:`DetectionsFromMap`; the last step of a detection bundle's ``answer``.

    Args:
        keys: maps of probabilities, (1, i, j, k) or (1, i, j); they become (N, 5) tensors.
        threshold: see :class:`DetectionsFromMap`, as for the next four.
        merge_distance_mm: see there.
        min_volume_mm3: see there.
        score: see there.
        max_detections: see there.
        reference_key: an image on the same grid, whose affine counts where a map is a plain tensor.
        allow_missing_keys: skip keys that an item does not have.

    Example:
        >>> find = DetectionsFromMapd("pred", threshold=0.5)
        >>> find({"pred": probabilities})["pred"].shape  # doctest: +SKIP
        torch.Size([3, 5])
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        threshold: float = 0.4,
        merge_distance_mm: float = 5.0,
        min_volume_mm3: float = 0.0,
        score: str = "max",
        max_detections: int | None = 100,
        reference_key: str = "image",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.find = DetectionsFromMap(threshold, merge_distance_mm, min_volume_mm3, score, max_detections)
        self.reference_key = reference_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of ``data`` with each map replaced by its detections."""
        item = dict(data)
        for key in self.key_iterator(item):
            reference = item.get(self.reference_key)
            known = None if isinstance(item[key], MetaTensor) else getattr(reference, "affine", None)
            item[key] = self.find(item[key], known)
        return item


class SaveDetectionsd(MapTransform):
    """Write the detections of all items to ``detections.csv``, and their number for each item to ``predictions.csv``.

    ``detections.csv`` has LUNA16's submission format (mm, LPS+); what names a scan is its ``case``. ``predictions.csv``
    has case, path, number of detections and the highest probability. Both are written anew, whole, after each item.

    Args:
        keys: detections, (N, 5), as :class:`DetectionsFromMapd` leaves them.
        output_dir: folder of the tables; it is created.
    """

    def __init__(self, keys: KeysCollection, output_dir: str | os.PathLike[str]) -> None:
        super().__init__(keys)
        self.folder = Path(output_dir)
        self._found: list[dict[str, Any]] = []
        self._cases: list[dict[str, Any]] = []

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the rows and give ``data`` back unchanged."""
        item = dict(data)
        for key in self.key_iterator(item):
            found = torch.as_tensor(item[key]).cpu().numpy()
            case = str(item.get("case", ""))
            strongest = f"{found[0, -1]:.6f}" if len(found) else ""
            self._found += submission_rows(case, found)
            self._cases.append(
                dict(zip(_CASE_COLUMNS, (case, item.get("path", ""), len(found), strongest), strict=True))
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        write_table(self._found, SUBMISSION_COLUMNS, self.folder / SUBMISSION)
        write_table(self._cases, _CASE_COLUMNS, self.folder / TABLE)
        return item
