from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy.ndimage import map_coordinates

from medresnet3d.errors import GeometryError
from medresnet3d.transforms.registration import Warp, axes_of, register, to_sitk
from tests.transforms.test_template import phantom


def at(warp: Warp, points: np.ndarray) -> np.ndarray:
    """Points (n, d) carried through a warp, by another interpolator than the package's."""
    index = np.linalg.solve(warp.affine[:-1, :-1], (points - warp.affine[:-1, -1]).T)
    moved = [map_coordinates(channel, index, order=1, mode="nearest") for channel in warp.field]
    return points + np.stack(moved, axis=1)


def test_an_image_keeps_its_place() -> None:
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * [2.0, 3, 4], [5, 6, 7]
    values = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
    image = to_sitk(values, affine)
    assert image.GetSize() == (4, 5, 6) and image[1, 2, 3] == values[1, 2, 3]
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint((1, 2, 3)), affine[:3, :3] @ [1, 2, 3] + [5, 6, 7])
    spacing, direction = axes_of(affine)
    np.testing.assert_allclose(spacing, [2, 3, 4])
    np.testing.assert_allclose(direction, turn)


def test_sheared_axes_are_refused() -> None:
    affine = np.eye(4)
    affine[0, 1] = 0.3
    with pytest.raises(GeometryError, match="not perpendicular"):
        to_sitk(np.zeros((4, 4, 4), np.float32), affine)


@pytest.mark.parametrize("dims", [2, 3])
def test_there_and_back_is_where_it_was(dims: int) -> None:
    """The proof of the system's own sheet: less than a voxel."""
    images = []
    for seed in (0, 1):
        image, _ = phantom(seed)
        values = image[0].numpy()
        affine = np.asarray(image.affine, dtype=float)
        if dims == 2:
            values, affine = values[:, :, values.shape[2] // 2], affine[np.ix_([0, 1, 3], [0, 1, 3])]
        images.append((values.astype(np.float32), affine))
    (fixed, here), (moving, there) = images
    onward, back = register(fixed, here, moving, there, grid_mm=6.0, iterations=25)
    inside = np.argwhere(fixed > 20)[::7]
    points = inside @ here[:-1, :-1].T + here[:-1, -1]
    again = at(back, at(onward, points))
    error = np.linalg.norm(again - points, axis=1)
    assert np.median(error) < 0.5 * 5.0 and np.percentile(error, 95) < 5.0  # voxels of 5 mm
    moved = np.linalg.norm(at(onward, points) - points, axis=1)
    assert np.median(moved) > 2.0  # it is no identity


def test_a_known_affine_map_is_found() -> None:
    image, _ = phantom(2)
    values, affine = image[0].numpy(), np.asarray(image.affine, dtype=float)
    shifted = affine.copy()
    shifted[:3, 3] += [12.0, -8.0, 5.0]
    onward, _ = register(values, affine, values, shifted, grid_mm=8.0, iterations=5)
    inside = np.argwhere(values > 20)[::11]
    points = inside @ affine[:3, :3].T + affine[:3, 3]
    np.testing.assert_allclose((at(onward, points) - points).mean(0), [12.0, -8.0, 5.0], atol=1.0)
    assert sitk.Version_MajorVersion() >= 2
