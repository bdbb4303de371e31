"""Slices through a volume as pictures: orientation, aspect, grey window, label and heat overlays."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medresnet3d.errors import ConfigError, GeometryError
from medresnet3d.reports.blocks import LegendEntry, Mark, Plane, PlaneView
from medresnet3d.reports.marks import mark_legend, rings_on

#: Okabe and Ito's colours (https://jfly.uni-koeln.de/color/), told apart with every common colour vision deficiency;
#: then, for scans with many structures, colours of the web-safe cube that lie farthest from all before (CIELAB).
PALETTE = (
    *("#56B4E9", "#E69F00", "#CC79A7", "#009E73", "#F0E442", "#D55E00", "#0072B2"),
    *("#CC00FF", "#00FF00", "#0066FF", "#FF0066", "#00FF99", "#FFCC99", "#339900"),
    *("#CC0099", "#00FFFF", "#996633", "#CCFF99", "#FF0000", "#9966CC", "#999933"),
)
#: Grey windows for CT as (lowest, highest) Hounsfield unit.
WINDOWS: dict[str, tuple[float, float]] = {
    "lung": (-1350.0, 150.0),
    "mediastinum": (-160.0, 240.0),
    "soft tissue": (-125.0, 225.0),
    "abdomen": (-125.0, 225.0),
    "bone": (-450.0, 1050.0),
    "brain": (0.0, 80.0),
}
HEAT_LAYER = "attention"
_HEAT_COLOR = "#FCA50A"
_HEAT_START = 0.15
_FILL_ALPHA, _EDGE_ALPHA, _HEAT_ALPHA = 95, 230, 185
_MOST_OUTLINE = 0.3
_ENOUGH_VOXELS = 250_000
#: Name, cut axis and sides (across, up) of each plane.
PLANES = (("axial", 2, (0, 1)), ("coronal", 1, (0, 2)), ("sagittal", 0, (1, 2)))
_LETTERS = {"axial": ("R", "L", "A", "P"), "coronal": ("R", "L", "S", "I"), "sagittal": ("A", "P", "S", "I")}


@dataclass(frozen=True)
class Oriented:
    """Arrays turned to RAS+ order for display, with their spacing in millimetres.

    Attributes:
        arrays: the arrays by name, all of one shape.
        spacing: voxel edge lengths along the turned axes, mm.
        affine: affine of the turned arrays; None when the orientation is unknown.
    """

    arrays: dict[str, NDArray[Any]]
    spacing: tuple[float, float, float]
    affine: NDArray[np.float64] | None


def orient(
    arrays: Mapping[str, NDArray[Any]], affine: Any | None = None, spacing: Sequence[float] | None = None
) -> Oriented:
    """Turn arrays (i, j, k) so that their axes point right, forward and up as nearly as the grid allows.

    Args:
        arrays: arrays of one shape; a leading axis of length 1 (channel) is dropped, and a last axis of length 3 holds
            colour.
        affine: 4 x 4 affine from (i, j, k) to RAS+ mm; None leaves the order as it is and the letters away.
        spacing: voxel edge lengths in mm along i, j, k; taken from the affine when it is given, 1 mm otherwise.

    Raises:
        GeometryError: if the arrays differ in shape or are not three-dimensional.
    """
    plain = {name: _plain(name, array) for name, array in arrays.items()}
    shapes = {name: array.shape[:3] for name, array in plain.items()}
    if len(set(shapes.values())) > 1:
        raise GeometryError(f"the picture and its overlays differ in shape: {shapes}; bring them onto one grid first.")
    if affine is None:
        return Oriented(plain, _three(spacing), None)
    affine = np.asarray(affine, dtype=np.float64)
    turn = nib.orientations.io_orientation(affine)
    if np.isnan(turn).any():
        raise GeometryError("the affine has no three independent directions, so the picture cannot be oriented.")
    shape = next(iter(shapes.values()))
    turned_affine = affine @ nib.orientations.inv_ornt_aff(turn, shape)
    turned = {name: nib.orientations.apply_orientation(array, turn) for name, array in plain.items()}
    return Oriented(turned, _three(nib.affines.voxel_sizes(turned_affine)), turned_affine)


def _plain(name: str, array: Any) -> NDArray[Any]:
    array = array.detach().cpu().numpy() if hasattr(array, "detach") else np.asarray(array)
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 and array.shape[3:] != (3,):
        raise GeometryError(f"{name} has shape {array.shape}; three axes (i, j, k) are needed for pictures in planes.")
    return array


def _three(spacing: Any | None) -> tuple[float, float, float]:
    values = [1.0, 1.0, 1.0] if spacing is None else [float(value) for value in spacing]
    values += [1.0] * (3 - len(values))
    return values[0], values[1], values[2]


def grey_window(volume: NDArray[Any], window: str | Sequence[float] | None = None) -> tuple[float, float]:
    """Give the lowest and highest value to show.

    Args:
        volume: the values to show.
        window: a name from :data:`WINDOWS`, or (lowest, highest); None takes the 1st and 99.5th percentile of what is
            not background (the value in the first corner), and the background as black; of colour in whole numbers,
            all that the data type holds.

    Raises:
        ConfigError: if the name is unknown.
    """
    if isinstance(window, str):
        if window not in WINDOWS:
            raise ConfigError(f"window {window!r} is unknown; choose one of {', '.join(WINDOWS)} or give two values.")
        return WINDOWS[window]
    if window is not None:
        return float(window[0]), float(window[1])
    if volume.ndim == 4 and np.issubdtype(volume.dtype, np.integer):
        return 0.0, float(np.iinfo(volume.dtype).max)
    step = max(1, round((volume.size / _ENOUGH_VOXELS) ** (1 / 3)))
    sample = volume[tuple(slice(None, None, step) for _ in volume.shape)]
    values = sample[np.isfinite(sample)].astype(np.float32)
    if not values.size:
        return 0.0, 1.0
    background = float(values[0])
    inside = values[values != background]
    low, high = np.percentile(inside if inside.size >= 64 else values, (1.0, 99.5))
    low = min(float(low), background)
    return low, max(float(high), low + 1e-6)


def focus(
    shape: Sequence[int],
    overlays: Sequence[NDArray[Any]] = (),
    voxel: Sequence[float] | NDArray[np.float64] | None = None,
) -> tuple[int, int, int]:
    """Choose the slice of each axis: through ``voxel``, else through the largest labelled area, else the middle.

    Args:
        shape: shape of the volume.
        overlays: label maps; the first that has a label decides.
        voxel: voxel coordinates to show.
    """
    if voxel is not None:
        centre = [int(np.clip(round(float(v)), 0, n - 1)) for v, n in zip(voxel, shape, strict=True)]
        return centre[0], centre[1], centre[2]
    marked = next((labels > 0 for labels in overlays if (labels > 0).any()), None)
    if marked is None:
        return shape[0] // 2, shape[1] // 2, shape[2] // 2
    area = [marked.sum(axis=tuple(other for other in range(3) if other != axis)) for axis in range(3)]
    return _middle_of_largest(area[0]), _middle_of_largest(area[1]), _middle_of_largest(area[2])


def _middle_of_largest(area: NDArray[Any]) -> int:
    best = np.flatnonzero(area == area.max())
    return int(best[len(best) // 2])


def _slice(array: NDArray[Any], axis: int, index: int, flip_columns: bool) -> NDArray[Any]:
    """Give a slice as rows and columns on the screen: top is anterior or superior, left is right or anterior."""
    chosen: list[Any] = [slice(None)] * array.ndim
    chosen[axis] = index
    plane = array[tuple(chosen)].swapaxes(0, 1)[::-1]
    return plane[:, ::-1] if flip_columns else plane


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def _grey(plane: NDArray[Any], window: tuple[float, float], size: tuple[int, int]) -> Image.Image:
    low, high = window
    if plane.dtype == np.uint8 and window == (0.0, 255.0):  # a photograph may be too large to compute with
        return Image.fromarray(np.ascontiguousarray(plane)).resize(size, Image.Resampling.BICUBIC)
    scaled = np.clip((np.nan_to_num(plane.astype(np.float32), nan=low) - low) / (high - low), 0.0, 1.0)
    picture = Image.fromarray((scaled * 255).astype(np.uint8), "L" if plane.ndim == 2 else "RGB")
    return picture.resize(size, Image.Resampling.BICUBIC)


def label_color(label: int) -> str:
    """Give the colour of label 1, 2, ... as ``#rrggbb``; the palette repeats after its last."""
    return PALETTE[(label - 1) % len(PALETTE)]


