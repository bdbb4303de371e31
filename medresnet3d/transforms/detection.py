"""Detection: from a map of probabilities to a list of findings, and from boxes to what a network learns.

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
    FINDING_COLUMNS,
    SUBMISSION_COLUMNS,
    box_corners,
    findings_table,
    submission_rows,
    write_table,
)
from medresnet3d.transforms.prediction import TABLE

SUBMISSION = "detections.csv"
_CASE_COLUMNS = ("case", "path", "detections", "strongest_probability")
SCORES = ("max", "mean")
KINDS = ("sphere", "heat")
HEAT_REACH = 3.0


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
        matrix = _matrix(affine)
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
        table[:, 3:] = apply_affine(matrix, _in_space(table[:, 3:]))
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


def _in_space(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give points three coordinates; those of a plane get a third, 0."""
    return np.pad(points, ((0, 0), (0, 3 - points.shape[1])))


def _matrix(affine: Any) -> NDArray[np.float64]:
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


class BoxesToMapd(MapTransform):
    """Draw the findings of a manifest on the grid of an image: what a dense detection network learns.

    A finding is the ellipsoid (in 2D the ellipse) that its box encloses. ``"sphere"`` is 1 in it and 0 elsewhere, and
    1 at least at the voxel nearest to its centre; ``"heat"`` is a Gaussian around its centre, exp(-r^2 / (2 spread^2))
    where r is 1 on the surface, 1 at the centre's voxel, 0 from three times the spread on. Where findings overlap the
    larger value counts.

    Patches around findings and around nothing come from MONAI's ``RandCropByPosNegLabeld`` with this map as its label:
    all that is above 0 is positive, and a scan without a finding gives negatives.

    Args:
        keys: boxes, lists as in a manifest; a missing key or ``None`` draws nothing.
        reference_key: the image, a MetaTensor (C, i, j, k) or (C, i, j).
        target_key: where the map goes, (1, i, j, k) or (1, i, j), float32, on the image's grid.
        kind: ``"sphere"`` or ``"heat"``.
        spread: standard deviation of the heat as a share of the radius.

    Raises:
        ConfigError: for another kind or a spread that is not positive.
        DataError: from :func:`medresnet3d.io.detections.box_corners`, or if the image has no affine.

    Example:
        >>> draw = BoxesToMapd(kind="sphere")
        >>> draw({"image": scan, "boxes": [[-8, -4, 10, 0, 4, 18]]})["label"].sum()  # doctest: +SKIP
        tensor(268.)
    """

    def __init__(
        self,
        keys: KeysCollection = "boxes",
        reference_key: str = "image",
        target_key: str = "label",
        kind: str = "sphere",
        spread: float = 0.5,
    ) -> None:
        super().__init__(keys, allow_missing_keys=True)
        if kind not in KINDS:
            raise ConfigError(f"kind is {kind!r}; choose {' or '.join(KINDS)}.")
        if spread <= 0:
            raise ConfigError(f"spread is {spread}; give a share of the radius above 0.")
        self.reference_key = reference_key
        self.target_key = target_key
        self.kind = kind
        self.spread = spread

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of ``data`` with the map added."""
        item = dict(data)
        image = item[self.reference_key]
        if not isinstance(image, MetaTensor):
            raise DataError(f"`{self.reference_key}` has no affine to draw boxes by; load it with LoadVolumed.")
        drawn = np.zeros(tuple(image.shape[1:]), dtype=np.float32)
        matrix = _matrix(image.affine)
        for key in self.key_iterator(item):
            for low, high in box_corners(item[key] or ()):
                self._draw(drawn, matrix, (low + high) / 2, (high - low) / 2)
        item[self.target_key] = MetaTensor(torch.from_numpy(drawn[None]), affine=image.affine.clone())
        return item

    def _draw(
        self,
        drawn: NDArray[np.float32],
        matrix: NDArray[np.float64],
        centre: NDArray[np.float64],
        half: NDArray[np.float64],
    ) -> None:
        """Draw one finding; what lies outside of the grid is left out."""
        reach = half * (max(1.0, HEAT_REACH * self.spread) if self.kind == "heat" else 1.0)
        to_voxels: NDArray[np.float64] = np.linalg.inv(matrix).astype(np.float64)
        box = _voxels_around(to_voxels, centre, reach, drawn.shape)
        if box is None:
            return
        offset = apply_affine(matrix, _in_space(_indices(box))) - centre
        with np.errstate(divide="ignore", invalid="ignore"):
            scaled = np.where(half > 0, offset / half, 0.0)  # a flat box has no thickness to leave
        squared = (scaled**2).sum(axis=1).reshape([side.stop - side.start for side in box])
        nearest = np.unravel_index(int((offset**2).sum(axis=1).argmin()), squared.shape)
        if self.kind == "sphere":
            values = (squared <= 1).astype(np.float32)
        else:
            values = np.exp(-squared / (2 * self.spread**2)).astype(np.float32)
            values[squared >= (HEAT_REACH * self.spread) ** 2] = 0
        if _holds(drawn.shape, to_voxels, centre):
            values[nearest] = 1
        np.maximum(drawn[box], values, out=drawn[box])


def _indices(box: tuple[slice, ...]) -> NDArray[np.float64]:
    """Give the indices of all voxels of a box, (N, dims)."""
    grids = np.meshgrid(*(np.arange(side.start, side.stop) for side in box), indexing="ij")
    return np.stack([grid.ravel() for grid in grids], axis=1).astype(np.float64)


def _voxels_around(
    to_voxels: NDArray[np.float64], centre: NDArray[np.float64], reach: NDArray[np.float64], shape: tuple[int, ...]
) -> tuple[slice, ...] | None:
    """Give the voxels within a distance (mm along x, y, z) of a point, ``None`` where the grid has none of them."""
    corners = centre + reach * (2 * np.array(list(np.ndindex(2, 2, 2))) - 1)
    places = apply_affine(to_voxels, corners)[:, : len(shape)]
    start = np.maximum(np.floor(places.min(axis=0)), 0).astype(int)
    stop = np.minimum(np.ceil(places.max(axis=0)) + 1, shape).astype(int)
    if (stop <= start).any():
        return None
    return tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))


def _holds(shape: tuple[int, ...], to_voxels: NDArray[np.float64], point: NDArray[np.float64]) -> bool:
    """Whether a point (mm) lies in the grid."""
    place = apply_affine(to_voxels, point)[: len(shape)]
    return bool(((place > -0.5) & (place < np.array(shape) - 0.5)).all())


class FindingsFromBoxesd(MapTransform):
    """Turn the boxes of a manifest into the tensor that detections are compared with in a validation.

    The tensor has the same shape for every scan, so that batches can be made; rows that no finding needs are NaN.

    Args:
        keys: boxes of the findings; a missing key is a scan without any.
        excluded_key: boxes of findings that count neither as hits nor as false alarms; may be missing.
        findings_key: where the tensor goes, (most, 5), float32, columns as
            :data:`medresnet3d.io.detections.FINDING_COLUMNS`.
        most: number of rows.

    Raises:
        DataError: if a scan has more findings, or from :func:`medresnet3d.io.detections.box_corners`.
    """

    def __init__(
        self,
        keys: KeysCollection = "boxes",
        excluded_key: str = "excluded_boxes",
        findings_key: str = "label",
        most: int = 256,
    ) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.excluded_key = excluded_key
        self.findings_key = findings_key
        self.most = most

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of ``data`` with the findings added."""
        item = dict(data)
        boxes = [box for key in self.key_iterator(item) for box in item[key] or ()]
        found = findings_table(boxes, item.get(self.excluded_key) or ())
        if len(found) > self.most:
            raise DataError(f"{item.get('case', 'a scan')} has {len(found)} findings, but `most` is {self.most}.")
        padded = torch.full((self.most, len(FINDING_COLUMNS)), torch.nan)
        padded[: len(found)] = torch.from_numpy(found)
        item[self.findings_key] = padded
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
