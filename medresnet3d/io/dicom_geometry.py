"""Where DICOM slices lie: their order along the normal, their affine, and the faults that are refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medresnet3d.errors import GeometryError
from medresnet3d.io.checks import MIN_SPACING_MM
from medresnet3d.io.dicom_slices import Slice
from medresnet3d.io.volume import LPS_TO_RAS

COSINE_SILENT = 1e-4
COSINE_REPAIRED = 0.02
COSINE_SPREAD = 0.01
SAME_PLACE_MM = 1e-2
TILT_REFUSED_DEGREES = 0.5
TILT_TOLD_DEGREES = 0.05
GRID_SILENT = 0.02
GRID_TOLD = 0.1
"""Deviations from the regular grid as a fraction of the slice distance."""


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices in order along their normal, with the affine of the volume that they form.

    Args:
        slices: in increasing order along the normal (row direction x column direction).
        affine: 4 x 4, from (column, row, slice) indices to RAS+ millimetres.
        warnings: what was repaired or assumed.
    """

    slices: tuple[Slice, ...]
    affine: NDArray[np.float64]
    warnings: tuple[str, ...]


def stack_slices(slices: Sequence[Slice], name: str) -> Stack:
    """Sort slices of equal size and orientation and judge their geometry.

    Args:
        slices: in any order; one is enough.
        name: of the series, for messages.

    Returns:
        The slices in order and the affine of their volume.

    Raises:
        GeometryError: if positions, orientation or pixel spacing are missing or differ between slices; if slices are
            missing, share a position, or lie at varying distances; or if the stack is sheared (gantry tilt).
    """
    warnings: list[str] = []
    if len(slices) == 1:
        return _single(slices[0], name)
    _require_positions(slices, name)
    cosines = _cosines(slices, name, warnings)
    spacing = _pixel_spacing(slices, name)
    normal = np.cross(cosines[0], cosines[1])
    positions = np.array([one.position for one in slices])
    order = np.argsort(positions @ normal, kind="stable")
    ordered = tuple(slices[index] for index in order)
    positions = positions[order]
    step = _step(ordered, positions, normal, name, warnings)
    _check_in_plane(positions, step, normal, spacing, name, warnings)
    return Stack(ordered, _affine(cosines, spacing, step, positions[0]), tuple(warnings))


def _affine(
    cosines: NDArray[np.float64], spacing: tuple[float, float], step: NDArray[np.float64], origin: NDArray[np.float64]
) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, 0] = cosines[0] * spacing[1]  # PixelSpacing is (between rows, between columns)
    affine[:3, 1] = cosines[1] * spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = origin
    return LPS_TO_RAS @ affine


def _single(one: Slice, name: str) -> Stack:
    warnings = []
    spacing = one.pixel_spacing
    if spacing is None:
        warnings.append("The image has no pixel spacing: 1 mm was assumed.")
        spacing = (1.0, 1.0)
    cosines, origin = np.eye(3)[:2], np.zeros(3)
    if one.orientation is None or one.position is None:
        warnings.append("The image has no position and orientation in the patient: an axial plane was assumed.")
    else:
        cosines, origin = _cosines([one], name, warnings), one.position
    if one.thickness is None or abs(one.thickness) < MIN_SPACING_MM:
        warnings.append("The image is a single slice without a thickness: 1 mm was assumed.")
    step = np.cross(cosines[0], cosines[1]) * abs(one.thickness or 1.0)
    return Stack((one,), _affine(cosines, spacing, step, origin), tuple(warnings))


def _require_positions(slices: Sequence[Slice], name: str) -> None:
    for one in slices:
        for value, tag in (
            (one.position, "Image Position (Patient)"),
            (one.orientation, "Image Orientation (Patient)"),
            (one.pixel_spacing, "Pixel Spacing"),
        ):
            if value is None:
                raise GeometryError(
                    f"{name}: {one.place} has no usable {tag}, so the slices cannot be placed; "
                    "export the series again from its source."
                )


def _cosines(slices: Sequence[Slice], name: str, warnings: list[str]) -> NDArray[np.float64]:
    every = np.array([one.orientation for one in slices])
    if np.abs(every - every[0]).max() > COSINE_SPREAD:
        raise GeometryError(f"{name}: the orientation differs between slices; they do not form one volume.")
    row, column = every.mean(axis=0)
    gram = np.array([row @ row - 1, column @ column - 1, row @ column])
    error = float(np.abs(gram).max())
    if error > COSINE_REPAIRED:
        raise GeometryError(
            f"{name}: the direction cosines are not perpendicular unit vectors (off by {error:.3g}); "
            "export the series again from its source."
        )
    if error > COSINE_SILENT:
        warnings.append(f"The direction cosines were off by {error:.2g} and were made perpendicular unit vectors.")
    left, _, right = np.linalg.svd(np.array([row, column]), full_matrices=False)
    return left @ right  # the nearest pair of perpendicular unit vectors