def _resized(plane: NDArray[Any], size: tuple[int, int]) -> NDArray[np.int32]:
    return np.asarray(Image.fromarray(plane.astype(np.int32), "I").resize(size, Image.Resampling.NEAREST))


def _edges(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    edge = np.zeros(labels.shape, dtype=bool)
    for axis in (0, 1):
        for shift in (1, -1):
            edge |= np.roll(labels, shift, axis=axis) != labels
    return edge & (labels > 0)


def _can_be_outlined(planes: Sequence[NDArray[np.int32]]) -> bool:
    """Say whether outlines leave enough visible: thin and folded structures (brain tissue) would be all outline."""
    return sum(int(_edges(one).sum()) for one in planes) < _MOST_OUTLINE * sum(int((one > 0).sum()) for one in planes)


def _label_layer(labels: NDArray[np.int32], outline: bool) -> Image.Image:
    """Colour labels: a light filling and, where asked for, a strong outline."""
    pixels = np.zeros((*labels.shape, 4), dtype=np.uint8)
    for label in np.unique(labels[labels > 0]):
        here = labels == label
        pixels[here, :3] = _rgb(label_color(int(label)))
        pixels[here, 3] = _FILL_ALPHA
    if outline:
        pixels[_edges(labels), 3] = _EDGE_ALPHA
    return Image.fromarray(pixels, "RGBA")


def _rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def _heat_layer(plane: NDArray[Any], largest: float, size: tuple[int, int]) -> Image.Image:
    from matplotlib import colormaps

    scaled = np.clip(np.nan_to_num(plane.astype(np.float32)) / max(largest, 1e-12), 0.0, 1.0)
    smooth = np.asarray(Image.fromarray(scaled, "F").resize(size, Image.Resampling.BICUBIC)).clip(0.0, 1.0)
    pixels = (colormaps["inferno"](_HEAT_START + (1 - _HEAT_START) * smooth) * 255).astype(np.uint8)
    pixels[..., 3] = (_HEAT_ALPHA * smooth).astype(np.uint8)
    return Image.fromarray(pixels, "RGBA")


def heat_colors() -> list[str]:
    """Give the colours of a heat overlay from nothing to the largest value, 256 times ``#rrggbb``."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(color) for color in colormaps["inferno"](np.linspace(_HEAT_START, 1.0, 256))]


def label_names(labels: Mapping[int, str] | Sequence[str] | None) -> dict[int, str]:
    """Give names by label number, from such a mapping or from names in order of the numbers starting with 0."""
    return {int(n): name for n, name in (labels.items() if isinstance(labels, Mapping) else enumerate(labels or ()))}


def legend(overlays: Sequence[NDArray[Any]], labels: Mapping[int, str] | Sequence[str] | None) -> list[LegendEntry]:
    """List the labels that occur in the overlays with their names and colours.

    Args:
        overlays: label maps.
        labels: names by label number, or in order of the numbers starting with 0 (background).
    """
    names = label_names(labels)
    found = sorted({int(label) for overlay in overlays for label in np.unique(overlay) if label > 0})
    return [LegendEntry(names.get(label, f"label {label}"), label_color(label)) for label in found]


def three_plane_view(
    volume: Any,
    *,
    affine: Any | None = None,
    spacing: Sequence[float] | None = None,
    layers: Mapping[str, Any] | None = None,
    heat: Any | None = None,
    labels: Mapping[int, str] | Sequence[str] | None = None,
    window: str | Sequence[float] | None = None,
    position: Sequence[float] | None = None,
    marks: Sequence[Mark] = (),
    alt: str = "image",
    longest: int = 320,
) -> PlaneView:
    """Show a volume in axial, coronal and sagittal planes with overlays that the reader can switch.

    The patient's right is at the left of the picture (radiological convention); anterior and superior are at the top.
    Axes of length 1 are not cut, so an image of one slice gives one picture.

    Args:
        volume: values (i, j, k), optionally with a leading channel of length 1, or colour (i, j, k, 3).
        affine: 4 x 4 affine to RAS+ mm; gives aspect and orientation letters.
        spacing: voxel edge lengths in mm when there is no affine.
        layers: label maps by name, e.g. ``{"prediction": ..., "truth": ...}``; the first is shown at first.
        heat: importance of every voxel (Grad-CAM, occlusion), non-negative.
        labels: names of the labels.
        window: CT window by name, or (lowest, highest).
        position: point to cut through and to mark, in RAS+ mm (in voxels when there is no affine).
        marks: places to put rings around; without `position` the planes go through the first of them.
        alt: what the pictures show, for those who cannot see them.
        longest: length of the volume's longest edge on the pictures, pixels.

    Raises:
        GeometryError: if volume and overlays differ in shape.
    """
    maps = dict(layers or {})
    extra = {} if heat is None else {HEAT_LAYER: heat}
    oriented = orient({"image": volume, **maps, **extra}, affine, spacing)
    image = oriented.arrays["image"]
    shape = image.shape[:3]
    overlays = [oriented.arrays[name] for name in maps]
    voxel = to_voxel(position, oriented.affine)
    rings = [(mark, to_voxel(mark.position, oriented.affine)) for mark in marks]
    centre = focus(shape, overlays, voxel if voxel is not None or not rings else rings[0][1])
    window = grey_window(image, window)
    scale = longest / max(n * mm for n, mm in zip(shape, oriented.spacing, strict=True))
    cuts = [
        _Cut(name, axis, sides, centre[axis], oriented, scale)
        for name, axis, sides in PLANES
        if all(shape[side] > 1 for side in sides)
    ]
    pictures: list[dict[str, bytes]] = [{} for _ in cuts]
    for name in maps:
        coloured = [_resized(cut.of(name), cut.size) for cut in cuts]
        outline = _can_be_outlined(coloured)
        for own, one in zip(pictures, coloured, strict=True):
            own[name] = _png(_label_layer(one, outline))
    if heat is not None:
        most = float(np.nanmax(oriented.arrays[HEAT_LAYER]))
        for own, cut in zip(pictures, cuts, strict=True):
            own[HEAT_LAYER] = _png(_heat_layer(cut.of(HEAT_LAYER), most, cut.size))
    planes = [_plane(cut, window, own, voxel, rings) for cut, own in zip(cuts, pictures, strict=True)]
    colors = [*legend(overlays, labels), *mark_legend(marks)]
    if heat is not None:
        colors.append(LegendEntry("speaks for the answer", _HEAT_COLOR))
    return PlaneView(planes, [*maps, *extra], colors, alt)


def to_voxel(position: Sequence[float] | None, affine: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    """Give the voxel coordinates of a point in RAS+ mm; without an affine the point is in voxels already."""
    if position is None:
        return None
    point = np.asarray(position, dtype=np.float64)
    return point if affine is None else nib.affines.apply_affine(np.linalg.inv(affine), point)


@dataclass(frozen=True)
class _Cut:
    """Where one plane is cut, and how it lies on the screen."""

    plane: str
    axis: int
    sides: tuple[int, int]
    index: int
    oriented: Oriented
    scale: float

    @property
    def known(self) -> bool:
        """Whether the orientation is known; only then is the patient's right on the left."""
        return self.oriented.affine is not None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.oriented.arrays["image"].shape[:3]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height on the screen."""
        columns, rows = (
            max(1, round(self.shape[side] * self.oriented.spacing[side] * self.scale)) for side in self.sides
        )
        return columns, rows

    @property
    def name(self) -> str:
        if self.known:
            return self.plane
        return "image" if self.shape[self.axis] == 1 else f"axes {'ijk'[self.sides[0]]}, {'ijk'[self.sides[1]]}"

    def of(self, name: str) -> NDArray[Any]:
        """Cut one of the arrays."""
        return _slice(self.oriented.arrays[name], self.axis, self.index, flip_columns=self.known)

    def place(self, voxel: NDArray[np.float64]) -> tuple[float, float]:
        """Give the place of a voxel as fractions from left and top."""
        across, up = ((float(voxel[side]) + 0.5) / self.shape[side] for side in self.sides)
        return (1.0 - across if self.known else across, 1.0 - up)


def _plane(
    cut: _Cut,
    window: tuple[float, float],
    layers: Mapping[str, bytes],
    voxel: NDArray[np.float64] | None,
    marks: Sequence[tuple[Mark, Any]],
) -> Plane:
    count = cut.shape[cut.axis]
    return Plane(
        name=cut.name,
        image=_png(_grey(cut.of("image"), window, cut.size)),
        size=cut.size,
        layers=layers,
        letters=_LETTERS[cut.plane] if cut.known else ("", "", "", ""),
        marker=None if voxel is None else cut.place(voxel),
        detail=f"slice {cut.index + 1} of {count}" if count > 1 else "",
        rings=rings_on(cut, cut.oriented.spacing, marks),
    )
