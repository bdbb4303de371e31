"""Where DICOM slices lie: their order along the normal, the affine of their volume, and what has to be repaired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medresnet3d.errors import GeometryError
from medresnet3d.io.checks import MIN_SPACING_MM
from medresnet3d.io.dicom_grid import Regrid, regular_grid
from medresnet3d.io.dicom_slices import TOMOGRAPHIC, Slice
from medresnet3d.io.dicom_values import number, text
from medresnet3d.io.volume import LPS_TO_RAS

COSINE_SILENT = 1e-4
COSINE_REPAIRED = 0.02
COSINE_SPREAD = 0.01
SAME_PLACE = 0.05
"""Distance, as a fraction of the slice thickness, within which slices share a position."""
SAME_PLACE_MM = (1e-4, 1e-2, 0.1)
"""The least and the largest such distance, and between them the one where no thickness is known."""
REGULAR_GAPS = 0.5
TILT_RESAMPLED_DEGREES = 0.5
TILT_TOLD_DEGREES = 0.05
DRIFT_KEPT = 0.5
"""Shift in the plane, in pixels, up to which slices are left where they are."""
LARGEST_TILT_DEGREES = 60.0
LARGEST_JUMP = 0.5
"""Shift in the plane that is no tilt, as a fraction of the image, beyond which slices do not form one volume."""


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices in order along their normal, with the affine of the volume that they form.

    Args:
        slices: in increasing order along the normal (row direction x column direction).
        affine: 4 x 4, from (column, row, slice) indices of the volume to RAS+ millimetres.
        warnings: what was repaired or assumed.
        regrid: how the slices have to be resampled to form that volume; ``None`` if they are its slices.
    """

    slices: tuple[Slice, ...]
    affine: NDArray[np.float64]
    warnings: tuple[str, ...]
    regrid: Regrid | None = None


def stack_slices(slices: Sequence[Slice], name: str, *, strict: bool = False) -> Stack:
    """Sort slices of equal size and orientation and judge their geometry.

    Args:
        slices: in any order; one is enough. A mosaic has to be the only one.
        name: of the series, for messages.
        strict: refuse what could be repaired by resampling.

    Returns:
        The slices in order and the affine of their volume. A stack that is sheared (gantry tilt), has slices missing or
        lies at varying distances gets the affine of the upright, regular grid that it has to be resampled to.

    Raises:
        GeometryError: if positions, orientation or pixel spacing are missing or differ between slices; if slices share
            a position; with ``strict``, if slices are missing, lie at varying distances or are sheared.
    """
    warnings: list[str] = []
    if len(slices) == 1:
        return _single(slices[0], name)
    if not strict and _has_no_places(slices):
        slices = [_assumed(one, len(slices), warnings) for one in slices]
    _require_positions(slices, name)
    cosines = _cosines(slices, name, warnings)
    spacing = _pixel_spacing(slices, name)
    normal = np.cross(cosines[0], cosines[1])
    positions = np.array([one.position for one in slices])
    order = np.argsort(positions @ normal, kind="stable")
    ordered = tuple(slices[index] for index in order)
    positions = positions[order]
    along = (positions - positions[0]) @ normal
    _refuse_doubles(ordered, positions @ normal, name)
    places = [one.place for one in ordered]
    grid = regular_grid(along, float(positions[0] @ normal), places, name, strict=strict, warnings=warnings)
    drift = (positions - positions[0]) @ cosines.T / spacing[::-1]
    size = np.array([int(ordered[0].dataset.Columns), int(ordered[0].dataset.Rows)])
    upright = _needs_shear(drift, along, spacing, name, strict, warnings)
    if upright:
        _refuse_far(drift, along, size, spacing, name)
    if not upright and grid.regular:
        step = (positions[-1] - positions[0]) / (len(positions) - 1)
        return Stack(ordered, _affine(cosines, spacing, step, positions[0]), tuple(warnings))
    low = np.zeros(2)
    step = normal * grid.spacing
    if upright:
        low, high = np.floor(drift.min(axis=0) + 1e-6), np.ceil(drift.max(axis=0) - 1e-6)
        size = size + (high - low).astype(int)
    else:
        step = step + (drift[-1] * spacing[::-1]) @ cosines / (grid.count - 1)
        drift = np.zeros_like(drift)
    origin = positions[0] + (low * spacing[::-1]) @ cosines
    regrid = Regrid((int(size[0]), int(size[1]), grid.count), grid.index, drift - low)
    return Stack(ordered, _affine(cosines, spacing, step, origin), tuple(warnings), regrid)


