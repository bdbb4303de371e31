"""Phantom lesions: their mask, their difficulty, and their official layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medresnet3d.data import items, load_manifest
from medresnet3d.data.phantoms.dermoscopy import skin_lesion, write_isic2016, write_isic2017
from medresnet3d.errors import ConfigError


def signs(malignant: bool, difficulty: float, number: int = 40) -> np.ndarray:
    """Irregularity (perimeter squared over area) and blueness of lesions, measured with the mask."""
    found = []
    for seed in range(number):
        picture, mask = skin_lesion([seed, int(malignant)], malignant, (64, 80), difficulty=difficulty)
        inside = mask.astype(bool)
        edge = inside & ~(
            np.roll(inside, 1, 0) & np.roll(inside, -1, 0) & np.roll(inside, 1, 1) & np.roll(inside, -1, 1)
        )
        colour = picture[inside].astype(float)
        found.append([edge.sum() ** 2 / inside.sum(), (colour[:, 2] - colour[:, 0]).max()])
    return np.array(found)


def test_the_same_seed_draws_the_same_picture_and_the_lesion_is_darker_than_the_skin() -> None:
    picture, mask = skin_lesion(3, False)
    again, _ = skin_lesion(3, False)
    assert np.array_equal(picture, again) and picture.shape == (96, 128, 3) and picture.dtype == np.uint8
    assert 0.02 < mask.mean() < 0.5
    middle = slice(16, -16)
    assert picture[middle][mask[middle] == 1].mean() < picture[middle][mask[middle] == 0].mean() - 20


def test_the_signs_of_both_classes_overlap_the_more_the_harder() -> None:
    def gaps(difficulty: float) -> np.ndarray:
        one, other = signs(True, difficulty), signs(False, difficulty)
        return (one.mean(0) - other.mean(0)) / np.sqrt((one.var(0) + other.var(0)) / 2)

    easy, middle, none = gaps(0.1), gaps(0.5), gaps(1.0)
    assert (easy > 1.5).all() and (easy > middle).all() and (middle > 0.4).all()
    assert (np.abs(none) < 0.6).all()


def test_light_hairs_and_skin_say_nothing_of_the_class() -> None:
    skins = [
        [skin_lesion([seed, malignant], bool(malignant), (48, 64))[0][:6, :6].mean() for seed in range(60)]
        for malignant in (0, 1)
    ]
    assert abs(np.mean(skins[0]) - np.mean(skins[1])) < 2 * np.std(skins[0]) / np.sqrt(30)


def test_the_official_layout_is_prepared_by_the_adapter(tmp_path: Path) -> None:
    manifest = load_manifest(write_isic2016(tmp_path, 12, 6, size=(32, 40)))
    assert list(manifest.labels) == ["benign", "malignant"]
    listed = items(manifest, "training") + items(manifest, "validation")
    assert len(listed) == 12 and sorted(item["label"] for item in listed) == [0] * 6 + [1] * 6
    assert [item["label"] for item in items(manifest, "test")].count(1) == 3
    assert (tmp_path / "ISBI2016_ISIC_Part3B_Test_Data" / "ISIC_0010000_Segmentation.png").is_file()


def test_a_keratosis_has_pale_spots_that_no_other_lesion_has() -> None:
    def brightest(keratosis: bool) -> np.ndarray:
        drawn = [skin_lesion([5, n], False, (64, 80), difficulty=0.2, keratosis=keratosis) for n in range(30)]
        return np.array([np.quantile(picture[mask == 1].mean(1), 0.98) for picture, mask in drawn])

    assert brightest(True).mean() > brightest(False).mean() + 20


def test_the_layout_of_isic2017_has_three_classes_and_its_own_parts(tmp_path: Path) -> None:
    manifest = load_manifest(write_isic2017(tmp_path, 9, 3, 6, size=(32, 40)))
    assert sorted(manifest.labels) == ["melanoma", "nevus", "seborrheic keratosis"]
    for section, number in (("training", 9), ("validation", 3), ("test", 6)):
        assert sorted(item["label"] for item in items(manifest, section)) == sorted([0, 1, 2] * (number // 3))
    with pytest.raises(ConfigError, match="cannot have all of"):
        write_isic2017(tmp_path / "few", 2)


def test_impossible_wishes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="difficulty is 2"):
        skin_lesion(0, True, difficulty=2)
    with pytest.raises(ConfigError, match="have not both classes"):
        write_isic2016(tmp_path, 2, 1)
