"""From a map of probabilities to detections, in millimetres whatever the grid."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medresnet3d.data.phantoms.ct import lps
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.transforms.detection import (
    DetectionsFromMap,
    DetectionsFromMapd,
    SaveDetectionsd,
)

AFFINE = np.array([[-0.8, 0, 0, 30.0], [0, -0.8, 0, 25.0], [0, 0, 2.0, -120.0], [0, 0, 0, 1]])
OBLIQUE = np.array([[0.7, -0.3, 0.1, 5.0], [0.3, 0.8, 0.0, -7.0], [0.0, 0.2, 1.5, 11.0], [0, 0, 0, 1]])


def volume(values: np.ndarray, affine: np.ndarray = AFFINE) -> MetaTensor:
    return MetaTensor(torch.from_numpy(values.astype(np.float32))[None], affine=torch.from_numpy(affine))


def to_mm(voxel: tuple[float, ...], affine: np.ndarray = AFFINE) -> np.ndarray:
    return affine[:3, :3] @ voxel + affine[:3, 3]


# From a map to detections


@pytest.mark.parametrize("affine", [AFFINE, OBLIQUE])
def test_place_size_and_probability_of_a_blob_in_millimetres(affine: np.ndarray) -> None:
    values = np.zeros((20, 22, 24))
    values[4:7, 10:13, 15:18] = 0.6
    values[5, 11, 16] = 0.9
    (found,) = DetectionsFromMap()(volume(values, affine)).numpy()
    np.testing.assert_allclose(found[:3], to_mm((5, 11, 16), affine), atol=1e-4)
    size = 27 * abs(np.linalg.det(affine[:3, :3]))
    np.testing.assert_allclose(np.pi / 6 * found[3] ** 3, size, rtol=1e-5)
    assert found[4] == pytest.approx(0.9)


def test_the_place_leans_to_what_is_more_probable() -> None:
    values = np.zeros((9, 9, 9))
    values[3, 4, 4], values[4, 4, 4] = 0.5, 1.0
    (found,) = DetectionsFromMap()(volume(values, np.eye(4))).numpy()
    np.testing.assert_allclose(found[:3], [3 + 2 / 3, 4, 4], rtol=1e-6)


def test_the_score_is_the_largest_or_the_mean_of_all_voxels() -> None:
    values = np.zeros((9, 9, 9))
    values[3, 4, 4], values[4, 4, 4] = 0.5, 1.0
    assert DetectionsFromMap(score="max")(volume(values))[0, 4] == 1.0
    assert DetectionsFromMap(score="mean")(volume(values))[0, 4] == 0.75


def test_voxels_at_the_threshold_count_and_those_below_do_not() -> None:
    values = np.zeros((9, 9, 9))
    values[2, 2, 2], values[6, 6, 6] = 0.5, 0.4999
    assert len(DetectionsFromMap(threshold=0.5, merge_distance_mm=0)(volume(values))) == 1


def test_corners_touch_in_three_dimensions_and_in_two() -> None:
    values = np.zeros((9, 9, 9))
    values[2, 2, 2] = values[3, 3, 3] = 0.9
    assert len(DetectionsFromMap(merge_distance_mm=0)(volume(values))) == 1
    plane = np.zeros((9, 9))
    plane[2, 2] = plane[3, 3] = plane[5, 3] = 0.9
    assert len(DetectionsFromMap(merge_distance_mm=0)(torch.from_numpy(plane)[None], np.eye(4))) == 2


def test_near_components_are_one_also_by_way_of_others() -> None:
    values = np.zeros((30, 9, 9))
    values[[2, 6, 10, 20], 4, 4] = [0.5, 0.9, 0.7, 0.8]
    apart = DetectionsFromMap(merge_distance_mm=3.9)(volume(values, np.eye(4)))
    assert len(apart) == 4
    joined = DetectionsFromMap(merge_distance_mm=4.0)(volume(values, np.eye(4))).numpy()
    assert len(joined) == 2
    np.testing.assert_allclose(
        joined[0], [(2 * 0.5 + 6 * 0.9 + 10 * 0.7) / 2.1, 4, 4, np.cbrt(18 / np.pi), 0.9], rtol=1e-6
    )
    mean = DetectionsFromMap(merge_distance_mm=4.0, score="mean")(volume(values, np.eye(4)))
    np.testing.assert_allclose(mean[:, 4], [0.8, 0.7], rtol=1e-6)


def test_small_ones_are_left_out_after_merging() -> None:
    values = np.zeros((20, 9, 9))
    values[[2, 4, 15], 4, 4] = 0.9  # with AFFINE a voxel has 1.28 mm3
    find = DetectionsFromMap(min_volume_mm3=2.0, merge_distance_mm=2.0)
    assert len(find(volume(values))) == 1
    assert len(DetectionsFromMap(min_volume_mm3=1.28 * (1 - 1e-9), merge_distance_mm=0)(volume(values))) == 3


def test_the_most_probable_come_first_and_only_so_many() -> None:
    values = np.zeros((40, 9, 9))
    values[[1, 11, 21, 31], 4, 4] = [0.5, 0.9, 0.6, 0.8]
    found = DetectionsFromMap(max_detections=3)(volume(values, np.eye(4)))
    np.testing.assert_allclose(found[:, 4], [0.9, 0.8, 0.6])
    assert len(DetectionsFromMap(max_detections=None)(volume(values, np.eye(4)))) == 4


def test_nothing_is_found_in_an_empty_map() -> None:
    found = DetectionsFromMap()(volume(np.zeros((5, 5, 5))))
    assert found.shape == (0, 5) and found.dtype == torch.float32


@pytest.mark.parametrize("shape", [(20, 22), (20, 22, 1)])
def test_a_picture_has_circles_in_its_plane(shape: tuple[int, ...]) -> None:
    values = np.zeros(shape)
    values[4:8, 10:14] = 0.6
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])  # as medresnet3d.io reads pictures: mm are pixels, LPS
    (found,) = DetectionsFromMap()(volume(values, affine)).numpy()
    np.testing.assert_allclose(found[:3], [-5.5, -11.5, 0], atol=1e-6)
    np.testing.assert_allclose(np.pi / 4 * found[3] ** 2, 16, rtol=1e-6)


def test_an_affine_of_a_plane_will_do() -> None:
    values = np.zeros((8, 8))
    values[2, 3] = 0.9
    affine = np.array([[2.0, 0, 10], [0, 3.0, 20], [0, 0, 1]])
    (found,) = DetectionsFromMap()(torch.from_numpy(values)[None], affine).numpy()
    np.testing.assert_allclose(found[:4], [14, 29, 0, 2 * np.sqrt(6 / np.pi)], rtol=1e-6)


def test_the_affine_of_the_image_counts_where_the_map_has_none() -> None:
    values = np.zeros((9, 9, 9))
    values[2, 3, 4] = 0.9
    item = {"pred": torch.from_numpy(values)[None], "image": volume(np.zeros((9, 9, 9)))}
    found = DetectionsFromMapd()(item)["pred"]
    np.testing.assert_allclose(found[0, :3], to_mm((2, 3, 4)), atol=1e-4)
    with pytest.raises(DataError, match="has no affine"):
        DetectionsFromMapd(reference_key="other")({"pred": item["pred"]})


@pytest.mark.parametrize("shape", [(2, 5, 5, 5), (1, 5), (1, 1, 5, 5, 5)])
def test_maps_of_another_kind_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="needs one channel"):
        DetectionsFromMap()(torch.zeros(shape), np.eye(4))


@pytest.mark.parametrize(
    "options",
    [
        {"threshold": 0.0},
        {"threshold": 1.1},
        {"score": "median"},
        {"merge_distance_mm": -1},
        {"min_volume_mm3": -1},
        {"max_detections": 0},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        DetectionsFromMap(**options)


def test_tables_are_luna16s_with_the_signs_of_lps(tmp_path: Path) -> None:
    save = SaveDetectionsd("pred", tmp_path / "out")
    save({"pred": torch.tensor([[1.5, -2.25, 3.0, 7.0, 0.875]]), "case": "1.2.3", "path": "scans/1.2.3.mhd"})
    save({"pred": torch.zeros(0, 5), "case": "1.2.4", "path": "scans/1.2.4.mhd"})
    (row,) = csv.DictReader((tmp_path / "out" / "detections.csv").open())
    assert row == {"seriesuid": "1.2.3", "coordX": "-1.5", "coordY": "2.25", "coordZ": "3.0", "probability": "0.875"}
    assert tuple(float(row[name]) for name in ("coordX", "coordY", "coordZ")) == lps((1.5, -2.25, 3.0))
    rows = list(csv.DictReader((tmp_path / "out" / "predictions.csv").open()))
    assert [(one["case"], one["detections"], one["strongest_probability"]) for one in rows] == [
        ("1.2.3", "1", "0.875000"),
        ("1.2.4", "0", ""),
    ]
