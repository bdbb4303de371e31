from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medresnet3d.reports.structures import label_counts, longest_axial_diameter, longest_axial_diameters

SPACING = (0.5, 1.5, 2.0)


def test_voxels_of_every_label_are_counted() -> None:
    labels = np.zeros((5, 6, 7), dtype=np.uint16)
    labels[1, 2, 3], labels[2:4, 0, :2] = 700, 3
    assert label_counts(labels) == {3: 4, 700: 1}
    assert label_counts(np.zeros((2, 2, 2), dtype=np.uint8)) == {}


def test_a_disc_measures_its_diameter() -> None:
    i, j = np.indices((80, 40))
    disc = np.hypot((i - 40) * SPACING[0], (j - 20) * SPACING[1]) < 12.0
    labels = np.zeros((80, 40, 4), dtype=np.uint8)
    labels[:, :, 2] = 2 * disc
    labels[40, 20, 3] = 2
    assert longest_axial_diameter(labels, 2, SPACING) == pytest.approx(24.0, abs=1.6)
    assert longest_axial_diameter(labels, 1, SPACING) == 0.0


def test_structures_are_measured_together_as_alone() -> None:
    labels = np.random.default_rng(0).choice([0, 2, 5, 700], p=[0.7, 0.1, 0.1, 0.1], size=(12, 9, 4))
    together = longest_axial_diameters(labels, SPACING)
    assert list(together) == [2, 5, 700]
    assert together == {label: longest_axial_diameter(labels, label, SPACING) for label in together}


def test_a_voxel_measures_its_diagonal() -> None:
    labels = np.zeros((4, 4, 2), dtype=np.uint8)
    labels[1, 1, 1] = 1
    assert longest_axial_diameter(labels, 1, SPACING) == pytest.approx(np.hypot(0.5, 1.5))


@given(seed=st.integers(0, 200), share=st.floats(0.02, 0.6))
@settings(max_examples=40, deadline=None)
def test_it_is_the_longest_distance_between_corners_in_any_slice(seed: int, share: float) -> None:
    labels = (np.random.default_rng(seed).uniform(size=(7, 6, 3)) < share).astype(np.uint8)
    longest = 0.0
    for k in range(3):
        voxels = np.argwhere(labels[:, :, k])
        corners = np.concatenate([voxels + np.array(step) for step in np.ndindex(2, 2)]) * SPACING[:2]
        longest = max([longest, *np.linalg.norm(corners[:, None] - corners[None], axis=-1).ravel()])
    assert longest_axial_diameter(labels, 1, SPACING) == pytest.approx(longest)
