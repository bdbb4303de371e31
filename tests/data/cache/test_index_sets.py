from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medresnet3d.data.cache.index_sets import IndexSet


@settings(deadline=None, max_examples=40)
@given(size=st.integers(0, 20000), share=st.sampled_from([0, 0.0005, 0.4, 0.999, 1]), seed=st.integers(0, 100))
def test_members_are_those_of_flatnonzero(size: int, share: float, seed: int) -> None:
    flags = np.random.default_rng(seed).random(size) < share
    expected = np.flatnonzero(flags)
    found = IndexSet.of(flags)
    assert len(found) == len(expected)
    for number in {0, len(expected) // 2, len(expected) - 1} if len(expected) else ():
        assert found[number] == expected[number]
    with pytest.raises(IndexError):
        found[len(expected)]


def test_every_member_across_whole_and_mixed_blocks() -> None:
    flags = np.zeros(5 * 4096 + 7, bool)
    flags[4096 : 3 * 4096] = True
    flags[::1000] = True
    flags[-1] = True
    found = IndexSet.of(flags)
    assert [int(found[i]) for i in range(len(found))] == np.flatnonzero(flags).tolist()


def test_thinning_is_monais() -> None:
    flags = np.random.default_rng(0).random(5000) < 0.3
    every = np.flatnonzero(flags)
    found = IndexSet.of(flags, limit=100)
    expected = every[np.round(np.linspace(0, len(every) - 1, 100)).astype(int)]
    assert [int(found[i]) for i in range(len(found))] == expected.tolist()


def test_a_bit_a_voxel_is_the_most() -> None:
    flags = np.random.default_rng(0).random(2**20) < 0.5
    found = IndexSet.of(flags)
    assert found.mixed.nbytes <= flags.size // 8
    assert IndexSet.of(np.ones(2**20, bool)).mixed.nbytes == 0
