from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import (
    Compose,
    MapTransform,
    RandAffined,
    RandFlipd,
    RandGaussianNoised,
    Randomizable,
    RandRotate90d,
)

from medresnet3d.reseeding import reseed
from medresnet3d.transforms.batched import DrawAugmentationd
from medresnet3d.transforms.colour_augmentation import RandColourMapd


def chain() -> Compose:
    moves = [RandFlipd("image", 0.5), RandRotate90d("image", 0.5), RandAffined("image", prob=0.8, rotate_range=1.0)]
    colours = RandColourMapd("image", 0.8, 0.2, 0.2, 0.2, 0.1)
    inner = Compose([RandGaussianNoised("image", 0.7, std=0.5), colours])
    return Compose([*moves, inner, DrawAugmentationd([*chain_of_moves(), colours])])


def chain_of_moves() -> list[MapTransform]:
    return [RandFlipd("image", 0.5), RandAffined("image", prob=0.8, rotate_range=1.0)]


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**32 - 1, 2**32 + 5])
def test_reseeding_draws_what_setting_the_random_state_draws(seed: int) -> None:
    image = torch.rand(3, 12, 12)
    for _ in range(2):  # with generators of its own the second time
        ours, monais = chain(), chain()
        for each in (7, seed):
            reseed(ours, each)
            monais.set_random_state(seed=each)
            for _ in range(3):
                first, second = ours({"image": image}), monais({"image": image})
                assert all(torch.equal(torch.as_tensor(first[key]), torch.as_tensor(second[key])) for key in first)


def test_reseeding_leaves_a_generator_alone_that_others_draw_from() -> None:
    shared = np.random.RandomState(3)
    flip, turn = RandFlipd("image", 0.5), RandRotate90d("image", 0.5)
    for transform in (flip, turn):
        transform.set_random_state(state=shared)
    before = Randomizable.R.get_state()[1].copy()
    reseed(flip, 5)
    assert turn.R is shared
    assert shared.rand() == np.random.RandomState(3).rand()
    assert np.array_equal(Randomizable.R.get_state()[1], before)