def _pixel_spacing(slices: Sequence[Slice], name: str) -> tuple[float, float]:
    every = np.array([one.pixel_spacing for one in slices])
    if every.min() < MIN_SPACING_MM:
        raise GeometryError(f"{name}: the pixel spacing is 0 mm; correct the header.")
    if (np.ptp(every, axis=0) > 1e-3 * every[0]).any():
        raise GeometryError(
            f"{name}: the pixel spacing varies between slices ({every.min():.4g} to {every.max():.4g} mm); "
            "they do not form one volume."
        )
    return float(every[0, 0]), float(every[0, 1])


def _step(
    slices: Sequence[Slice],
    positions: NDArray[np.float64],
    normal: NDArray[np.float64],
    name: str,
    warnings: list[str],
) -> NDArray[np.float64]:
    """Give the vector from a slice to the next, refusing doubles, gaps and varying distances."""
    along = positions @ normal
    distances = np.diff(along)
    doubles = np.flatnonzero(distances < SAME_PLACE_MM)
    if doubles.size == len(distances):
        raise GeometryError(
            f"{name}: its {len(slices)} images share one position, so they form no volume (a film, or a multi-frame "
            "file without positions); convert it first, for example with dcm2niix."
        )
    if doubles.size:
        first, second = slices[doubles[0]], slices[doubles[0] + 1]
        raise GeometryError(
            f"{name}: {doubles.size + 1} slices share a position, for example {first.place} and {second.place} at "
            f"{along[doubles[0]]:.2f} mm along the slice normal; remove the duplicates."
        )
    mean = (along[-1] - along[0]) / (len(along) - 1)
    error = float(np.abs(along - along[0] - mean * np.arange(len(along))).max()) / mean
    if error > GRID_TOLD:
        raise _irregular(slices, along, distances, name)
    if error > GRID_SILENT:
        warnings.append(
            f"The distances between slices vary from {distances.min():.3f} to {distances.max():.3f} mm; "
            f"a regular {mean:.3f} mm was assumed."
        )
    return (positions[-1] - positions[0]) / (len(positions) - 1)


def _irregular(
    slices: Sequence[Slice], along: NDArray[np.float64], distances: NDArray[np.float64], name: str
) -> GeometryError:
    usual = float(np.median(distances))
    multiple = distances / usual
    whole = np.abs(multiple - np.round(multiple)) <= GRID_TOLD
    gaps = np.flatnonzero(np.round(multiple) >= 2)
    if gaps.size and whole.all() and gaps.size < len(distances) / 2:
        missing = int(np.round(multiple[gaps]).sum()) - gaps.size
        where = "; ".join(
            f"between {along[gap]:.2f} and {along[gap + 1]:.2f} mm along the slice normal "
            f"({slices[gap].place} and {slices[gap + 1].place})"
            for gap in gaps[:5]
        )
        number = "1 slice is" if missing == 1 else f"{missing} slices are"
        return GeometryError(
            f"{name}: {number} missing: {where}, where slices lie {usual:.4g} mm apart; copy the complete series."
        )
    return GeometryError(
        f"{name}: the distance between slices varies from {distances.min():.4g} to {distances.max():.4g} mm; "
        "resample the series to a regular grid first."
    )


def _check_in_plane(
    positions: NDArray[np.float64],
    step: NDArray[np.float64],
    normal: NDArray[np.float64],
    spacing: tuple[float, float],
    name: str,
    warnings: list[str],
) -> None:
    along = float(step @ normal)
    tilt = float(np.degrees(np.arctan2(np.linalg.norm(step - along * normal), along)))
    if tilt > TILT_REFUSED_DEGREES:
        raise GeometryError(
            f"{name}: the slices are sheared against their normal by {tilt:.1f} degrees (gantry tilt); "
            "resample the series to an upright grid first, for example with dcm2niix."
        )
    if tilt > TILT_TOLD_DEGREES:
        warnings.append(f"The slices are sheared against their normal by {tilt:.2f} degrees; the affine keeps this.")
    expected = positions[0] + np.arange(len(positions))[:, None] * step
    off = positions - expected
    off -= (off @ normal)[:, None] * normal
    worst = float(np.linalg.norm(off, axis=1).max())
    if worst > 0.5 * min(spacing):
        raise GeometryError(f"{name}: slices are shifted in their plane by up to {worst:.3g} mm; they form no volume.")
