from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from medresnet3d.data.phantoms.pictures import mammogram
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.transforms.load import LoadVolumed
from medresnet3d.transforms.mammography import (
    BreastOrientation,
    BreastOrientationd,
    RemoveBackground,
    RemoveBackgroundd,
    RemovePectoral,
    breast_mask,
    breast_side,
    pectoral_mask,
)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("seed", range(3))
def test_breast_side_and_muscle_are_found(side: str, seed: int) -> None:
    truth = mammogram(side=side, seed=seed)
    film = truth.film[0]
    assert breast_side(film) == side
    assert dice(breast_mask(film), truth.breast) > 0.97
    muscle = pectoral_mask(film) if side == "left" else pectoral_mask(film[::-1])[::-1]
    assert dice(muscle, truth.muscle) > 0.93


def test_without_a_muscle_none_is_found() -> None:
    assert not any(pectoral_mask(mammogram(muscle=False, seed=seed).film[0]).any() for seed in range(3))


def test_markers_and_air_go_and_tissue_stays() -> None:
    truth = mammogram(seed=1)
    result = RemoveBackground()(truth.film)
    assert result.dtype == np.uint16 and (result[0][~breast_mask(truth.film[0])] == truth.film.min()).all()
    assert result.max() < 3400 < truth.film.max()  # the marker
    inside = truth.breast & breast_mask(truth.film[0])
    np.testing.assert_array_equal(result[0][inside], truth.film[0][inside])
    assert (RemoveBackgroundd("image", value=7)({"image": truth.film})["image"] == 7).any()


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_muscle_is_removed_at_either_side(side: str) -> None:
    truth = mammogram(side=side, seed=2)
    result = RemovePectoral()(torch.as_tensor(truth.film.astype(np.float32))[..., None])
    assert result.shape == (*truth.film.shape, 1)
    assert (result[0, ..., 0][torch.as_tensor(truth.muscle)] == result.min()).float().mean() > 0.93
    kept = truth.breast & ~truth.muscle
    assert (result[0, ..., 0].numpy()[kept] == truth.film[0][kept]).mean() > 0.95


@pytest.mark.parametrize("side", ["left", "right"])
def test_every_film_is_turned_to_one_side_and_back(side: str) -> None:
    truth = mammogram(side=side, seed=3)
    image = MetaTensor(torch.as_tensor(truth.film.astype(np.float32)))
    item = {"image": image, "mask": MetaTensor(torch.as_tensor(truth.muscle).float()[None])}
    turn = BreastOrientationd(["image", "mask"])
    turned = turn(item)
    assert breast_side(turned["image"][0].numpy()) == "left"
    expected = truth.muscle if side == "left" else truth.muscle[::-1]
    np.testing.assert_array_equal(turned["mask"][0].numpy() > 0, expected)
    back = Compose([turn]).inverse(turned)
    for key in item:
        assert torch.equal(back[key].as_tensor(), item[key].as_tensor())
        assert torch.equal(back[key].affine, item[key].affine)


def test_the_array_version_turns_back_too() -> None:
    image = MetaTensor(torch.as_tensor(mammogram(side="left").film.astype(np.float32)))
    turn = BreastOrientation("right")
    turned = turn(image)
    assert breast_side(turned[0].numpy()) == "right"
    assert not image.applied_operations
    again = turn(turned.clone())
    assert torch.equal(again.as_tensor(), turned.as_tensor())
    assert torch.equal(turn.inverse(again).as_tensor(), turned.as_tensor())  # nothing was mirrored the second time
    assert torch.equal(turn.inverse(turned).as_tensor(), image.as_tensor())
    assert torch.equal(turn(torch.as_tensor(image.numpy())), turn(image).as_tensor())


def test_bad_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="no side 'top'"):
        BreastOrientation("top")
    with pytest.raises(DataError, match="one value only"):
        RemoveBackground()(np.zeros((1, 20, 20)))
    with pytest.raises(DataError, match=r"a mammogram is \(1, i, j\)"):
        RemoveBackground()(np.zeros((3, 20, 20)))


@pytest.mark.realdata
def test_real_films(realdata: Path) -> None:
    """mini-MIAS: all are oblique views; the chest wall is found on most, and a plausible muscle on most."""
    items = json.loads((realdata / "mammography" / "manifest.json").read_text())["training"][:30]
    shares = []
    for item in items:
        film = LoadVolumed("image")({"image": str(realdata / "mammography" / item["image"])})["image"][:1]
        turned = BreastOrientation()(film)
        breast = breast_mask(turned[0, ..., 0].numpy())
        assert 0.05 < breast.mean() < 0.9
        shares.append(pectoral_mask(turned[0, ..., 0].numpy()).sum() / breast.sum())
    assert np.mean(np.array(shares) > 0.01) > 0.8 and max(shares) < 0.6
