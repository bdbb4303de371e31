"""From a map of probabilities to detections and from boxes to maps, in millimetres whatever the grid."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor, list_data_collate
from monai.transforms import Compose, Flipd, Orientationd, RandCropByPosNegLabeld, Spacingd

from medresnet3d.data.phantoms.ct import lps
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.transforms.detection import (
    BoxesToMapd,
    DetectionsFromMap,
    DetectionsFromMapd,
    FindingsFromBoxesd,
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


# From boxes to a map, and back


@settings(max_examples=40, deadline=None)
@given(
    centre=st.tuples(*[st.floats(7.0, 13.0)] * 3),
    radius=st.floats(2.5, 5.0),
    affine=st.sampled_from([AFFINE, OBLIQUE, np.eye(4)]),
    turned=st.booleans(),
)
def test_a_sphere_that_is_drawn_is_found_where_it_was(
    centre: tuple[float, float, float], radius: float, affine: np.ndarray, turned: bool
) -> None:
    place = to_mm(centre, affine)
    box = [*(place - radius), *(place + radius)]
    item = BoxesToMapd()({"image": volume(np.zeros((20, 20, 20)), affine), "boxes": [box]})
    if turned:
        item = Flipd("label", 0)(Orientationd("label", "PSR", labels=None)(item))
    (found,) = DetectionsFromMap()(item["label"]).numpy()
    spacing = np.linalg.norm(affine[:3, :3], axis=0).max()
    assert np.linalg.norm(found[:3] - place) < spacing / 2
    assert abs(found[3] - 2 * radius) < spacing


def test_a_finding_smaller_than_a_voxel_marks_the_voxel_nearest_to_it() -> None:
    place = to_mm((4.2, 5.4, 6.1))
    item = BoxesToMapd()({"image": volume(np.zeros((9, 9, 9))), "boxes": [[*(place - 0.01), *(place + 0.01)]]})
    assert item["label"].sum() == 1 and item["label"][0, 4, 5, 6] == 1


def test_what_lies_outside_is_left_out_and_what_reaches_in_is_not() -> None:
    image = volume(np.zeros((9, 9, 9)), np.eye(4))
    assert BoxesToMapd()({"image": image, "boxes": [[20, 20, 20, 30, 30, 30]]})["label"].sum() == 0
    reaching = BoxesToMapd()({"image": image, "boxes": [[-5, 3, 3, 1, 5, 5]]})["label"][0]
    assert reaching[0, 4, 4] == 1 and reaching[1:].sum() == 1  # (1, 4, 4) lies on the surface


def test_heat_is_one_at_the_centre_and_falls_with_the_radius() -> None:
    item = {"image": volume(np.zeros((21, 21, 21)), np.eye(4)), "boxes": [[6, 6, 6, 14, 14, 14]]}
    heat = BoxesToMapd(kind="heat", spread=0.5)(item)["label"][0].numpy()
    assert heat[10, 10, 10] == 1
    np.testing.assert_allclose(heat[12, 10, 10], np.exp(-0.5))  # half the radius is one standard deviation
    np.testing.assert_allclose(heat[14, 10, 10], np.exp(-2))
    assert heat[16, 10, 10] == 0  # three of them


def test_overlapping_findings_keep_the_larger_value() -> None:
    boxes = [[6, 6, 6, 14, 14, 14], [8, 6, 6, 16, 14, 14]]
    item = {"image": volume(np.zeros((21, 21, 21)), np.eye(4)), "boxes": boxes}
    heat = BoxesToMapd(kind="heat")(item)["label"][0]
    assert heat[10, 10, 10] == heat[12, 10, 10] == 1 and heat.max() == 1


@pytest.mark.parametrize("shape", [(30, 20), (30, 20, 1)])
def test_boxes_of_a_picture_are_pixels(shape: tuple[int, ...]) -> None:
    picture = volume(np.zeros(shape), np.diag([-1.0, -1.0, 1.0, 1.0]))
    drawn = BoxesToMapd()({"image": picture, "boxes": [[10, 4, 20, 10]]})["label"][0].numpy().reshape(30, 20)
    columns, rows = np.nonzero(drawn)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (10, 20, 4, 10)
    np.testing.assert_allclose(drawn.sum(), np.pi * 5 * 3, rtol=0.12)


def test_a_scan_without_boxes_gives_an_empty_map() -> None:
    image = volume(np.zeros((9, 9, 9)))
    assert (
        BoxesToMapd()({"image": image})["label"].sum()
        == BoxesToMapd()({"image": image, "boxes": []})["label"].sum()
        == 0
    )


def test_unusable_boxes_and_options_are_refused() -> None:
    image = volume(np.zeros((9, 9, 9)))
    with pytest.raises(DataError, match="a box is"):
        BoxesToMapd()({"image": image, "boxes": [[1, 2, 3, 4, 5]]})
    with pytest.raises(DataError, match="lowest corner"):
        BoxesToMapd()({"image": image, "boxes": [[5, 2, 3, 4, 5, 6]]})
    with pytest.raises(DataError, match="LoadVolumed"):
        BoxesToMapd()({"image": torch.zeros(1, 5, 5, 5), "boxes": []})
    with pytest.raises(ConfigError, match="sphere or heat"):
        BoxesToMapd(kind="cube")
    with pytest.raises(ConfigError, match="spread"):
        BoxesToMapd(spread=0)


def test_the_map_goes_through_monai_with_its_image_and_gives_patches_of_both_kinds() -> None:
    place = to_mm((12, 12, 8))
    item = {"image": volume(np.zeros((30, 28, 12))), "boxes": [[*(place - 4), *(place + 4)]]}
    crop = RandCropByPosNegLabeld(
        ["image", "label"], "label", (8, 8, 4), pos=1, neg=1, num_samples=20, image_key="image", image_threshold=-1
    )
    prepare = Compose([BoxesToMapd(), Spacingd(["image", "label"], 1.0, mode=["bilinear", "nearest"]), crop])
    prepare.set_random_state(0)
    patches = prepare(item)
    middles = [float(patch["label"][0, 4, 4, 2]) for patch in patches]
    assert 4 < sum(middles) < 16, "about half of the patches have a finding in their middle"
    assert all(patch["image"].shape == patch["label"].shape == (1, 8, 8, 4) for patch in patches)
    empty = Compose([BoxesToMapd(), crop])({"image": item["image"], "boxes": []})
    assert not any(patch["label"].any() for patch in empty)


# The truth of a validation


def test_findings_are_centres_and_diameters_padded_to_one_shape() -> None:
    make = FindingsFromBoxesd(most=4)
    one = make({"boxes": [[0, 0, 0, 4, 6, 8]], "excluded_boxes": [[10, 10, 10, 12, 12, 12]], "label": ["nodule"]})
    np.testing.assert_allclose(one["label"][:2], [[2, 3, 4, 6, 0], [11, 11, 11, 2, 1]])
    assert one["label"][2:].isnan().all()
    none, picture = make({}), make({"boxes": [[10, 20, 14, 26]]})
    assert none["label"].isnan().all()
    np.testing.assert_allclose(picture["label"][0], [-12, -23, 0, 5, 0])
    batch = list_data_collate([{"label": item["label"]} for item in (one, none, picture)])
    assert batch["label"].shape == (3, 4, 5)
    with pytest.raises(DataError, match="case9 has 5 findings"):
        make({"case": "case9", "boxes": [[0, 0, 1, 1]] * 5})


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
