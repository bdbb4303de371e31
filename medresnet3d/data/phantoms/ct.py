"""Phantom chest CT with known nodules, and with the vessels, airways, bumps and scars that are mistaken for them.

Nothing here is anatomy of a person. Shapes, textures and values are those that matter to a network that has to tell a
nodule from a vessel by its shape: partial volume, correlated noise, trees that taper by Murray's law, bronchi with a
wall, and structures of the same size and the same HU in both classes. Every nodule's centre, volume and diameter are
known from its formula, not measured in the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import nibabel
import numpy as np
import numpy.typing as npt
from nibabel import orientations
from scipy.spatial.transform import Rotation

from medresnet3d.data.phantoms.canvas import Canvas, Shape3, Spacing3, scanner_noise
from medresnet3d.data.phantoms.findings import Findings
from medresnet3d.data.phantoms.lung_trees import inside_windpipe, lung_trees, paint_airways, paint_vessels, windpipe
from medresnet3d.data.phantoms.nodule_cubes import CUBE_KINDS, DISTRACTORS, nodule_cube
from medresnet3d.data.phantoms.nodule_shapes import KINDS, MARGINS
from medresnet3d.data.phantoms.thorax import TRACHEA, lung_labels, make_thorax, paint_body, paint_lungs
from medresnet3d.errors import ConfigError

__all__ = [
    "CUBE_KINDS",
    "DISTRACTORS",
    "KINDS",
    "MARGINS",
    "Candidate",
    "ChestPhantom",
    "Nodule",
    "chest_phantom",
    "lps",
    "nodule_cube",
]

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Nodule:
    """What is known about a nodule.

    Args:
        number: its value in the nodule mask, from 1.
        centre: (x, y, z) in mm, RAS+.
        diameter_mm: diameter of the ball of equal volume.
        volume_mm3: volume by the formula of the shape.
        kind: ``"solid"`` or ``"ground_glass"``.
        margin: ``"smooth"`` or ``"spiculated"``.
        place: ``"free"``, ``"vessel"`` (on a vessel) or ``"pleura"`` (on the pleura).
        hu: value in HU that it was painted with.
    """

    number: int
    centre: Point
    diameter_mm: float
    volume_mm3: float
    kind: str
    margin: str
    place: str
    hu: float

    @property
    def centre_lps(self) -> Point:
        """The centre as DICOM and ITK give it, in mm, LPS+."""
        return lps(self.centre)


@dataclass(frozen=True)
class Candidate:
    """A point where a detector would have looked twice.

    Args:
        position: (x, y, z) in mm, RAS+; about a millimetre beside the middle of the structure.
        is_nodule: whether it is one.
        kind: ``"nodule"``, ``"vessel"``, ``"airway"``, ``"pleura"`` or ``"scar"``.
        nodule: number of the nodule, 0 for none.
    """

    position: Point
    is_nodule: bool
    kind: str
    nodule: int = 0

    @property
    def position_lps(self) -> Point:
        """The position as DICOM and ITK give it, in mm, LPS+."""
        return lps(self.position)


@dataclass(frozen=True)
class ChestPhantom:
    """A phantom chest CT and everything that is known about it.

    Args:
        array: (i, j, k) int16 in HU.
        affine: (4, 4), voxel indices to mm in RAS+.
        nodules: the nodules.
        candidates: the nodules and as many other structures as were asked for, shuffled.
        lung_mask: (i, j, k) uint8 with LUNA16's codes: 3 left lung, 4 right lung, 5 trachea.
        nodule_mask: (i, j, k) uint8 with each nodule's number.
    """

    array: npt.NDArray[np.int16]
    affine: npt.NDArray[np.float64]
    nodules: tuple[Nodule, ...]
    candidates: tuple[Candidate, ...]
    lung_mask: npt.NDArray[np.uint8]
    nodule_mask: npt.NDArray[np.uint8]

    def index_of(self, point: Point) -> tuple[int, int, int]:
        """The voxel (i, j, k) nearest to a point in mm, RAS+."""
        i, j, k = np.rint(nibabel.affines.apply_affine(np.linalg.inv(self.affine), point)).astype(int).tolist()
        return i, j, k


def lps(point: Point) -> Point:
    """Turn a point in mm from RAS+ to LPS+, or back."""
    return (-point[0], -point[1], point[2])


def chest_phantom(
    seed: int | Sequence[int],
    shape: Shape3 = (160, 128, 60),
    spacing: Spacing3 = (1.25, 1.25, 2.0),
    *,
    nodules: int = 6,
    distractors: int = 8,
    diameters_mm: tuple[float, float] = (7.0, 20.0),
    kinds: Sequence[str] = KINDS,
    margins: Sequence[str] = MARGINS,
    orientation: str = "LPS",
    centre: Point = (0.0, 0.0, 0.0),
    rotation_degrees: Point = (0.0, 0.0, 0.0),
) -> ChestPhantom:
    """Make a small chest CT whose thorax fills the volume.

    The anatomy depends on the seed alone: with other nodules, or none, it stays the same.

    Args:
        seed: of the patient; the same seed gives the same scan.
        shape: voxels across (right-left), from back to front, and up.
        spacing: voxel size in mm along the same directions.
        nodules: how many nodules.
        distractors: how many candidates that are none.
        diameters_mm: smallest and largest nodule (diameter of the ball of equal volume).
        kinds: which of ``"solid"`` and ``"ground_glass"`` to draw from.
        margins: which of ``"smooth"`` and ``"spiculated"`` to draw from.
        orientation: where i, j, k point to; ``"LPS"`` is the order of CT scanners, ``"RAS"`` the flipped one.
        centre: middle of the volume in mm, RAS+.
        rotation_degrees: turn of the patient about x, y, z in the scanner, which makes the affine oblique.

    Raises:
        ConfigError: if a kind, margin or orientation is unknown, or the volume has no room for the nodules.

    Example:
        >>> phantom = chest_phantom(0, nodules=2)
        >>> nodule = phantom.nodules[0]
        >>> bool(phantom.nodule_mask[phantom.index_of(nodule.centre)] == nodule.number)
        True
    """
    _check_choices(kinds, margins, orientation)
    anatomy, findings_rng, noise = np.random.default_rng(seed).spawn(3)
    canvas = Canvas(shape, spacing)
    thorax = make_thorax(anatomy, canvas.half_mm)
    paint_body(canvas, anatomy, thorax)
    depth = paint_lungs(canvas, anatomy, thorax)
    labels = lung_labels(canvas, depth)
    vessels, airways = lung_trees(anatomy, thorax)
    pipe = windpipe(thorax)
    for tree in vessels:
        paint_vessels(canvas, tree, float(anatomy.uniform(20, 60)))
    for tree in (pipe, *airways):
        paint_airways(canvas, tree)
    labels[inside_windpipe(canvas, pipe) & (labels == 0)] = TRACHEA

    findings = Findings(canvas, thorax, findings_rng, vessels, airways)
    findings.add_distractors(distractors)
    findings.add_nodules(nodules, diameters_mm, kinds, margins)
    canvas.hu += np.float32(noise.uniform(12, 28)) * scanner_noise(noise, shape, 0.6)
    array = np.rint(canvas.hu.clip(-1024, 3071)).astype(np.int16)
    return _place(array, labels, findings, canvas, orientation, centre, rotation_degrees)


def _check_choices(kinds: Sequence[str], margins: Sequence[str], orientation: str) -> None:
    """Refuse names that mean nothing."""
    for name, given, known in (("kinds", kinds, KINDS), ("margins", margins, MARGINS)):
        unknown = [word for word in given if word not in known]
        if unknown or not given:
            raise ConfigError(f"chest_phantom: {name}={list(given)} is not a choice from {', '.join(known)}.")
    if sorted("RAS".find(letter) + "LPI".find(letter) + 1 for letter in orientation) != [0, 1, 2]:
        raise ConfigError(f"chest_phantom: orientation={orientation!r}; give three letters such as LPS or RAS.")


def _place(
    array: npt.NDArray[np.int16],
    labels: npt.NDArray[np.uint8],
    findings: Findings,
    canvas: Canvas,
    orientation: str,
    centre: Point,
    rotation_degrees: Point,
) -> ChestPhantom:
    """Put a painted chest into the scanner: order and direction of the axes, offset and rotation."""
    rotation = Rotation.from_euler("xyz", rotation_degrees, degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = rotation * canvas.spacing
    affine[:3, 3] = np.array(centre) - affine[:3, :3] @ ((np.array(canvas.shape) - 1) / 2)
    turn = orientations.ornt_transform(orientations.axcodes2ornt("RAS"), orientations.axcodes2ornt(orientation))

    def point(place: npt.NDArray) -> Point:
        x, y, z = (rotation @ place + centre).tolist()
        return x, y, z

    def oriented(volume: npt.NDArray) -> npt.NDArray:
        return np.ascontiguousarray(orientations.apply_orientation(volume, turn))

    return ChestPhantom(
        array=oriented(array),
        affine=affine @ orientations.inv_ornt_aff(turn, canvas.shape),
        nodules=tuple(Nodule(centre=point(middle), **known) for middle, known in findings.nodules),
        candidates=tuple(Candidate(position=point(middle), **known) for middle, known in findings.shuffled()),
        lung_mask=oriented(labels),
        nodule_mask=oriented(findings.mask),
    )
