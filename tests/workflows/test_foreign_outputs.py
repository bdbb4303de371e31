from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Orientation, Spacing

from medresnet3d.errors import BundleError, DataError, GeometryError
from medresnet3d.io import Volume
from medresnet3d.workflows.foreign_labels import Meaning
from medresnet3d.workflows.foreign_outputs import file_name, make_answer, to_input_grid
from tests.workflows.conftest import OBLIQUE, orthogonal

SHAPE = (8, 10, 6)
SEGMENTATION = Meaning("segmentation", ("background", "one", "two"), (), 3, 1)


@pytest.fixture
def scan() -> Volume:
    values = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    return Volume(values, orthogonal(OBLIQUE))


def given(array: Any, volume: Volume) -> MetaTensor:
    return MetaTensor(torch.as_tensor(array), affine=torch.as_tensor(volume.affine))


def test_a_label_map(scan: Volume) -> None:
    labels = np.random.default_rng(1).integers(0, 3, SHAPE)
    answer = make_answer({"pred": given(labels[None].astype(np.float32), scan)}, scan, SEGMENTATION, "b")
    np.testing.assert_array_equal(answer.label_map, labels)
    assert answer.label_map is not None and answer.label_map.dtype == np.uint8
    assert set(answer.volumes_ml) == {"one", "two"}
    assert answer.notes == []


def test_values_of_all_classes(scan: Volume) -> None:
    values = np.random.default_rng(1).normal(size=(3, *SHAPE))
    answer = make_answer({"pred": given(values, scan)}, scan, SEGMENTATION, "b")
    np.testing.assert_array_equal(answer.label_map, values.argmax(0))
    assert "highest" in answer.notes[0]
    one_hot = (values == values.max(0)).astype(np.float32)
    answer = make_answer({"pred": given(one_hot, scan)}, scan, SEGMENTATION, "b")
    np.testing.assert_array_equal(answer.label_map, values.argmax(0))
    assert answer.images == {} and answer.notes == []


@pytest.mark.parametrize(("low", "threshold"), [(0.0, 0.5), (-3.0, 0.0)])
def test_one_channel_of_values(scan: Volume, low: float, threshold: float) -> None:
    values = np.random.default_rng(1).uniform(low, 1, (1, *SHAPE))
    answer = make_answer({"pred": given(values, scan)}, scan, SEGMENTATION, "b")
    np.testing.assert_array_equal(answer.label_map, values[0] > threshold)


def test_structures_that_overlap_keep_all_their_voxels(scan: Volume) -> None:
    masks = np.zeros((2, *SHAPE), np.float32)
    masks[0, :4], masks[1, 2:4, :3] = 1, 1
    meaning = Meaning("segmentation", ("background", "whole", "core"), ("whole", "core"), 3, 1)
    answer = make_answer({"pred": given(masks, scan)}, scan, meaning, "b")
    np.testing.assert_array_equal(answer.images["whole"], masks[0])
    np.testing.assert_array_equal(answer.label_map, np.where(masks[1] > 0, 2, masks[0]))
    assert answer.volumes_ml["whole"] == pytest.approx(4 * 60 * abs(np.linalg.det(scan.affine)) / 1000)


def test_an_image_as_the_answer(scan: Volume) -> None:
    values = np.random.default_rng(1).normal(size=(1, *SHAPE)).astype(np.float32)
    answer = make_answer({"pred": given(values, scan)}, scan, Meaning("conversion", (), (), 3, 1), "b")
    assert answer.label_map is None
    np.testing.assert_array_equal(answer.images["pred"], values[0])


def test_another_grid_is_taken_back_by_its_affine(scan: Volume) -> None:
    labels = np.zeros(SHAPE, np.float32)
    labels[2:6, 3:8, 1:5] = 1
    turned = Orientation(axcodes="SPL", labels=None)(given(labels[None], scan))
    assert tuple(turned.shape[1:]) != SHAPE
    np.testing.assert_array_equal(to_input_grid(turned, scan)[0], labels)
    finer = Spacing(pixdim=(0.5, 0.5, 0.5), mode="nearest")(turned)
    assert (to_input_grid(finer, scan)[0] == labels).mean() > 0.95
    assert set(np.unique(to_input_grid(finer, scan))) == {0, 1}


def test_an_image_from_nowhere_has_no_place(scan: Volume) -> None:
    with pytest.raises(GeometryError, match="nothing says where it lies"):
        to_input_grid(torch.zeros(1, 4, 4, 4), scan)
    assert to_input_grid(torch.zeros(SHAPE), scan).shape == (1, *SHAPE)
    assert to_input_grid(torch.zeros(1, 1, *SHAPE), scan).shape == (1, *SHAPE)


def test_a_volume_of_one_slice(scan: Volume) -> None:
    flat = Volume(scan.array[:, :, :1], scan.affine)
    assert to_input_grid(torch.zeros(2, 8, 10), flat).shape == (2, 8, 10, 1)
    assert to_input_grid(torch.zeros(1, 8, 10, 1), flat).shape == (1, 8, 10, 1)


@pytest.mark.parametrize(
    ("values", "labels", "expected"),
    [
        ([0.2, 0.8], ("a", "b"), {"a": 0.2, "b": 0.8}),
        ([0.0, float(np.log(3))], ("a", "b"), {"a": 0.25, "b": 0.75}),
        ([0.9], ("no", "yes"), {"no": 0.1, "yes": 0.9}),
        ([0.5, 0.3, 0.2], ("a",), {"0": 0.5, "1": 0.3, "2": 0.2}),
        ([0.0, 1.1], ("a", "b"), {"a": 1 / (1 + np.exp(1.1)), "b": 1 / (1 + np.exp(-1.1))}),
    ],
)
def test_classes(scan: Volume, values: list[float], labels: tuple[str, ...], expected: dict[str, float]) -> None:
    meaning = Meaning("classification", labels, (), 3, 1)
    answer = make_answer({"pred": torch.tensor(values)}, scan, meaning, "b")
    assert answer.probabilities == pytest.approx(expected)
    assert answer.label == max(expected, key=lambda name: expected[name])


def test_numbers_points_and_boxes(scan: Volume) -> None:
    number = Meaning("regression", (), (), 3, 1)
    assert make_answer({"pred": torch.tensor([71.5])}, scan, number, "b").value == 71.5
    points = make_answer({"pred": torch.ones(2, 10)}, scan, number, "b")
    assert points.details == {"pred": [[1.0] * 10] * 2}
    boxes = make_answer({"pred": {"box": torch.ones(1, 6), "score": torch.ones(1)}}, scan, number, "b")
    assert (boxes.details == {"pred_box": [[1.0] * 6]} and boxes.value is None) or boxes.details["pred_box"]


def test_what_cannot_be_an_answer(scan: Volume) -> None:
    with pytest.raises(DataError, match="not finite"):
        make_answer({"pred": given(np.full((1, *SHAPE), np.nan), scan)}, scan, SEGMENTATION, "b")
    with pytest.raises(DataError, match="not finite"):
        make_answer({"pred": torch.tensor([float("inf")])}, scan, SEGMENTATION, "b")
    with pytest.raises(BundleError, match="nothing came out"):
        make_answer({}, scan, SEGMENTATION, "b")


def test_file_names() -> None:
    assert file_name("tumor core / left") == "tumor_core_left"
    assert file_name("../..") == "output"
