from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from medresnet3d.data import items
from medresnet3d.data.phantoms.brain import brain_phantom, write_brain_phantoms
from medresnet3d.io import load


def test_same_seed_same_voxels_other_seed_others() -> None:
    first, again, other = brain_phantom(0, 32), brain_phantom(0, 32), brain_phantom(1, 32)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.labels, again.labels)
    assert not np.array_equal(first.labels, other.labels)


def test_tissues_lie_as_in_a_brain() -> None:
    phantom = brain_phantom(0, 64)
    body = phantom.labels > 0
    assert np.array_equal(body, phantom.image > 0)
    depth = ndimage.distance_transform_edt(body)
    means = [depth[phantom.labels == tissue].mean() for tissue in (2, 3)]
    assert means[0] < means[1]
    levels = [phantom.image[phantom.labels == tissue].mean() for tissue in (1, 2, 3)]
    assert levels == sorted(levels)
    assert min((phantom.labels == tissue).mean() for tissue in (1, 2, 3)) > 0.02


def test_wide_ventricles_are_wider() -> None:
    deep = np.s_[24:40, 24:40, 28:40]
    narrow, wide = (int((brain_phantom(0, 64, ventricles=v).labels[deep] == 1).sum()) for v in (0.0, 1.0))
    assert wide > 1.5 * narrow


def test_a_head_surrounds_the_same_brain_and_leaves_the_volume_through_the_neck() -> None:
    brain, head = brain_phantom(0, 48), brain_phantom(0, 48, head=True)
    assert np.array_equal(brain.labels, head.labels)
    assert (head.image > 0).sum() > 2 * (brain.image > 0).sum()
    assert (head.image[:, :, 0] > 0).any()
    assert not (brain.image[:, :, 0] > 0).any()


def test_air_is_zero_unless_noise_is_wanted() -> None:
    assert brain_phantom(0, 32).image[0, 0, 0] == 0
    assert brain_phantom(0, 32, background=20.0).image[:4].std() > 5


def test_written_phantoms_are_a_manifest_that_reads_back(tmp_path: Path) -> None:
    manifest = write_brain_phantoms(tmp_path, 3, seed=5, size=32)
    listed = items(manifest, "all")
    assert len({item["patient"] for item in listed}) == 3
    expected = brain_phantom(6, 32, ventricles=0.5)
    image, label = load(listed[1]["image"]), load(listed[1]["label"])
    assert np.array_equal(image.array, expected.image)
    assert np.array_equal(label.array, expected.labels)
    assert image.affine == pytest.approx(expected.affine)


def test_hippocampi_are_grey_in_a_room_of_full_size_and_lie_left_and_right() -> None:
    whole, shrunk = (brain_phantom(0, 64, hippocampi=volume) for volume in (1.0, 0.5))
    sizes = [(phantom.hippocampi > 0).sum() for phantom in (whole, shrunk)]
    assert sizes[1] == pytest.approx(0.5 * sizes[0], rel=0.1)
    assert (shrunk.labels[shrunk.hippocampi > 0] == 2).all()
    assert (shrunk.labels[(whole.hippocampi > 0) & (shrunk.hippocampi == 0)] == 1).all()
    right = np.argwhere(whole.hippocampi == 2).mean(0)
    assert right[0] > 32 > np.argwhere(whole.hippocampi == 1).mean(0)[0]
    assert not brain_phantom(0, 32).hippocampi.any()


def test_a_turned_head_is_the_same_head() -> None:
    straight = brain_phantom(0, 48, spacing=2.0)
    moved = brain_phantom(0, 48, spacing=2.0, shift_mm=(10.0, 0, 0))
    middles = [np.argwhere(phantom.labels > 0).mean(0) for phantom in (straight, moved)]
    np.testing.assert_allclose(middles[1] - middles[0], [5, 0, 0], atol=0.2)
    turned = brain_phantom(0, 48, turn_degrees=(0, 0, 90.0))
    extents = [np.ptp(np.argwhere(phantom.labels > 0), axis=0) for phantom in (straight, turned)]
    np.testing.assert_allclose(extents[1][[1, 0, 2]], extents[0], atol=1)


def test_focal_atrophy_widens_the_sulci_around_its_place_and_nowhere_else() -> None:
    place = np.array([0.4, 0.1, 0.25])
    healthy, ill = (brain_phantom(0, 64, focus=place.tolist(), focal_atrophy=amount) for amount in (0.0, 1.0))
    assert np.array_equal(healthy.labels, brain_phantom(0, 64).labels)
    changed = np.argwhere(healthy.labels != ill.labels) / 63 * 2 - 1
    assert len(changed) > 200
    assert np.linalg.norm(changed - place, axis=1).max() < 0.45  # the radius, and the depth of the cortex
    assert (ill.labels == 1).sum() > (healthy.labels == 1).sum()


def test_contrasts_differ_in_intensity_and_not_in_anatomy() -> None:
    t1, t2 = (brain_phantom(0, 48, contrast=contrast) for contrast in ("t1", "t2"))
    assert np.array_equal(t1.labels, t2.labels)
    fluid, white = t1.labels == 1, t1.labels == 3
    assert t1.image[fluid].mean() < t1.image[white].mean()
    assert t2.image[fluid].mean() > t2.image[white].mean()
