"""Phantom films: what tells the classes, what does not, and their official layouts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from scipy import ndimage

from medresnet3d.data import items, load_manifest
from medresnet3d.data.phantoms.mammography import breast_film, write_cbis_ddsm, write_inbreast, write_mini_mias
from medresnet3d.errors import ConfigError
from medresnet3d.transforms.mammography import breast_mask, breast_side

SIZE = (64, 48)


def test_the_same_seed_draws_the_same_film_with_bright_tissue_at_its_side() -> None:
    film = breast_film(3, SIZE, malignant=True, side="right")
    again = breast_film(3, SIZE, malignant=True, side="right")
    assert np.array_equal(film.pixels, again.pixels)
    assert film.pixels.dtype == np.uint16 and 1000 < film.pixels.max() < 4096
    assert film.pixels[film.breast].mean() > 5 * film.pixels[~film.breast].mean()
    assert breast_side(film.pixels.T) == "right" and film.mass.any()
    assert not breast_film(3, SIZE).mass.any()


def test_the_breast_is_found_by_the_transform() -> None:
    film = breast_film(1, (128, 96), malignant=False)
    found = breast_mask(film.pixels.T).T
    assert (found & film.breast).sum() / (found | film.breast).sum() > 0.95


def fine_detail(malignant: bool, difficulty: float) -> np.ndarray:
    """Mean absolute detail around the mass, of each film."""
    values = []
    for seed in range(16):
        film = breast_film([seed, int(malignant)], SIZE, malignant=malignant, difficulty=difficulty)
        near = ndimage.binary_dilation(film.mass, iterations=6) & ~film.mass & film.breast
        pixels = film.pixels.astype(float)
        values.append(np.abs(pixels - ndimage.gaussian_filter(pixels, 1.5))[near].mean())
    return np.array(values)


def test_spicules_tell_a_malignant_mass_the_less_the_harder() -> None:
    def gap(difficulty: float) -> float:
        one, other = fine_detail(True, difficulty), fine_detail(False, difficulty)
        return float((one.mean() - other.mean()) / np.sqrt((one.var() + other.var()) / 2))

    easy, middle, none = gap(0.0), gap(0.5), gap(1.0)
    assert easy > 3 and easy > middle > 0.5 and abs(none) < 0.9


def test_brightness_does_not_tell_a_mass() -> None:
    means = [
        [breast_film([seed, kind], SIZE, malignant=bool(kind), difficulty=1.0).pixels.mean() for seed in range(24)]
        for kind in (0, 1)
    ]
    assert abs(np.mean(means[0]) - np.mean(means[1])) < 3 * np.std(means[0]) / np.sqrt(12)


def test_density_is_the_share_of_bright_tissue() -> None:
    shares = []
    for density in (1, 2, 3, 4):
        films = [breast_film([seed, density], SIZE, density=density, difficulty=0.1) for seed in range(8)]
        shares.append(np.mean([(film.pixels[film.breast] > 1550).mean() for film in films]))
    assert np.all(np.diff(shares) > 0.1)


def test_cbis_ddsm_lists_each_mass_with_its_box(tmp_path: Path) -> None:
    path = write_cbis_ddsm(tmp_path, 6, 4, size=SIZE)
    manifest = load_manifest(path)
    assert list(manifest.labels) == ["benign", "malignant"]
    assert sorted(item["label"] for item in items(manifest, "test")) == [0, 0, 1, 1]
    entry = json.loads(path.read_text())["training"][0]
    film = breast_film(
        [0, 1],
        SIZE,
        malignant=entry["label"] == "malignant",
        density=entry["density"],
        side=entry["side"].lower(),
        difficulty=0.3,
    )
    assert np.array_equal(dcmread(tmp_path / entry["image"]).pixel_array, 16 * film.pixels)
    x0, y0, x1, y1 = entry["roi"]
    assert film.mass[y0:y1, x0:x1].sum() == film.mass.sum()
    assert film.mass[:, [x0, x1 - 1]].any(0).all() and film.mass[[y0, y1 - 1]].any(1).all()


def test_inbreast_keeps_a_woman_in_one_section(tmp_path: Path) -> None:
    manifest = load_manifest(write_inbreast(tmp_path, 12, size=SIZE, task="density"))
    women = [{item["patient"] for item in items(manifest, part)} for part in ("training", "validation", "test")]
    assert sum(map(len, women)) == 12 == len(set.union(*women))
    assert list(manifest.labels) == ["1", "2", "3", "4"]
    header = dcmread(items(manifest, "test")[0]["image"], stop_before_pixels=True)
    assert (header.BitsStored, header.WindowWidth) == (12, 4096)


def test_mini_mias_has_a_mass_in_one_breast_and_its_place_from_the_bottom(tmp_path: Path) -> None:
    path = write_mini_mias(tmp_path, 6, size=64)
    lesions = [entry for part in json.loads(path.read_text()).values() if isinstance(part, list) for entry in part]
    lesions = [entry for entry in lesions if isinstance(entry, dict)]
    assert len(lesions) == 6
    first = next(entry for entry in lesions if entry["image"].endswith("mdb001.pgm"))
    malignant = first["label"] == "malignant"
    film = breast_film([0, 1], (64, 64), malignant=malignant, density=1, side="right", difficulty=0.3)
    rows, columns = np.nonzero(film.mass)
    x0, y0, x1, y1 = first["roi"]
    assert abs((x0 + x1) / 2 - columns.mean()) < 2 and abs((y0 + y1) / 2 - rows.mean()) < 2


def test_impossible_wishes() -> None:
    with pytest.raises(ConfigError, match="difficulty is 2"):
        breast_film(0, difficulty=2)
    with pytest.raises(ConfigError, match="density 5"):
        breast_film(0, density=5)
