from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image
from scipy.ndimage import center_of_mass
from torch import nn

from medresnet3d import Predictor, infer
from medresnet3d.data.phantoms.nodule_cubes import DISTRACTORS, nodule_cube
from medresnet3d.errors import ConfigError
from medresnet3d.io import Source, Volume, load
from medresnet3d.networks.classifier import build_classifier
from medresnet3d.networks.slice_vote import SliceVote
from medresnet3d.reports.attention import class_map
from medresnet3d.transforms.brain_slices import SlicesToChannelsd
from medresnet3d.workflows.answer_files import write_answer
from medresnet3d.workflows.answer_scene import answer_scene, heat_on_scan
from medresnet3d.workflows.explanation import add_explanation, explain
from medresnet3d.workflows.prediction import Prediction
from tests.reports.test_attention import FlatSpotNet
from tests.workflows.conftest import OBLIQUE, orthogonal, save_scan

METHODS = ("gradcam", "occlusion")


@pytest.mark.parametrize("method", METHODS)
def test_infer_writes_the_heat_on_the_scans_own_grid(method: str, classifier: Path, tmp_path: Path) -> None:
    save_scan(tmp_path / "scan.nii.gz", shape=(24, 26, 22))
    centre = (orthogonal(OBLIQUE) @ [11.5, 12.5, 10.5, 1])[:3]
    summary = infer(classifier, tmp_path / "scan.nii.gz", tmp_path / "out", at=centre, explain=method)
    (row,) = summary.rows
    assert row["files"] == ["scan_explanation.nii.gz"]
    assert row["details"]["explanation"] == {"method": method, "class": row["label"]}
    heat = load(tmp_path / "out" / "scan_explanation.nii.gz")
    np.testing.assert_allclose(heat.affine, orthogonal(OBLIQUE), atol=1e-4)
    assert heat.shape == (24, 26, 22)
    assert heat.array.min() >= 0 and 0.2 < heat.array.max() <= 1
    assert heat.array[0].max() == heat.array[-1].max() == 0, "outside of the cube that the network saw"
    assert "attention" in (tmp_path / "out" / "report.html").read_text()


def test_the_report_shows_the_method_that_was_asked_for(classifier: Path, tmp_path: Path) -> None:
    save_scan(tmp_path / "scan.nii.gz", shape=(24, 26, 22))
    predictor = Predictor(classifier, device="cpu")
    centre = (orthogonal(OBLIQUE) @ [11.5, 12.5, 10.5, 1])[:3]
    prediction = predictor(str(tmp_path / "scan.nii.gz"), position=centre, keep_input=True)
    add_explanation(predictor, prediction, "occlusion")
    assert prediction.heat is not None
    np.testing.assert_array_equal(prediction.heat, explain(predictor, prediction, "occlusion"))
    assert not np.array_equal(prediction.heat, explain(predictor, prediction, "gradcam"))


def test_unknown_method_and_other_tasks_are_usage_errors(classifier: Path, thresholder: Path, tmp_path: Path) -> None:
    save_scan(tmp_path / "scan.nii.gz")
    with pytest.raises(ConfigError, match="choose one of gradcam, occlusion, evidence"):
        infer(classifier, tmp_path / "scan.nii.gz", tmp_path / "out", explain="saliency")
    with pytest.raises(ConfigError, match="a bundle for segmentation"):
        infer(thresholder, tmp_path / "scan.nii.gz", tmp_path / "out", explain="gradcam")
    assert not (tmp_path / "out").exists()


def test_a_network_without_feature_maps_gets_a_warning_and_its_answer(classifier: Path) -> None:
    predictor = Predictor(classifier, device="cpu")
    assert predictor.parts is not None
    predictor.parts.network = nn.Sequential(nn.Flatten(), nn.Linear(8**3, 2))
    seen = MetaTensor(torch.rand(1, 8, 8, 8))
    prediction = Prediction("a", "classification", ("x", "y"), probabilities={"x": 0.1, "y": 0.9}, label="y")
    prediction.input_tensor = seen
    add_explanation(predictor, prediction, "gradcam")
    assert prediction.images == {}
    assert "No heat map was made: Grad-CAM found no spatial feature maps" in prediction.warnings[0]


def test_the_place_of_the_heat_survives_the_way_to_the_scan() -> None:
    scan = orthogonal(OBLIQUE)
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = nib.affines.apply_affine(scan, (15, 20, 18))
    heat = np.zeros((12, 12, 12), dtype=np.float32)
    heat[3:6, 7:10, 4:7] = 1.0
    prediction = Prediction("a", "classification", ("x", "y"), heat=heat)
    prediction.input_tensor = MetaTensor(torch.zeros(1, 12, 12, 12), affine=torch.as_tensor(affine))
    prediction.volume = Volume(np.zeros((40, 50, 45), dtype=np.float32), scan)
    found = heat_on_scan(prediction)
    assert found is not None and found.shape == (40, 50, 45)
    middle = nib.affines.apply_affine(scan, center_of_mass(found))
    np.testing.assert_allclose(middle, nib.affines.apply_affine(affine, (4, 8, 5)), atol=0.5)


