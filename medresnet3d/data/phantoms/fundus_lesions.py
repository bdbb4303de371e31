"""Phantom fundus photographs with exudates and their mimics, in the official layouts of e-ophtha, HEI-MED and IDRiD.

Drawn, not simulated: a lit disc on black, an optic disc, vessels, and bright spots. Spots that lie together in a
cluster are exudates; the same spots strewn over the whole retina are drusen, which are none. So what tells them apart
is not how a spot looks but how many are near it.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medresnet3d.data.phantoms.cohorts import as_phantoms
from medresnet3d.data.preparation.mimics import write_picture
from medresnet3d.data.preparation.prepare import prepare
from medresnet3d.errors import ConfigError
from medresnet3d.io.atomic import atomic_path, atomic_write_text

KINDS = ("healthy", "drusen", "exudates", "both")
RETINA, DISC_COLOUR, VESSEL, SPOT = (
    np.array(colour, dtype=float) for colour in ((190, 90, 40), (245, 200, 130), (120, 40, 25), (250, 225, 130))
)
Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class FundusPhantom:
    """One phantom photograph.

    Attributes:
        picture: (rows, columns, 3), uint8 RGB.
        exudates: mask (rows, columns), 0 or 1.
        optic_disc: mask (rows, columns), 0 or 1.
    """

    picture: NDArray[np.uint8]
    exudates: NDArray[np.uint8]
    optic_disc: NDArray[np.uint8]


def fundus_photograph(seed: int | Sequence[int], kind: str = "exudates", size: Pair = (96, 128)) -> FundusPhantom:
    """Draw a photograph of an eye.

    Args:
        seed: the same seed draws the same picture.
        kind: ``healthy``, ``drusen`` (bright spots, strewn), ``exudates`` (as many in a cluster) or ``both``, a small
            cluster among strewn spots.
        size: rows and columns.

    Raises:
        ConfigError: for another kind.
    """
    if kind not in KINDS:
        raise ConfigError(f"There is no fundus phantom of kind {kind!r}; use {', '.join(KINDS)}.")
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(size)
    radius = 0.47 * max(size) * rng.uniform(0.9, 1.0)
    middle = np.array(size) / 2 + rng.uniform(-0.02, 0.02, 2) * min(size)
    reach = np.hypot(rows - middle[0], columns - middle[1]) / radius
    shade = 1.1 - 0.5 * reach**2 + 0.08 * _clouds(rng, size, radius / 3)
    picture = shade[..., None] * RETINA * rng.uniform(0.75, 1.1) * (1 + rng.uniform(-0.06, 0.06, 3))
    side = rng.choice([-1, 1])
    optic = middle + radius * np.array([rng.uniform(-0.1, 0.1), side * 0.5])
    picture = _vessels(rng, picture, optic, radius, side)
    optic_disc = np.hypot(rows - optic[0], (columns - optic[1]) * 1.1) < 0.14 * radius
    picture = _painted(picture, optic_disc, DISC_COLOUR, 0.02 * radius)
    strewn, clustered = _places(rng, kind, middle, radius, optic)
    masks = [np.zeros(size, bool), np.zeros(size, bool)]
    for mask, places in zip(masks, (strewn, clustered), strict=True):
        for row, column in places:
            mask |= np.hypot(rows - row, columns - column) < rng.uniform(0.018, 0.035) * radius
        mask &= (reach < 0.9) & ~optic_disc
    spots = masks[0] | masks[1]
    picture = _painted(picture, spots, SPOT * rng.uniform(0.85, 1.0), 0.006 * radius)
    picture += rng.normal(0, 3, picture.shape)
    picture[reach > 1] = rng.uniform(0, 4, (int((reach > 1).sum()), 3))
    drawn = np.rint(picture.clip(0, 255)).astype(np.uint8)
    return FundusPhantom(drawn, masks[1].astype(np.uint8), optic_disc.astype(np.uint8))


def _clouds(rng: np.random.Generator, size: Pair, scale: float) -> NDArray[np.float64]:
    values = ndimage.gaussian_filter(rng.normal(size=size), scale, mode="reflect")
    return np.asarray(values / (values.std() + 1e-12))


def _painted(
    picture: NDArray[np.float64], mask: NDArray[np.bool_], colour: NDArray[np.float64], blur: float
) -> NDArray[np.float64]:
    weight = ndimage.gaussian_filter(mask.astype(float), blur)[..., None]
    return np.asarray(picture + weight * (colour - picture))


def _vessels(
    rng: np.random.Generator, picture: NDArray[np.float64], optic: NDArray[np.float64], radius: float, side: int
) -> NDArray[np.float64]:
    """Four arcs from the optic disc around the macula."""
    rows, columns = np.indices(picture.shape[:2])
    for upward, bend in ((-1, 0.5), (1, 0.5), (-1, 0.9), (1, 0.9)):
        along = (optic[1] - columns) * side / radius
        course = optic[0] + upward * bend * radius * np.sqrt(np.maximum(along, 0)) * rng.uniform(0.6, 0.9)
        vessel = (np.abs(rows - course) < rng.uniform(0.008, 0.016) * radius + 0.4) & (along > 0)
        picture = _painted(picture, vessel, VESSEL, 0.4)
    return picture


def _places(
    rng: np.random.Generator, kind: str, middle: NDArray[np.float64], radius: float, optic: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Middles of strewn spots and of those in a cluster, each (N, 2)."""
    count = int(rng.integers(8, 16))
    numbers = {"healthy": (0, 0), "drusen": (count, 0), "exudates": (0, count), "both": (count, 5)}[kind]
    angles, distances = rng.uniform(0, 2 * np.pi, numbers[0]), 0.85 * np.sqrt(rng.uniform(0.03, 1, numbers[0]))
    strewn = middle + radius * (distances * np.array([np.sin(angles), np.cos(angles)])).T
    centre = middle + rng.uniform(-0.35, 0.35, 2) * radius
    if np.hypot(*(centre - optic)) < 0.35 * radius:
        centre = 2 * middle - centre
    return strewn, centre + rng.normal(0, 0.06 * radius, (numbers[1], 2))


