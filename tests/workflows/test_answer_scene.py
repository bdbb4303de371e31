from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from nibabel.affines import apply_affine
from PIL import Image

from medresnet3d.io import Volume, load
from medresnet3d.reports import classification_card
from medresnet3d.transforms.picture_pipelines import picture_inference
from medresnet3d.workflows.answer_scene import answer_scene
from medresnet3d.workflows.prediction import Prediction
from tests.workflows.conftest import OBLIQUE, orthogonal

SCAN = orthogonal(OBLIQUE)


def crop(corner: tuple[float, float, float], size: int = 8, mm: float = 1.0) -> MetaTensor:
    """What a network saw: a cube in RAS+ order whose first voxel lies at ``corner`` of the scan's grid."""
    affine = np.diag([mm, mm, mm, 1.0])
    affine[:3, 3] = apply_affine(SCAN, corner)
    return MetaTensor(np.zeros((1, size, size, size), dtype=np.float32), affine=torch.as_tensor(affine))


def prediction(seen: MetaTensor | None) -> Prediction:
    array = np.random.default_rng(0).normal(size=(40, 50, 45)).astype(np.float32)
    volume = Volume(array, SCAN, modality="CT")
    return Prediction("case", "classification", ("a", "b"), volume=volume, affine=SCAN, input_tensor=seen)


def test_the_scan_is_shown_around_what_the_network_saw() -> None:
    given = prediction(crop((20, 25, 22)))
    heat = np.zeros((8, 8, 8), dtype=np.float32)
    heat[5, 2, 6] = 1.0
    scene = answer_scene(given, heat, "CT")
    assert scene is not None and scene.heat is not None and given.volume is not None and given.input_tensor is not None
    assert scene.modality == "CT" and scene.pixels.shape < given.volume.array.shape
    start = apply_affine(np.linalg.inv(SCAN), scene.affine[:3, 3]).round().astype(int)
    part = tuple(slice(a, a + n) for a, n in zip(start, scene.pixels.shape, strict=True))
    np.testing.assert_array_equal(scene.pixels, given.volume.array[part])
    warmest = np.unravel_index(scene.heat.argmax(), scene.heat.shape)
    expected = apply_affine(np.asarray(given.input_tensor.affine), (5, 2, 6))
    assert np.linalg.norm(apply_affine(scene.affine, warmest) - expected) < 2.0
    # All corners of what the network saw are in the picture, with room around them.
    corners = apply_affine(np.asarray(given.input_tensor.affine), np.array(list(np.ndindex(2, 2, 2))) * 7)
    inside = apply_affine(np.linalg.inv(scene.affine), corners)
    assert (inside > 0).all() and (inside < np.asarray(scene.pixels.shape) - 1).all()


@pytest.mark.parametrize("corner", [(-300, 25, 22), (20, 400, 22)])
def test_what_lies_elsewhere_is_shown_itself(corner: tuple[float, float, float]) -> None:
    heat = np.ones((8, 8, 8), dtype=np.float32)
    scene = answer_scene(prediction(crop(corner)), heat, "CT")
    assert scene is not None and scene.pixels.shape == (8, 8, 8)
    assert scene.heat is heat and scene.modality is None


def test_nothing_is_shown_of_an_input_that_was_not_kept() -> None:
    assert answer_scene(prediction(None), None, "CT") is None


def test_a_scene_without_heat() -> None:
    scene = answer_scene(prediction(crop((20, 25, 22))), None, None)
    assert scene is not None and scene.heat is None


def test_a_photograph_is_shown_whole_upright_and_in_colour_with_the_heat_in_its_place(tmp_path: Path) -> None:
    pixels = np.zeros((40, 60, 3), dtype=np.uint8)  # rows, columns
    pixels[:4, :4] = (250, 10, 20)
    pixels[30:34, 40:44] = (0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    volume = load(tmp_path / "a.png")
    seen = picture_inference(20, frame="square")({"image": volume})["image"]
    spot = torch.as_tensor(seen)[2] - torch.as_tensor(seen)[0]  # bluest where the network's picture has the blue spot
    heat = (spot == spot.max()).numpy().astype(np.float32)
    given = Prediction("case", "classification", ("a", "b"), volume=volume, affine=volume.affine, input_tensor=seen)
    scene = answer_scene(given, heat, "dermoscopy")
    assert scene is not None and scene.heat is not None and scene.affine is None
    card = classification_card("case", scene.pixels, [0.2, 0.8], ["a", "b"], heat=scene.heat, scroll=False)
    assert card.view is not None
    (plane,) = card.view.planes
    assert plane.name == "image" and not any(plane.letters)
    shown = np.asarray(Image.open(io.BytesIO(plane.image)).resize((60, 40), Image.Resampling.NEAREST))
    assert shown[1, 1].tolist() == [250, 10, 20] and shown[32, 42].tolist() == [0, 0, 255]
    columns, rows = np.unravel_index(scene.heat.argmax(), scene.heat.shape)[:2]
    assert 29 <= 39 - rows <= 34 and 39 <= columns <= 44