def test_nothing_is_written_of_what_lies_elsewhere(classifier: Path) -> None:
    predictor = Predictor(classifier, device="cpu")
    affine = torch.eye(4, dtype=torch.float64)
    affine[:3, 3] = 9000.0
    prediction = Prediction("a", "classification", ("x", "y"), probabilities={"x": 0.1, "y": 0.9}, label="y")
    prediction.input_tensor = MetaTensor(torch.rand(1, 16, 16, 16), affine=affine)
    prediction.volume = Volume(np.zeros((20, 20, 20), dtype=np.float32), np.eye(4))
    add_explanation(predictor, prediction, "gradcam")
    assert prediction.warnings == ["No heat map was written: what the network saw does not lie on the scan's grid."]


def test_the_heat_of_a_picture_is_a_picture_of_its_size(tmp_path: Path, classifier: Path) -> None:
    pixels = np.zeros((30, 20, 1), dtype=np.uint8)  # 30 columns, 20 rows
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    volume = Volume(pixels, affine, None, (), Source(tmp_path / "lesion.jpg", (tmp_path / "lesion.jpg",), "image"))
    heat = np.zeros((15, 10), dtype=np.float32)
    heat[12, 2] = 1.0
    halved = np.diag([-2.0, -2.0, 1.0])
    halved[:2, 2] = -0.5
    prediction = Prediction("lesion", "classification", ("x", "y"), heat=heat, volume=volume)
    prediction.input_tensor = MetaTensor(torch.zeros(1, 15, 10))
    prediction.input_tensor.affine = torch.as_tensor(halved)
    found = heat_on_scan(prediction)
    assert found is not None
    prediction.images["explanation"] = found
    (file,) = write_answer(prediction, Predictor(classifier, device="cpu"), tmp_path, None)
    assert file == tmp_path / "lesion_explanation.png"
    picture = np.asarray(Image.open(file))
    assert picture.shape == (20, 30)
    row, column = np.unravel_index(picture.argmax(), picture.shape)
    assert abs(column - 24.5) <= 0.5 and abs(row - 4.5) <= 0.5


def test_slices_that_vote_have_their_heat_on_their_own_slices_of_the_scan(classifier: Path) -> None:
    predictor = Predictor(classifier, device="cpu")
    assert predictor.parts is not None
    predictor.parts.network = SliceVote(FlatSpotNet())
    scan = np.zeros((20, 22, 12), dtype=np.float32)
    scan[5:9, 12:16, 7] = 1.0
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    seen = MetaTensor(torch.from_numpy(scan)[None], affine=torch.from_numpy(affine))
    prediction = Prediction("a", "classification", ("x", "y"), probabilities={"x": 0.1, "y": 0.9}, label="y")
    prediction.input_tensor = SlicesToChannelsd("image")({"image": seen})["image"]
    prediction.volume = Volume(scan, affine)
    add_explanation(predictor, prediction, "gradcam")
    np.testing.assert_allclose(center_of_mass(prediction.images["explanation"]), (6.5, 13.5, 7), atol=0.3)
    scene = answer_scene(prediction, prediction.heat, None)
    assert scene is not None and scene.heat is not None and scene.pixels.shape == scene.heat.shape == scan.shape
    prediction.volume = None
    alone = answer_scene(prediction, prediction.heat, None)
    assert alone is not None
    np.testing.assert_array_equal(alone.pixels, scan)


def shifted_cubes(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Cubes of 32 mm around points up to 8 mm off what they hold; images, labels and masks of the nodules."""
    rng = np.random.default_rng(seed)
    images, labels, masks = [], [], []
    for number in range(count):
        label = number % 2
        kind = "solid_smooth" if label else str(rng.choice(DISTRACTORS))
        cube, mask = nodule_cube([seed, number], kind, 48)
        start = rng.integers(0, 17, 3)
        part = tuple(slice(s, s + 32) for s in start)
        images.append(torch.from_numpy(((cube[part].astype(np.float32) + 1000) / 1400).clip(0, 1))[None])
        labels.append(label)
        masks.append(mask[part] > 0)
    return torch.stack(images), torch.tensor(labels), np.stack(masks)


@pytest.mark.slow
def test_the_heat_lies_on_the_nodule_more_than_chance(tmp_path: Path) -> None:
    """Chance is the heat of the same nodules under the masks of others: it knows where nodules usually are."""
    torch.manual_seed(0)
    images, labels, _ = shifted_cubes(240, 1)
    network = build_classifier("resnet10", 3, 1, 2, width=0.125)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=200)
    generator = torch.Generator().manual_seed(2)
    for _ in range(200):
        chosen = torch.randint(len(images), (16,), generator=generator)
        loss = nn.functional.cross_entropy(network.train()(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    held_out, truth, masks = shifted_cubes(120, 2)
    with torch.no_grad():
        right = network.eval()(held_out).argmax(1) == truth
    assert right.float().mean() > 0.75
    seen = [index for index in range(120) if truth[index] and right[index] and masks[index].sum() > 60]
    assert len(seen) >= 30
    for method, cases in (("gradcam", seen), ("occlusion", seen[:12])):
        own, chance = [], []
        for index in cases:
            heat = class_map(network, held_out[index : index + 1], 1, method=method)  # type: ignore[arg-type]
            own.append(heat[masks[index]].mean() / heat.mean())
            chance.append(np.mean([heat[masks[other]].mean() / heat.mean() for other in seen if other != index]))
        difference = np.array(own) - np.array(chance)
        lowest = difference.mean() - 1.96 * difference.std(ddof=1) / len(difference) ** 0.5
        print(f"{method}: {np.mean(own):.2f} on the nodule, {np.mean(chance):.2f} by chance, n = {len(cases)}")
        assert lowest > 0