def write_eophtha(
    folder: str | Path,
    diseased: int = 8,
    healthy: int = 8,
    seed: int = 0,
    *,
    size: Pair = (96, 128),
    task: str = "exudates",
) -> Path:
    """Write phantoms as the official unpacking of e-ophtha EX holds them, and prepare the manifest from it.

    Args:
        folder: created if absent.
        diseased: photographs with exudates.
        healthy: photographs without; every second one has drusen.
        seed: the same seed writes the same files.
        size: rows and columns of each picture.
        task: of the manifest: ``exudates``, or ``exudate_present`` for classes.

    Returns:
        the manifest, with a validation and a test part.
    """
    base = Path(folder) / "e_optha_EX"
    for index in range(diseased):
        patient, name = f"E{index:07d}", f"C{index:07d}"
        drawn = fundus_photograph([seed, index], "exudates", size)
        _write_jpeg(base / "EX" / patient / f"{name}.jpg", drawn.picture)
        write_picture(base / "Annotation_EX" / patient / f"{name}_EX.png", 255 * drawn.exudates)
    for index in range(healthy):
        drawn = fundus_photograph([seed, 10_000 + index], KINDS[index % 2], size)
        _write_jpeg(base / "healthy" / f"E{10_000 + index:07d}" / f"C{10_000 + index:07d}.jpg", drawn.picture)
    return as_phantoms(prepare("eophtha", Path(folder), Path(folder) / "manifest.json", task=task, seed=seed).path)


def write_hei_med(
    folder: str | Path,
    diseased: int = 8,
    healthy: int = 8,
    seed: int = 0,
    *,
    size: Pair = (96, 128),
    task: str = "edema",
) -> Path:
    """Write phantoms as the official unpacking of HEI-MED holds them, and prepare the manifest from it.

    Arguments as :func:`write_eophtha`; ``task`` is ``edema`` for classes, or ``exudates``.
    """
    base = Path(folder) / "DMED"
    kinds = ["exudates"] * diseased + [KINDS[index % 2] for index in range(healthy)]
    for index, kind in enumerate(kinds):
        name = f"({index:08d})"
        drawn = fundus_photograph([seed, index], kind, size)
        _write_jpeg(base / f"{name}.jpg", drawn.picture)
        atomic_write_text(base / f"{name}.meta", f"~ImageName~{name}\n~PatientGender~F\n~QualityValue~0.8\n")
        if kind != "exudates":
            continue
        atomic_write_text(base / f"{name}.GND", "GNDVERSION2.0\n1\nExudate 1\n0\n0\n1\n(none)\n")
        header = np.array([0, size[1], size[0]], "<i4")
        with atomic_path(base / f"{name}.map.gz") as temporary:
            pixels = np.concatenate([header, drawn.exudates.astype("<i4").ravel()])
            temporary.write_bytes(gzip.compress(pixels.tobytes(), mtime=0))
    return as_phantoms(prepare("hei_med", Path(folder), Path(folder) / "manifest.json", task=task, seed=seed).path)


def write_idrid_lesions(
    folder: str | Path, training: int = 8, test: int = 4, seed: int = 0, *, size: Pair = (96, 128)
) -> Path:
    """Write phantoms as part A of IDRiD holds them, with masks of hard exudates and optic disc, and the manifest.

    Args:
        folder: created if absent.
        training: photographs of the training part.
        test: photographs of the test part.
        seed: the same seed writes the same files.
        size: rows and columns of each picture.

    Returns:
        the manifest, as ``medresnet3d data prepare idrid --task lesions`` writes it.
    """
    base = Path(folder) / "A. Segmentation"
    parts = ["a. Training Set"] * training + ["b. Testing Set"] * test
    for number, part in enumerate(parts, 1):
        name = f"IDRiD_{number:02d}"
        drawn = fundus_photograph([seed, number], "exudates", size)
        _write_jpeg(base / "1. Original Images" / part / f"{name}.jpg", drawn.picture)
        for kind, ending, mask in (
            ("3. Hard Exudates", "EX", drawn.exudates),
            ("5. Optic Disc", "OD", drawn.optic_disc),
        ):
            red = np.zeros((*size, 3), np.uint8)
            red[..., 0] = 255 * mask
            write_picture(base / "2. All Segmentation Groundtruths" / part / kind / f"{name}_{ending}.tif", red)
    return prepare("idrid", Path(folder), Path(folder) / "manifest.json", task="lesions", seed=seed).path


def _write_jpeg(path: Path, picture: NDArray[np.uint8]) -> None:
    from PIL import Image

    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary, quality=95)
