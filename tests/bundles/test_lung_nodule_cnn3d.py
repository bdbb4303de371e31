"""What is special about this bundle: the architecture is one id, and it learns to tell nodules from look-alikes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.optim.lr_scheduler import OneCycleLR

from medresnet3d.bundle.load import load_config
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.data import items
from medresnet3d.data.phantoms.cube_cohort import write_nodule_cubes
from tests.bundles.as_configured import answers, learn

BUNDLE = find_bundle("lung_nodule_cnn3d")
ARCHITECTURES = ("resnet18", "resnet50", "densenet121", "vgg16", "vgg19", "mobilenet_v1", "xception")


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_architecture_is_one_id(arch: str) -> None:
    parsers = [load_config(BUNDLE, (name,), {"arch": arch}) for name in ("train.json", "inference.json")]
    networks = [parser.get_parsed_content("network_def").eval() for parser in parsers]
    networks[1].load_state_dict(networks[0].state_dict())
    with torch.inference_mode():
        assert networks[1](torch.zeros(1, 1, 32, 32, 32)).shape == (1, 2)


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


def test_medicalnets_rule_is_one_id_of_training_validation_and_inference(tmp_path: Path) -> None:
    """Mean 0 and deviation 1 over the voxels above 0 of the windowed cube; the others are noise."""
    item = items(write_nodule_cubes(tmp_path, cubes=12, size=40), "test")[0]
    for config, chain, still in (
        ("train.json", "train#preprocessing", {"augmentation": "none"}),
        ("train.json", "validate#preprocessing", {}),
        ("inference.json", "preprocessing", {}),
    ):
        parsers = [load_config(BUNDLE, (config,), {"intensity": name, **still}) for name in ("window", "medicalnet")]
        images = [parser.get_parsed_content(chain)(dict(item))["image"] for parser in parsers]
        window, result = (np.asarray(image) for image in images)
        body = window > 0
        assert body.mean() > 0.5 and window.max() <= 1
        np.testing.assert_allclose(
            result[body], (window[body] - window[body].mean()) / window[body].std(), rtol=1e-3, atol=1e-3
        )
        assert abs(result[body].mean()) < 1e-3 and abs(result[body].std() - 1) < 1e-3


@pytest.mark.slow
def test_learns_nodules_from_phantoms(tmp_path: Path) -> None:
    manifest = write_nodule_cubes(tmp_path / "cubes", cubes=300, size=40, seed=3)
    network, images, labels = learn(BUNDLE, manifest, tmp_path / "run", val_interval=30)
    assert roc_auc_score(labels, answers(network, images).softmax(1)[:, 1]) > 0.85
