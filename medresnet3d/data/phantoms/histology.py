"""Phantom sections of breast tumours at four magnifications, in the official layout of BreaKHis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import KDTree

from medresnet3d.data.collections.breakhis import MAGNIFICATIONS, TYPES
from medresnet3d.data.preparation.mimics import write_picture, write_table
from medresnet3d.data.preparation.prepare import prepare
from medresnet3d.errors import ConfigError

Array = npt.NDArray[np.float64]

WIDTH_UM = {"40": 1600.0, "100": 640.0, "200": 320.0, "400": 160.0}
"""Width of what an image shows."""
HAEMATOXYLIN, EOSIN = np.array([0.65, 0.70, 0.29]), np.array([0.22, 0.80, 0.56])
MOST_NUCLEI = 600


@dataclass(frozen=True)
class Tissue:
    """How a tumour type looks; lengths in micrometres.

    Attributes:
        spacing: between glands, nests or bands.
        lumen: radius (half width) of the empty middle.
        wall: radius (half width) of the epithelium around it.
        bands: leaves, fingers or files instead of glands or nests.
        stretch: of the glands along one direction.
        ground: amount of eosin between them; mucin has little.
        nucleus: radius of the nuclei.
    """

    spacing: float
    lumen: float
    wall: float
    bands: bool = False
    stretch: float = 1.0
    ground: float = 0.8
    nucleus: float = 4.0


LOOKS = {
    "A": Tissue(70, 8, 24),
    "F": Tissue(190, 14, 34, stretch=2.5),
    "PT": Tissue(320, 30, 48, bands=True, ground=0.6),
    "TA": Tissue(100, 26, 40),
    "DC": Tissue(170, 0, 72, nucleus=7.0),
    "LC": Tissue(75, 0, 9, bands=True, nucleus=6.5),
    "MC": Tissue(210, 0, 42, ground=0.12, nucleus=6.5),
    "PC": Tissue(130, 6, 36, bands=True, ground=0.25, nucleus=7.0),
}


def section(
    seed: int | Sequence[int],
    kind: str,
    magnification: str,
    size: tuple[int, int] = (96, 144),
    *,
    person: int | Sequence[int] | None = None,
    blur: float = 0.0,
) -> npt.NDArray[np.uint8]:
    """Draw a section of a tumour, stained with haematoxylin and eosin.

    Low magnifications show how glands, nests and bands lie, high ones the size of the nuclei, which is larger and
    varies more in malignant tumours. Strength and tint of the stain are a person's own and say nothing.

    Args:
        seed: of tissue and noise.
        kind: a key of :data:`medresnet3d.data.collections.breakhis.TYPES`.
        magnification: 40, 100, 200 or 400, as text.
        size: rows and columns.
        person: seed of the stain; by default ``seed``.
        blur: how far out of focus, standard deviation as a share of the width.

    Returns:
        (rows, columns, 3), uint8 RGB.

    Raises:
        ConfigError: for an unknown type or magnification.
    """
    if kind not in LOOKS or magnification not in WIDTH_UM:
        raise ConfigError(
            f"section: there is no {kind!r} at {magnification!r}; types are {', '.join(LOOKS)}, "
            f"magnifications {', '.join(WIDTH_UM)}."
        )
    rng, look = np.random.default_rng(seed), LOOKS[kind]
    pixel = WIDTH_UM[magnification] / size[1]
    distance = _distance(rng, look, size, pixel)
    epithelium = _step((look.wall - distance) / pixel) * _step((distance - look.lumen) / pixel)
    lumen = _step((look.lumen - distance) / pixel) if look.lumen else np.zeros(size)
    nuclei = _nuclei(rng, look, epithelium, pixel, malignant=list(TYPES).index(kind) >= 4)
    eosin = (look.ground + 0.12 * _noise(rng, size, 0.02 * size[1])) * (1 - epithelium) + 0.55 * epithelium
    amounts = np.stack([nuclei, eosin.clip(0.02) * (1 - lumen) + 0.02 * lumen])
    if blur:
        amounts = ndimage.gaussian_filter(amounts, (0, blur * size[1], blur * size[1]))
    return _light(rng, np.random.default_rng(seed if person is None else person), amounts)


def _step(depth: Array) -> Array:
    """Share of a pixel that lies inside an edge, from the depth in pixels."""
    return np.asarray(np.clip(0.5 + depth, 0, 1))


def _noise(rng: np.random.Generator, size: tuple[int, int], scale: float) -> Array:
    values = ndimage.gaussian_filter(rng.normal(size=size), scale, mode="reflect")
    return np.asarray(values / (values.std() + 1e-12))


def _distance(rng: np.random.Generator, look: Tissue, size: tuple[int, int], pixel: float) -> Array:
    """Distance of each pixel to the middle of its gland, nest or band, in micrometres, with irregular outlines."""
    rows, columns = (axis * pixel for axis in np.indices(size))
    turn, wobble = rng.uniform(0, np.pi), 0.12 * look.spacing
    y = rows * np.cos(turn) - columns * np.sin(turn) + wobble * _noise(rng, size, look.spacing / pixel / 3)
    x = rows * np.sin(turn) + columns * np.cos(turn) + wobble * _noise(rng, size, look.spacing / pixel / 3)
    if look.bands:
        return np.asarray(np.abs((y + rng.uniform(0, look.spacing)) % look.spacing - look.spacing / 2))
    reach = np.array([[y.min(), y.max()], [x.min() / look.stretch, x.max() / look.stretch]])
    grid = np.meshgrid(*(np.arange(low - look.spacing, high + look.spacing, look.spacing) for low, high in reach))
    centres = np.stack([axis.ravel() for axis in grid], 1)
    centres += rng.uniform(-0.3, 0.3, centres.shape) * look.spacing
    found, _ = KDTree(centres).query(np.stack([y.ravel(), x.ravel() / look.stretch], 1))
    return np.asarray(found).reshape(size)


def _nuclei(rng: np.random.Generator, look: Tissue, epithelium: Array, pixel: float, malignant: bool) -> Array:
    """Amount of haematoxylin: round nuclei in the epithelium, small ones here and there between."""
    density = (0.9 * epithelium + 0.06) * pixel**2 / (np.pi * (1.6 * look.nucleus) ** 2)
    if density.sum() > MOST_NUCLEI:  # too small to be told apart
        return np.asarray(1.1 * density / density.max() * (0.8 + 0.2 * rng.random(density.shape)))
    amount = np.zeros(epithelium.shape)
    rows, columns = (np.asarray(axis) for axis in np.indices(epithelium.shape))
    for row, column in np.argwhere(rng.random(density.shape) < density).tolist():
        inside = rng.random() < epithelium[row, column]
        radius = (look.nucleus * rng.lognormal(0, 0.35 if malignant else 0.1) if inside else 3.0) / pixel
        reach = int(2 + 1.5 * radius)
        part = (slice(max(row - reach, 0), row + reach), slice(max(column - reach, 0), column + reach))
        away = np.hypot((rows[part] - row) * rng.uniform(0.8, 1.25), columns[part] - column)
        amount[part] = np.maximum(amount[part], rng.uniform(0.8, 1.4) * _step(radius - away))
    return amount


def _light(rng: np.random.Generator, stain: np.random.Generator, amounts: Array) -> npt.NDArray[np.uint8]:
    """Lambert and Beer, with a person's own strength and tint of each stain, and noise."""
    colours = np.stack([each * stain.uniform(0.85, 1.15, 3) for each in (HAEMATOXYLIN, EOSIN)])
    strengths = stain.uniform(0.6, 1.3, 2)
    density = np.einsum("s,sij,sc->ijc", strengths, amounts, colours)
    values = 240 * np.exp(-density) + rng.normal(0, 3, density.shape)
    return np.rint(values.clip(0, 255)).astype(np.uint8)


