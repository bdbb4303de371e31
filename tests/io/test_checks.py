from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medresnet3d.errors import AmbiguousInputError, DataError, GeometryError
from medresnet3d.io.checks import check_affine, check_spacing, check_voxels, choose_volume


def affine(**cells: float) -> np.ndarray:
    matrix = np.diag([1.0, 2.0, 3.0, 1.0])
    for cell, value in cells.items():
        matrix[int(cell[1]), int(cell[2])] = value
    return matrix


@pytest.mark.parametrize(
    "matrix,message",
    [
        (np.eye(3), "4 x 4"),
        (affine(_03=np.nan), "not finite"),
        (affine(_11=0.0), "voxel size along axis j is 0 mm"),
        (affine(_12=2.0, _22=0.0), "cannot be inverted"),
    ],
)
def test_unusable_affine(matrix: np.ndarray, message: str) -> None:
    with pytest.raises(GeometryError, match=f"^scan: .*{message}"):
        check_affine(matrix, "scan")


def test_usable_affines() -> None:
    check_affine(np.diag([-1e-3, 2e3, 1, 1]), "scan")
    check_affine(affine(_01=0.5), "scan")


@pytest.mark.parametrize("spacing", [(1, 0, 1), (1, np.nan, 1)])
def test_unusable_spacing(spacing: Any) -> None:
    with pytest.raises(GeometryError, match="axis j"):
        check_spacing(spacing, "scan")


@pytest.mark.parametrize(
    "array,message",
    [
        (np.zeros((0, 2, 2)), "no voxels"),
        (np.ones((2, 2, 2), complex), "colour or complex"),
        (np.full((2, 2, 2), np.inf), "no voxel has a finite value"),
        (np.ones((2, 2, 2), bool), "every voxel has the value 1"),
    ],
)
def test_unusable_voxels(array: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=f"^scan: .*{message}"):
        check_voxels(array, "scan")


def test_strided_arrays_are_judged_whole() -> None:
    array = np.zeros((6, 6, 6))[::2, :, ::-1]
    with pytest.raises(DataError, match="every voxel"):
        check_voxels(array, "scan")
    array[1, 1, 1] = 5
    check_voxels(array, "scan")


@pytest.mark.parametrize(
    "shape,wanted,expected",
    [
        ((4, 5), None, ((4, 5, 1), 0)),
        ((4, 5, 6), "7", ((4, 5, 6), 0)),
        ((4, 5, 6, 1, 1), None, ((4, 5, 6), 0)),
        ((4, 5, 6, 3), "2", ((4, 5, 6), 2)),
        ((4, 5, 6, 3, 1), "0", ((4, 5, 6), 0)),
    ],
)
def test_choice_of_a_volume(shape: tuple[int, ...], wanted: str | None, expected: Any) -> None:
    assert choose_volume(shape, wanted, "a", []) == expected


@pytest.mark.parametrize(
    "shape,wanted,error",
    [
        ((4,), None, DataError),
        ((4, 5, 6, 2, 2), None, DataError),
        ((4, 5, 6, 2), None, AmbiguousInputError),
        ((4, 5, 6, 2), "2", AmbiguousInputError),
        ((4, 5, 6, 2), "-1", AmbiguousInputError),
    ],
)
def test_choice_that_is_not_clear(shape: tuple[int, ...], wanted: str | None, error: type[DataError]) -> None:
    with pytest.raises(error, match=r"^a: the image has . dimensions"):
        choose_volume(shape, wanted, "a", [])
