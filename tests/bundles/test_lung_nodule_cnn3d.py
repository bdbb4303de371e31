"""What is special about this bundle: the architecture is one id, and it learns to tell nodules from look-alikes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.optim.lr_scheduler import OneCycleLR

from medresnet3d.bundle.load import load_config
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.data import items
from medresnet3d.data.phantoms.cube_cohort import write_nodule_cubes

BUNDLE = find_bundle("lung_nodule_cnn3d")
ARCHITECTURES = ("resnet18", "resnet50", "densenet121", "vgg16", "vgg19", "mobilenet_v1", "xception")


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_architecture_is_one_id(arch: str) -> None:
    parsers = [load_config(BUNDLE, (name,), {"arch": arch}) for name in ("train.json", "inference.json")]
    networks = [parser.get_parsed_content("network_def").eval() for parser in parsers]
    networks[1].load_state_dict(networks[0].state_dict())
    with torch.inference_mode():
        assert networks[1](torch.zeros(1, 1, 32, 32, 32)).shape == (1, 2)


def test_train_and_inference_share_the_ids_that_shape_network_and_input() -> None:
    train, inference = (
        json.loads((BUNDLE / "configs" / f"{name}.json").read_text()) for name in ("train", "inference")
    )
    shared = (
        "arch",
        "size",
        "width",
        "stem_stride",
        "activation",
        "normalisation",
        "dropout",
        "dropconnect",
        "num_classes",
        "crop_size_mm",
        "voxel_size_mm",
        "intensity_range",
        "precision",
    )
    assert {key: train[key] for key in shared} == {key: inference[key] for key in shared}
    assert train["network_def"] == inference["network_def"]
    assert train["validate"]["preprocessing"] == inference["preprocessing"]


def test_the_default_parts_are_adamw_one_cycle_and_cross_entropy() -> None:
    parser = load_config(BUNDLE, ("train.json",), {"device": "cpu", "steps": 30, "data": "none"})
    optimizer = parser.get_parsed_content("optimizer")
    assert isinstance(optimizer, torch.optim.AdamW)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0]
    schedule = parser.get_parsed_content("lr_scheduler")
    assert isinstance(schedule, OneCycleLR) and schedule.total_steps == 30
    output, label = torch.randn(4, 2), torch.tensor([0, 1, 1, 0])
    loss = parser.get_parsed_content("loss")(output, label)
    assert torch.equal(loss, torch.nn.functional.cross_entropy(output, label))


@pytest.mark.slow
def test_learns_nodules_from_phantoms(tmp_path: Path) -> None:
    manifest = write_nodule_cubes(tmp_path / "cubes", cubes=300, size=40, seed=3)
    overrides = {"data": str(manifest), "output_dir": str(tmp_path / "run"), "val_interval": 30}
    parser = load_config(BUNDLE, ("train.json",), overrides)
    parser.get_parsed_content("initialize")
    parser.get_parsed_content("train#trainer").run()
    network = parser.get_parsed_content("network").eval().cpu()
    transform = parser.get_parsed_content("validate#preprocessing")
    test = items(manifest, "test")
    with torch.inference_mode():
        scores = [network(transform(item)["image"].as_tensor()[None]).softmax(1)[0, 1].item() for item in test]
    assert roc_auc_score([item["label"] for item in test], scores) > 0.85
