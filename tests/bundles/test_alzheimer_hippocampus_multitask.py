"""What is special about this bundle: one id chooses between labelling a crop and classifying a person."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from medresnet3d.bundle.load import load_config, load_network
from medresnet3d.bundle.registry import find_bundle, read_metadata
from medresnet3d.bundle.uses import metadata_of_use
from medresnet3d.data.phantoms.hippocampus import hippocampus_phantom, write_hippocampus_cohort
from medresnet3d.engines import load_checkpoint
from medresnet3d.networks.hippocampus import HippocampusClassifier
from medresnet3d.networks.residual_unet import ResidualUNet
from medresnet3d.workflows.predictor import Predictor
from medresnet3d.workflows.train import train

BUNDLE = find_bundle("alzheimer_hippocampus_multitask")
WEIGHTS = BUNDLE / "models" / "model.pt"
CLASSIFY: dict[str, Any] = {"task": "classification", "align": False, "voxel_size_mm": 4.0, "region": [12, 24, 16]}
CLASSIFY |= {"patch_size": [8, 12, 8], "max_epochs": 1, "trunk_epochs": 1, "joint_epochs": 1, "batch_size": 4}


def network(**overrides: Any) -> torch.nn.Module:
    built: torch.nn.Module = load_config(BUNDLE, ("inference.json",), overrides).get_parsed_content("network_def")
    return built


def test_task_and_size_are_one_id_each() -> None:
    with torch.device("meta"):
        assert isinstance(network(), ResidualUNet)
        for size in ("slim", "paper"):
            built = network(task="classification", size=size, num_classes=3)
            assert isinstance(built, HippocampusClassifier)
            assert built.classifier.out_features == 3


def test_the_network_of_the_other_use_takes_and_gives_what_metadata_says() -> None:
    ports = metadata_of_use(read_metadata(BUNDLE), "classification")["network_data_format"]
    image = ports["inputs"]["image"]
    with torch.inference_mode():
        built = network(task="classification").eval()
        answer = built(torch.rand(1, image["num_channels"], *image["spatial_shape"]))
    assert answer.shape == (1, ports["outputs"]["pred"]["num_channels"])


def test_shipped_weights_are_small_plain_half_precision_tensors() -> None:
    state = torch.load(WEIGHTS, weights_only=True)
    assert {value.dtype for value in state.values()} <= {torch.float16, torch.int64}
    network().load_state_dict(state)


def test_shipped_weights_give_the_logits_they_always_gave() -> None:
    """Of seeded noise: means of the three classes; computed when the weights were new."""
    image = torch.randn(1, 1, 16, 24, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = load_network("alzheimer_hippocampus_multitask")(image)
    expected = torch.tensor([9.64106, -5.87475, -6.45997])
    torch.testing.assert_close(logits.mean((0, 2, 3, 4)), expected, atol=1e-3, rtol=0)


def test_a_crop_gets_labels_on_its_own_grid_whatever_its_voxels_and_scale(tmp_path: Path) -> None:
    phantom = hippocampus_phantom(0)
    predictor = Predictor("alzheimer_hippocampus_multitask", device="cpu")
    maps = []
    for name, image, affine in (
        ("plain", phantom.image, phantom.affine),
        ("bright", phantom.image.astype(np.float32) * 300 + 7, phantom.affine),
        ("turned", phantom.image.transpose(2, 0, 1)[:, ::-1].copy(), None),
    ):
        if affine is None:
            affine = phantom.affine[:, [2, 0, 1, 3]] @ np.diag([1, -1, 1, 1.0])
            affine[0, 3] = phantom.image.shape[0]
        nib.save(nib.Nifti1Image(image, affine), tmp_path / f"{name}.nii.gz")
        maps.append(predictor(str(tmp_path / f"{name}.nii.gz")).pred)
        assert maps[-1].shape == image.shape
    assert np.mean(maps[0] != maps[1]) < 0.002
    assert np.mean(maps[0] != maps[2][:, ::-1].transpose(1, 2, 0)) < 0.002


def test_the_classifier_trains_in_stages_from_the_shipped_weights_and_answers(tmp_path: Path) -> None:
    manifest = write_hippocampus_cohort(tmp_path / "cohort", people=15, size=36, masked=2)
    overrides = {**CLASSIFY, "pretrained": str(WEIGHTS), "freeze_until": "stage1"}
    run = train(BUNDLE, manifest, tmp_path / "run", set=overrides, device="cpu")
    state = load_checkpoint(run / "checkpoints" / "best.pt")["network"]
    shipped = {f"segmenter.{name}": value for name, value in torch.load(WEIGHTS, weights_only=True).items()}
    same = {name for name, value in shipped.items() if torch.equal(value.float(), state[name].float())}
    assert {name for name in shipped if "down1" in name or "down2" in name} <= same
    assert not [name for name in same if "down3" in name and name.endswith("conv1.weight")]
    assert sorted(path.name for path in (run / "stages").iterdir()) == ["multitask", "patches", "together"]
    metadata = json.loads((run / "bundle" / "configs" / "metadata.json").read_text())
    assert metadata["task"] == "classification" and "uses" not in metadata
    scan = next(iter((tmp_path / "cohort").rglob("*.nii")))
    prediction = Predictor(str(run), device="cpu")(str(scan))
    assert set(prediction.probabilities) == {"CN", "AD"}
    assert sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-5)
