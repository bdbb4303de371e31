from __future__ import annotations

import io
import random

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from medresnet3d.data.seeding import derive_seed, random_state, seed_global, seeded, set_random_state

KEYS = st.lists(st.integers(0, 2**40), min_size=1, max_size=4)


def draw() -> tuple[float, float, float, float]:
    rng = np.random  # the global generator is what is tested
    return float(torch.rand(())), float(rng.rand()), float(rng.normal()), random.gauss(0, 1)


@given(KEYS)
def test_a_key_has_one_seed(key: list[int]) -> None:
    assert derive_seed(*key) == derive_seed(*key)
    assert 0 <= derive_seed(*key) < 2**32


def test_neighbouring_keys_have_different_seeds() -> None:
    seeds = {derive_seed(seed, epoch, index) for seed in range(5) for epoch in range(20) for index in range(100)}
    assert len(seeds) > 9_990  # 10,000 draws of 32 bits: a collision or two would be chance


def test_states_survive_a_file_and_bring_back_the_stream() -> None:
    seed_global(3)
    draw()  # leaves a cached normal number in numpy's and python's generators
    buffer = io.BytesIO()
    torch.save(random_state(), buffer)
    expected = [draw() for _ in range(3)]
    buffer.seek(0)
    set_random_state(torch.load(buffer, weights_only=True))
    assert [draw() for _ in range(3)] == expected


def test_seeded_puts_the_streams_back_even_after_an_error() -> None:
    seed_global(1)
    expected = [draw(), draw()]
    seed_global(1)
    first = draw()
    try:
        with seeded(99):
            inside = draw()
            raise KeyError
    except KeyError:
        second = draw()
    assert [first, second] == expected
    with seeded(99):
        assert draw() == inside
