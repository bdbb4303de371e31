from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from medresnet3d.errors import DataError, GeometryError
from medresnet3d.io import Volume, as_volume, require_same_grid, same_grid

VALUES = np.arange(60.0).reshape(3, 4, 5)
AFFINE = np.array([[0, -2.0, 0, 5], [1.0, 0, 0, 6], [0, 0, 3.0, 7], [0, 0, 0, 1]])


def shifted(by: float) -> Volume:
    affine = AFFINE.copy()
    affine[0, 3] += by
    return Volume(VALUES, affine)


def test_shape_spacing_and_immutability() -> None:
    volume = Volume(VALUES, AFFINE)
    assert volume.shape == (3, 4, 5)
    assert volume.spacing == (1.0, 2.0, 3.0)
    with pytest.raises(FrozenInstanceError):
        volume.modality = "CT"  # type: ignore[misc]


def test_with_array() -> None:
    volume = Volume(VALUES, AFFINE, "CT").with_array(VALUES * 2)
    assert volume.modality == "CT"
    assert volume.array[2, 3, 4] == 118
    with pytest.raises(GeometryError, match="does not fit"):
        volume.with_array(np.zeros((2, 2, 2)))


def test_as_volume() -> None:
    volume = Volume(VALUES, AFFINE)
    assert as_volume(volume) is volume
    pair = as_volume((VALUES, AFFINE))
    assert pair.warnings == ()
    assert np.array_equal(pair.affine, AFFINE)
    bare = as_volume(VALUES)
    assert bare.spacing == (1.0, 1.0, 1.0)
    assert "No geometry" in bare.warnings[0]


def test_as_volume_judges_arrays() -> None:
    with pytest.raises(DataError, match="not a 3-D image"):
        as_volume(np.zeros((3, 3)))
    with pytest.raises(DataError, match="every voxel"):
        as_volume(np.zeros((3, 3, 3)))
    assert as_volume(np.zeros((3, 3, 3)), constant_ok=True).shape == (3, 3, 3)
    with pytest.raises(GeometryError, match="0 mm"):
        as_volume((VALUES, np.diag([1, 0, 1, 1])))


def test_same_grid() -> None:
    assert same_grid(Volume(VALUES, AFFINE), shifted(0.04))
    assert not same_grid(Volume(VALUES, AFFINE), shifted(0.06))
    turned = Volume(VALUES, AFFINE @ np.diag([1, 1, 1.02, 1]))  # 0.06 mm a slice adds up to 0.24 mm
    assert not same_grid(Volume(VALUES, AFFINE), turned)


def test_require_same_grid_says_what_differs() -> None:
    with pytest.raises(GeometryError, match=r"different shapes, \(2, 4, 5\) and \(3, 4, 5\)"):
        require_same_grid(Volume(VALUES, AFFINE), Volume(VALUES[:2], AFFINE))
    with pytest.raises(GeometryError, match=r"same shape but lie at different places.*15 x 6 x 7 and 5 x 6 x 7 mm"):
        require_same_grid(Volume(VALUES, AFFINE), shifted(10))
