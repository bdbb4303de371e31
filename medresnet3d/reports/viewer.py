"""Scans to scroll through: the parts of the page's slice viewer, made from a volume and its overlays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medresnet3d.errors import GeometryError
from medresnet3d.reports.blocks import Mark, PlaneView, Structure, Viewer, ViewerLayer, ViewerMark, ViewerPane
from medresnet3d.reports.marks import ring_radius
from medresnet3d.reports.packing import CODES, GreySteps, Grid, pack
from medresnet3d.reports.planes import (
    HEAT_LAYER,
    PLANES,
    WINDOWS,
    Oriented,
    focus,
    grey_window,
    heat_colors,
    label_color,
    label_names,
    orient,
    three_plane_view,
    to_voxel,
)
from medresnet3d.reports.structures import label_counts, longest_axial_diameters

MAX_BYTES = 5_600_000
"""Length of the packed voxels of one viewer as they stand in the page (base64)."""
MOST_VOXELS = 16_000_000
"""Voxels of the image that a phone unpacks without running short of memory."""
CT_PRESETS = ("lung", "soft tissue", "bone", "brain")
_BASE64 = 4 / 3
_SAMPLED = 8
_AIR_HU, _LUNG_HU, _AROUND_MM = -200.0, -500.0, 8.0
_TILT_DEGREES = 3.0


def slice_viewer(
    volume: Any,
    *,
    affine: Any | None = None,
    spacing: Sequence[float] | None = None,
    layers: Mapping[str, Any] | None = None,
    heat: Any | None = None,
    labels: Mapping[int, str] | Sequence[str] | None = None,
    window: str | Sequence[float] | None = None,
    modality: str | None = None,
    position: Sequence[float] | None = None,
    marks: Sequence[Mark] = (),
    alt: str = "image",
    max_bytes: int = MAX_BYTES,
) -> Viewer:
    """Make a viewer of a volume: three planes to scroll through with overlays, windows and a crosshair.

    The patient's right is at the left of the picture (radiological convention); anterior and superior are at the top.
    The page holds the voxels in 256 grey steps; a scan that would take more than ``max_bytes`` is averaged onto a
    coarser grid first, and the viewer says so. Volumes and diameters are measured before that.

    Args:
        volume: values (i, j, k), optionally with a leading channel of length 1.
        affine: 4 x 4 affine to RAS+ mm; gives aspect, orientation letters and positions.
        spacing: voxel edge lengths in mm when there is no affine.
        layers: label maps by name, e.g. ``{"prediction": ..., "truth": ...}``; the first is shown at first.
        heat: importance of every voxel (Grad-CAM, occlusion), non-negative.
        labels: names of the labels, by number or in order (0 is background).
        window: CT window by name, or (lowest, highest), shown at first.
        modality: "CT" offers windows in Hounsfield units, if there are values as low as those of air.
        position: point to cut through and to mark, in RAS+ mm (in voxels when there is no affine).
        marks: places to put rings around and to list; without `position` the planes go through the first of them.
        alt: what the pictures show.
        max_bytes: largest length of the packed voxels in the page.

    Raises:
        GeometryError: if volume and overlays differ in shape or are not three-dimensional, and for colour.
        ConfigError: if the window's name is unknown.
    """
    maps = dict(layers or {})
    extra = {} if heat is None else {HEAT_LAYER: heat}
    oriented = orient({"image": volume, **maps, **extra}, affine, spacing)
    image = oriented.arrays["image"]
    if image.ndim != 3:
        raise GeometryError(f"{alt}: colour cannot be scrolled through; show it with three_plane_view.")
    voxel = to_voxel(position, oriented.affine)
    places = [to_voxel(mark.position, oriented.affine) for mark in marks]
    if voxel is None and places:
        voxel = places[0]
    centre = focus(image.shape, [oriented.arrays[name] for name in maps], voxel)
    is_ct = is_hounsfield(image, modality)
    if window is None and is_ct:
        window = ct_window(image, centre, oriented.spacing)
    shown = grey_window(image, window)
    steps = _steps(image, shown, is_ct)
    structures, codes = _structures(oriented, maps, labels)
    grid, data = _fit(oriented, steps, codes, list(maps), max_bytes)
    still = three_plane_view(
        volume,
        affine=affine,
        spacing=spacing,
        layers=maps,
        heat=heat,
        labels=labels,
        window=shown,
        position=position,
        marks=marks,
        alt=alt,
    )
    return Viewer(
        still=still,
        panes=_panes(still, grid, _spacing(oriented, grid)),
        image=data["image"],
        shape=grid.shape,
        spacing=_spacing(oriented, grid),
        affine=None if oriented.affine is None else grid.affine(oriented.affine).tolist(),
        values=steps.values(),
        window=shown,
        presets={name: WINDOWS[name] for name in CT_PRESETS} if is_ct else {},
        unit="HU" if is_ct else "",
        centre=_on_grid(centre, grid),
        marked=position is not None,
        layers=_layers(maps, data),
        structures=structures,
        marks=_marks(marks, places, grid),
        notes=_notes(oriented, grid, len(codes) >= CODES - 1),
    )


def is_hounsfield(image: NDArray[Any], modality: str | None) -> bool:
    """Say whether values are Hounsfield units: CT with values as low as those of air.

    Args:
        image: values (i, j, k).
        modality: DICOM modality or a bundle's, e.g. "CT" or "CT thorax".
    """
    if modality is None or modality.upper().split()[:1] != ["CT"]:
        return False
    return bool(np.nanmin(image[:, :, :: max(1, image.shape[2] // _SAMPLED)]) <= _AIR_HU)


def ct_window(image: NDArray[Any], centre: Sequence[int], spacing: Sequence[float]) -> str:
    """Choose the window that shows what lies around a voxel: "lung" in aerated lung, else "soft tissue".

    Args:
        image: Hounsfield units (i, j, k).
        centre: voxel.
        spacing: voxel edge lengths, mm.
    """
    around = tuple(
        slice(max(0, c - round(_AROUND_MM / mm)), c + round(_AROUND_MM / mm) + 1)
        for c, mm in zip(centre, spacing, strict=True)
    )
    return "lung" if float(np.nanmedian(image[around])) < _LUNG_HU else "soft tissue"


def _steps(image: NDArray[Any], window: tuple[float, float], is_ct: bool) -> GreySteps:
    if is_ct:
        return GreySteps.for_ct()
    lowest, highest = (float(find(image)) for find in (np.nanmin, np.nanmax))
    if not np.isfinite([lowest, highest]).all():
        lowest, highest = window
    return GreySteps.for_values(lowest, highest, window, np.issubdtype(image.dtype, np.integer))


def _structures(
    oriented: Oriented, maps: Mapping[str, Any], labels: Mapping[int, str] | Sequence[str] | None
) -> tuple[list[Structure], dict[int, int]]:
    """List the structures of all label maps, and give each label its code in the packed maps."""
    counts = {name: label_counts(oriented.arrays[name]) for name in maps}
    diameters = {name: longest_axial_diameters(oriented.arrays[name], oriented.spacing) for name in maps}
    found = sorted({label for one in counts.values() for label in one})[: CODES - 1]
    names = label_names(labels)
    voxel_ml = float(np.prod(oriented.spacing)) / 1000.0
    structures = [
        Structure(
            code,
            names.get(label, f"label {label}"),
            label_color(label),
            {name: counts[name].get(label, 0) * voxel_ml for name in maps},
            {name: diameters[name].get(label, 0.0) for name in maps},
        )
        for code, label in enumerate(found, 1)
    ]
    return structures, {label: code for code, label in enumerate(found, 1)}


def _fit(
    oriented: Oriented, steps: GreySteps, codes: Mapping[int, int], maps: Sequence[str], max_bytes: int
) -> tuple[Grid, dict[str, bytes]]:
    """Find the finest grid on which everything fits, trying a few slices before all of them."""
    image = oriented.arrays["image"]
    source = image.shape[0], image.shape[1], image.shape[2]
    most = float(MOST_VOXELS)
    while True:
        grid = Grid.within(source, oriented.spacing, most)
        chosen = np.unique(np.linspace(0, grid.shape[2] - 1, _SAMPLED).round().astype(int)).tolist()
        tried = pack((steps.encode(one) for one in grid.image(image, chosen)), smooth=True)
        size = len(tried) * grid.shape[2] / len(chosen) * _BASE64
        if size <= max_bytes or grid.size <= CODES:
            data = {"image": pack((steps.encode(one) for one in grid.image(image)), smooth=True)}
            data |= {name: pack(_coded(grid.labels(oriented.arrays[name]), codes), smooth=False) for name in maps}
            if HEAT_LAYER in oriented.arrays:
                data[HEAT_LAYER] = pack(_warmth(grid, oriented.arrays[HEAT_LAYER]), smooth=True)
            size = sum(map(len, data.values())) * _BASE64
            if size <= max_bytes or grid.size <= CODES:
                return grid, data
        most = grid.size * min(0.9, 0.97 * max_bytes / size)


def _coded(slices: Iterator[NDArray[Any]], codes: Mapping[int, int]) -> Iterator[NDArray[np.uint8]]:
    table = np.zeros(max(codes, default=0) + 1, dtype=np.uint8)
    table[list(codes)] = list(codes.values())
    for one in slices:
        whole = one.astype(np.int64)
        known = (whole > 0) & (whole < len(table))
        yield np.where(known, table[np.where(known, whole, 0)], 0).astype(np.uint8)


def _warmth(grid: Grid, heat: NDArray[Any]) -> Iterator[NDArray[np.uint8]]:
    scale = (CODES - 1) / max(float(np.nanmax(heat)), 1e-12)
    for one in grid.image(heat):
        yield np.rint(np.clip(np.nan_to_num(one) * scale, 0, CODES - 1)).astype(np.uint8)


def _layers(maps: Mapping[str, Any], data: Mapping[str, bytes]) -> list[ViewerLayer]:
    layers = [ViewerLayer(name, "labels", data[name]) for name in maps]
    if HEAT_LAYER in data:
        layers.append(ViewerLayer(HEAT_LAYER, "heat", data[HEAT_LAYER], heat_colors()))
    return layers


def _panes(still: PlaneView, grid: Grid, spacing: Sequence[float]) -> list[ViewerPane]:
    kept = [number for number, (_, _, sides) in enumerate(PLANES) if all(grid.source[side] > 1 for side in sides)]
    panes = []
    for number, plane in zip(kept, still.planes, strict=True):
        _, axis, (across, up) = PLANES[number]
        size = grid.shape[across] * spacing[across], grid.shape[up] * spacing[up]
        panes.append(ViewerPane(number, plane.name, size, plane.letters, grid.shape[axis]))
    return panes


def _spacing(oriented: Oriented, grid: Grid) -> tuple[float, float, float]:
    i, j, k = (mm * n / own for mm, n, own in zip(oriented.spacing, grid.source, grid.shape, strict=True))
    return i, j, k


def _on_grid(voxel: Sequence[int], grid: Grid) -> tuple[int, int, int]:
    i, j, k = (min(own - 1, int((v + 0.5) * own / n)) for v, n, own in zip(voxel, grid.source, grid.shape, strict=True))
    return i, j, k


def _marks(marks: Sequence[Mark], places: Sequence[Any], grid: Grid) -> list[ViewerMark]:
    """Bring marks onto the viewer's grid."""
    scale = np.asarray(grid.shape) / np.asarray(grid.source)
    found = []
    for mark, place in zip(marks, places, strict=True):
        i, j, k = ((np.asarray(place) + 0.5) * scale - 0.5).tolist()
        found.append(ViewerMark(mark, (i, j, k), ring_radius(mark)))
    return found


def _notes(oriented: Oriented, grid: Grid, full: bool) -> list[str]:
    notes = []
    if grid.reduced:
        before, after = (" x ".join(map(str, shape)) for shape in (grid.source, grid.shape))
        edges = " x ".join(f"{mm:.3g}" for mm in _spacing(oriented, grid))
        notes.append(
            f"To keep the page small, the slices are reduced from {before} to {after} voxels ({edges} mm); the answer "
            "and its volumes were found on the scan itself."
        )
    if full:
        notes.append(f"Only the first {CODES - 1} structures are shown.")
    if oriented.affine is None:
        notes.append("The scan's orientation is unknown, so the planes bear no letters.")
    else:
        directions = oriented.affine[:3, :3] / np.asarray(oriented.spacing)
        tilt = float(np.degrees(np.arccos(np.clip(np.diag(directions).min(), -1.0, 1.0))))
        if tilt > _TILT_DEGREES:
            notes.append(f"The planes follow the scan's own axes, which are up to {tilt:.0f}° off the patient's.")
    return notes
