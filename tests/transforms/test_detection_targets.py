"""From boxes to maps and tables, in millimetres whatever the grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import list_data_collate
from monai.transforms import Compose, Flipd, Orientationd, RandCropByPosNegLabeld, Spacingd

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.transforms.detection import DetectionsFromMap
from medresnet3d.transforms.detection_targets import BoxesToMapd, FindingsFromBoxesd
from tests.transforms.test_detection import AFFINE, OBLIQUE, to_mm, volume

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