def write_breakhis(
    folder: str | Path,
    patients: int = 3,
    images: int = 2,
    seed: int = 0,
    *,
    size: tuple[int, int] = (64, 96),
    magnifications: Sequence[str] = MAGNIFICATIONS,
    blurred: float = 0.0,
    test: int = 1,
    task: str = "type",
    grouping: str = "set",
) -> Path:
    """Write phantom sections as the official unpacking of BreaKHis holds them, and prepare the manifest from it.

    Args:
        folder: created if absent.
        patients: of each of the eight types.
        images: of each patient at each magnification.
        seed: the same seed writes the same files.
        size: rows and columns of each image.
        magnifications: which are written.
        blurred: share of images that are out of focus.
        test: patients of each type in the test part, written as the first official division.
        task: of the manifest: ``type`` or ``malignancy``.
        grouping: of the adapter: ``set`` or ``image``.

    Returns:
        the manifest, as ``medresnet3d data prepare breakhis`` writes it.

    Raises:
        ConfigError: if no patient is left to train with.
    """
    if not 0 <= test < patients:
        raise ConfigError(f"write_breakhis: {test} of {patients} patients of a type cannot be the test part.")
    folder = Path(folder)
    rng = np.random.default_rng(seed)
    lines = []
    for number, (kind, name) in enumerate(TYPES.items()):
        nature, word = ("B", "benign") if number < 4 else ("M", "malignant")
        for patient in range(patients):
            slide = f"14-{10_000 + 100 * number + patient}"
            place = (
                f"BreaKHis_v1/histology_slides/breast/{word}/SOB/{name.replace(' ', '_')}/SOB_{nature}_{kind}_{slide}"
            )
            for magnification in magnifications:
                for image in range(1, images + 1):
                    file = f"SOB_{nature}_{kind}-{slide}-{magnification}-{image:03d}.png"
                    own, blur = [seed, number, patient, int(magnification), image], 0.03 * (rng.random() < blurred)
                    drawn = section(own, kind, magnification, size, person=[seed, number, patient], blur=blur)
                    write_picture(folder / place / f"{magnification}X" / file, drawn)
                    lines.append((1, magnification, "test" if patient < test else "train", f"{place}/{file}"))
    write_table(folder / "Folds.csv", [("fold", "mag", "grp", "filename"), *lines])
    options = {"grouping": grouping, "official_fold": "1" if test else "0"}
    return prepare("breakhis", folder, folder / "manifest.json", task=task, seed=seed, options=options).path
