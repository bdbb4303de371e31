"""What is special about this bundle: two stages in one module, trained in turn, and answers in millimetres."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medresnet3d.bundle.load import load_config, load_network
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.data.phantoms.ct import chest_phantom
from medresnet3d.data.phantoms.dicom import write_dicom_series
from medresnet3d.data.phantoms.luna16 import write_mhd, write_nodule_scans
from medresnet3d.engines import load_checkpoint
from medresnet3d.losses.hybrid_detection import HybridDetectionLoss
from medresnet3d.workflows.predictor import Predictor
from medresnet3d.workflows.train import train
from tests.bundles.as_configured import network_of, parameter_count

BUNDLE = find_bundle("lung_nodule_detection_attention_resnet")


def test_validation_and_inference_prepare_a_scan_alike() -> None:
    config, inference = (load_config(BUNDLE, (f"{name}.json",)) for name in ("train", "inference"))
    prepared = (config["validate::preprocessing"], inference["preprocessing"])
    one, other = ({key: value for key, value in part.items() if key != "_target_"} for part in prepared)
    assert one == other


@pytest.mark.parametrize(
    ("overrides", "parameters", "edges", "cube"),
    [
        ({}, 1_926_123, [20 / 1.5, 20.0, 40 / 1.5], 16),
        ({"size": "paper"}, 7_687_179, [20.0, 30.0, 40.0], 32),
        ({"attention": False}, None, [20 / 1.5, 20.0, 40 / 1.5], 16),
        ({"scales_mm": [30.0]}, None, [20.0], 16),
    ],
)
def test_size_attention_and_scales_are_plain_ids(
    overrides: dict[str, Any], parameters: int | None, edges: list[float], cube: int
) -> None:
    network = network_of(BUNDLE, **overrides)
    assert network.edges == pytest.approx(edges) and network.cube_size == cube
    assert parameters is None or parameter_count(network) == parameters


def test_heads_are_trained_apart_then_together_at_a_tenth_of_the_rate() -> None:
    stages = json.loads((BUNDLE / "configs" / "train.json").read_text())["stages_before"]
    assert [stage["name"] for stage in stages] == ["centres", "masks"]
    parser = load_config(BUNDLE, ("train.json",), {"device": "cpu", "steps": 10, "learning_rate": 0.01})
    together = parser.get_parsed_content("loss")
    assert isinstance(together, HybridDetectionLoss) and together.parts == ["focal", "dice"]
    assert parser.get_parsed_content("joint_learning_rate") == pytest.approx(0.001)
    optimizer, apart = (parser.get_parsed_content(name) for name in ("optimizer", "centre_optimizer"))
    assert optimizer.defaults["lr"] == pytest.approx(apart.defaults["lr"] / 10)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nodule_scans(
        tmp_path_factory.mktemp("chests"), 4, 1, shape=(40, 34, 24), spacing=(4.0, 4.0, 4.0), nodules=2, distractors=2,
        diameters_mm=(14.0, 24.0),
    )  # fmt: skip


TINY = {
    "width": 0.125,
    "voxel_size_mm": 3.0,
    "cube_size": 8,
    "patch_size": [16, 16, 16],
    "patches_per_scan": 2,
    "max_epochs": 1,
    "precision": "fp32",
}


def test_a_run_leaves_all_stages_in_one_state_dict_and_is_resumed_as_it_was(cohort: Path, tmp_path: Path) -> None:
    run = train(BUNDLE, cohort, tmp_path / "run", set=TINY, device="cpu")
    best = load_checkpoint(run / "checkpoints" / "best.pt")["network"]
    stages = {name: load_checkpoint(run / "stages" / name / "checkpoints" / "best.pt")["network"]
              for name in ("centres", "masks", "second")}  # fmt: skip
    for name, value in stages["masks"].items():
        if name.startswith("first.") and not name.startswith("first.masks"):
            assert torch.equal(value, stages["centres"][name]), f"{name}: the masks' head learns alone"
    for name, value in stages["second"].items():
        assert torch.equal(value, best[f"second.{name}"])
    assert any(not torch.equal(best[name], value) for name, value in stages["masks"].items() if "first" in name)
    assert bool(best["scoring"]) and bool(load_network(run).scoring)
    train(BUNDLE, cohort, tmp_path / "run", set=TINY, device="cpu", resume=True)
    again = load_checkpoint(run / "checkpoints" / "best.pt")["network"]
    assert all(torch.equal(value, again[name]) for name, value in best.items())


@pytest.fixture(scope="module")
def eager(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle with weights that have learnt nothing and see candidates everywhere."""
    folder = tmp_path_factory.mktemp("eager") / "bundle"
    shutil.copytree(BUNDLE, folder)
    torch.manual_seed(1)
    network = load_config(folder, ("inference.json",), {}).get_parsed_content("network_def")
    with torch.no_grad():
        network.first.centres.classifier.bias += 4
        network.first.centres.classifier.weight *= 20
    network.scoring.fill_(True)
    (folder / "models").mkdir(exist_ok=True)
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    return folder


def test_the_same_scan_as_metaimage_and_dicom_has_the_same_detections_in_mm(eager: Path, tmp_path: Path) -> None:
    chest = chest_phantom(5, (44, 36, 26), (3.5, 3.5, 3.5), nodules=2, diameters_mm=(14.0, 24.0), centre=(7, -9, 30))
    write_mhd(tmp_path / "scan.mhd", chest.array, chest.affine)
    write_dicom_series(tmp_path / "dicom", chest.array, chest.affine, patient_id="p", study="1")
    find = Predictor(eager, device="cpu", precision="fp32")
    first, second = find(str(tmp_path / "scan.mhd")), find(str(tmp_path / "dicom"))
    assert first.detections is not None and second.detections is not None
    assert 5 < len(first.detections) <= 50
    np.testing.assert_allclose(first.detections, second.detections, atol=0.05)
    inside = np.abs(first.detections[:, :3] - [7, -9, 30]) <= np.array(chest.array.shape) * 3.5 / 2
    assert inside.all(), "in the frame of the scanner"
