"""Bundles of different networks start from given weights on the command line, and leave frozen stages alone.

That every classifier and regressor has the ids for it is tested in ``test_contract``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from medresnet3d.bundle.load import load_network
from medresnet3d.cli.train import register
from medresnet3d.data.phantoms.cube_cohort import write_nodule_cubes
from medresnet3d.data.phantoms.dermoscopy import write_isic2016
from medresnet3d.data.phantoms.lidc import write_nodule_cohort
from medresnet3d.data.phantoms.mri import write_brain_cohort
from medresnet3d.networks.classifier import build_classifier
from medresnet3d.networks.msresnet import build_msresnet
from tests.cli.application import application
from tests.networks.published import published

State = dict[str, Tensor]


def imagenet(arch: str) -> State:
    """torchvision's names, three channels and a thousand classes, at the width of ``size=slim``."""
    return published(arch, build_classifier(arch, 2, 3, 1000, size="slim"))


def medicalnet() -> State:
    """MedicalNet's names: the prefix of its training, no last layer, the decoder's convolution instead."""
    state = build_classifier("resnet10", 3, 1, 2, size="slim").state_dict()
    trunk = {f"module.{name}": tensor for name, tensor in state.items() if not name.startswith("classifier")}
    return {**trunk, "module.conv_seg.0.weight": torch.zeros(2)}


def earlier() -> State:
    """What a training with two classes left; there are no published weights of this network."""
    return dict(build_msresnet(2, 2, "slim").state_dict())


def brains(folder: Path, collection: str) -> Path:
    return write_brain_cohort(folder, collection, people=15, size=24, turn_degrees=0.0)


GRID = ["align=false", 'voxel_sizes_mm={"slim": 7.0}']
# weights; phantoms; settings; (frozen name in the file, the same in the network)
CASES: dict[str, tuple[Callable[[], State], Callable[[Path], Path], list[str], list[tuple[str, str]]]] = {
    "lung_nodule_multiview_resnet": (
        lambda: imagenet("resnet18"),
        lambda folder: write_nodule_cohort(folder, 12, size=24),
        ["crop_size_mm=20", "curriculum=[]", "batch_size=4"],
        [("layer1.0.conv1.weight", f"trunks.{view}.layer1.0.conv1.weight") for view in range(3)],
    ),
    "lung_nodule_projection_densenet": (
        lambda: imagenet("densenet121"),
        lambda folder: write_nodule_cohort(folder, 12, size=24),
        ["crop_size_mm=32", "batch_size=4"],
        [
            ("features.denseblock1.denselayer1.conv1.weight", "features.denseblock1.denselayer1.layers.conv1.weight"),
            ("features.conv0.weight", "features.conv0.weight"),
        ],
    ),
    "lung_nodule_cnn3d": (
        medicalnet,
        lambda folder: write_nodule_cubes(folder, 12, size=24),
        ["crop_size_mm=20", "batch_size=4", "arch=resnet10", "intensity=medicalnet"],
        [(f"module.{name}", name) for name in ("conv1.weight", "layer1.0.conv2.weight")],
    ),
    "brain_age_resnet3d": (
        medicalnet,
        lambda folder: brains(folder, "ixi"),
        [*GRID, 'grids={"slim": [24, 28, 24]}', "arch=resnet10", "intensity=medicalnet"],
        [(f"module.{name}", f"backbone.{name}") for name in ("conv1.weight", "layer1.0.conv2.weight")],
    ),
    "alzheimer_msresnet": (
        earlier,
        lambda folder: brains(folder, "adni"),
        [*GRID, 'grids={"slim": [[24, 28, 4], [24, 28, 8]]}', "batch_size=4"],
        [("network.stages.0.0.mix.weight",) * 2],
    ),
    "melanoma_resnet_svm": (
        lambda: imagenet("resnet18"),
        lambda folder: write_isic2016(folder, 24, 8, size=(32, 40)),
        ["image_size=32", "svm_folds=3", "batch_size=8"],
        [("conv1.weight", "network.conv1.weight"), ("layer1.1.conv2.weight", "network.layer1.1.conv2.weight")],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_train_from_a_file_on_the_command_line(name: str, tmp_path: Path) -> None:
    make, write, settings, frozen = CASES[name]
    torch.manual_seed(5)
    state = make()
    torch.save(state, tmp_path / "published.pth")
    given = [f"pretrained={tmp_path / 'published.pth'}", "freeze_until=stage1", "max_epochs=1", *settings]
    arguments = ["train", name, "--data", str(write(tmp_path / "data")), "-o", str(tmp_path / "run"), "--device", "cpu"]
    result = CliRunner().invoke(
        application(register), [*arguments, *(part for each in given for part in ("--set", each))]
    )
    assert result.exit_code == 0, result.output
    (tmp_path / "published.pth").unlink()
    trained = load_network(tmp_path / "run").state_dict()
    for theirs, ours in frozen:
        assert torch.equal(trained[ours], state[theirs]), ours