def same_place(slices: Sequence[Slice], along: NDArray[np.float64]) -> float:
    """Give the distance in millimetres within which slices of a stack share a position.

    Args:
        slices: of a stack.
        along: their places along the normal in millimetres.
    """
    least, usual, largest = SAME_PLACE_MM
    gaps = np.diff(np.sort(along))
    gaps = gaps[gaps > least]
    if gaps.size and np.ptp(gaps) < REGULAR_GAPS * np.median(gaps):
        return least  # regular already, however thick the header calls the slices
    known = [abs(one.thickness) for one in slices if one.thickness]
    return min(max(SAME_PLACE * min(known), least), largest) if known else usual


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
    if spacing is None or min(spacing) < MIN_SPACING_MM:
        warnings.append("The image has no pixel spacing: 1 mm was assumed.")
        spacing = (1.0, 1.0)
    cosines, origin = np.eye(3)[:2], _centred(one, spacing)
    if one.orientation is None or one.position is None:
        warnings.append("The image has no position and orientation in the patient: an axial plane was assumed.")
    else:
        cosines, origin = _cosines([one], name, warnings), one.position
    if one.mosaic is not None:
        step = one.mosaic.step
        if one.mosaic.guessed:
            warnings.append(f"The mosaic does not say how many slices it holds: all {one.mosaic.tiles} were taken.")
    else:
        if one.thickness is None or abs(one.thickness) < MIN_SPACING_MM:
            warnings.append("The image is a single slice without a thickness: 1 mm was assumed.")
        step = np.cross(cosines[0], cosines[1]) * abs(one.thickness or 1.0)
    return Stack((one,), _affine(cosines, spacing, step, origin), tuple(warnings))


def _has_no_places(slices: Sequence[Slice]) -> bool:
    """Tell whether the slices are the frames of one tomographic file without any position."""
    one = slices[0]
    single = all(other.dataset is one.dataset for other in slices)
    return single and text(one.dataset, "Modality") in TOMOGRAPHIC and all(other.position is None for other in slices)


def _assumed(one: Slice, count: int, warnings: list[str]) -> Slice:
    """Place a frame without a position in an axial stack, in the order of the frames."""
    known = one.thickness is not None and abs(one.thickness) >= MIN_SPACING_MM
    told = "The frames have no positions in the patient: an axial stack in their order was assumed."
    if told not in warnings:
        warnings.append(told)
        if one.pixel_spacing is None or not known:
            warnings.append("The frames lack a pixel spacing or a thickness: 1 mm was assumed.")
    step = abs(one.thickness) if known and one.thickness else 1.0
    spacing = one.pixel_spacing or (1.0, 1.0)
    position = _centred(one, spacing)
    position[2] = (one.frame - (count - 1) / 2) * step
    return replace(one, position=position, orientation=np.eye(3)[:2], pixel_spacing=spacing)


def _centred(one: Slice, spacing: tuple[float, float]) -> NDArray[np.float64]:
    """Give the position at which an axial image has its centre at the origin, as dcm2niix places such images."""
    columns, rows = number(one.dataset, "Columns") or 1, number(one.dataset, "Rows") or 1
    return np.array([-(columns - 1) / 2 * spacing[1], -(rows - 1) / 2 * spacing[0], 0.0])


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


def _refuse_doubles(slices: Sequence[Slice], along: NDArray[np.float64], name: str) -> None:
    doubles = np.flatnonzero(np.diff(along) <= same_place(slices, along))
    if doubles.size == len(along) - 1:
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


def _needs_shear(
    drift: NDArray[np.float64],
    along: NDArray[np.float64],
    spacing: tuple[float, float],
    name: str,
    strict: bool,
    warnings: list[str],
) -> bool:
    """Tell whether slices have to be moved in their plane; ``drift`` is (slices, columns and rows), in pixels."""
    line = along[:, None] / along[-1] * drift[-1]
    jumps = float(np.abs(drift - line).max())
    if jumps > DRIFT_KEPT:
        worst = float(np.linalg.norm((drift - line) * spacing[::-1], axis=1).max())
        told = f"slices are shifted in their plane by up to {worst:.3g} mm"
        if strict:
            raise GeometryError(f"{name}: {told}; load without strict to have them moved into place.")
        warnings.append(f"The {told} against each other; they were moved into place by interpolation.")
        return True
    tilt = float(np.degrees(np.arctan2(np.linalg.norm(drift[-1] * spacing[::-1]), along[-1])))
    if tilt > TILT_RESAMPLED_DEGREES and np.abs(drift[-1]).max() > DRIFT_KEPT:
        told = f"sheared against their normal by {tilt:.1f} degrees (gantry tilt)"
        if strict:
            raise GeometryError(
                f"{name}: the slices are {told}; load without strict to have them resampled to an upright grid."
            )
        warnings.append(f"The slices were {told}; they were resampled to an upright grid.")
        return True
    if tilt > TILT_TOLD_DEGREES:
        warnings.append(f"The slices are sheared against their normal by {tilt:.2f} degrees; the affine keeps this.")
    return False


def _refuse_far(
    drift: NDArray[np.float64],
    along: NDArray[np.float64],
    size: NDArray[np.int_],
    spacing: tuple[float, float],
    name: str,
) -> None:
    jumps = np.abs(drift - along[:, None] / along[-1] * drift[-1]).max(axis=0)
    slope = np.linalg.norm(drift[-1] * spacing[::-1]) / along[-1]
    if (jumps > LARGEST_JUMP * size).any() or slope > np.tan(np.radians(LARGEST_TILT_DEGREES)):
        worst = float((np.ptp(drift, axis=0) * spacing[::-1]).max())
        raise GeometryError(
            f"{name}: the slices lie up to {worst:.4g} mm apart within their plane; they form no volume."
        )
