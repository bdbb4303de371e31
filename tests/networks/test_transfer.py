from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from medresnet3d.errors import ConfigError, WeightsError
from medresnet3d.networks.classifier import ARCHITECTURES, build_classifier
from medresnet3d.networks.ensembles import build_ensemble
from medresnet3d.networks.msresnet import build_msresnet
from medresnet3d.networks.multi_view import build_multi_view
from medresnet3d.networks.regressor import build_regressor
from medresnet3d.networks.svm_classifier import build_svm_classifier
from medresnet3d.networks.transfer import freeze_depths, start_from
from medresnet3d.networks.trunks import trunks_of

EDGE = {"alexnet": 35, "inception_v3": 39, "inception_v4": 39}


def small(arch: str = "resnet18", spatial_dims: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return build_classifier(arch, spatial_dims, 1, 2, width=0.03125, stem_stride=1)


def train_two_steps(network: nn.Module, edge: int = 32) -> None:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, weight_decay=0.1)
    generator = torch.Generator().manual_seed(1)
    for _ in range(2):
        network.train()
        optimizer.zero_grad()
        image = torch.rand(4, 1, edge, edge, generator=generator)
        nn.functional.cross_entropy(network(image), torch.tensor([0, 1, 0, 1])).backward()
        optimizer.step()


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_parameter_but_the_head_belongs_to_one_stage(arch: str) -> None:
    with torch.device("meta"):
        network = build_classifier(arch, 2, 1, 2, width=0.03125)
    patterns = network.stage_patterns()
    depths = freeze_depths(network)
    assert list(depths) == ["none", "stem", *(f"stage{n}" for n in range(1, len(patterns))), "all_but_head"]
    frozen_before = 0
    for name in list(depths)[1:]:
        network.freeze(depths[name])
        frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
        assert len(frozen) > frozen_before or name == "all_but_head"
        frozen_before = len(frozen)
    trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    assert trained == ["classifier.weight", "classifier.bias"]
    network.freeze(depths[list(depths)[-2]])
    assert [name for name, parameter in network.named_parameters() if parameter.requires_grad] == trained
    network.freeze("")
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("arch", ["resnet18", "densenet121", "vgg16_bn", "googlenet", "inception_v4", "xception"])
@pytest.mark.parametrize("depth", ["stem", "stage2", "all_but_head"])
def test_frozen_stages_keep_weights_and_statistics_and_the_others_learn(arch: str, depth: str) -> None:
    network = start_from(small(arch), freeze_until=depth)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    train_two_steps(network, EDGE.get(arch, 32))
    pattern = freeze_depths(network)[depth]
    frozen = {name for name in before if network._is_frozen(name)}
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert frozen
    assert not changed & frozen
    assert "classifier.weight" in changed
    if depth != "all_but_head":
        assert any(name.endswith("running_mean") for name in changed)
    assert network.frozen == pattern


def test_a_free_network_learns_everywhere() -> None:
    network = start_from(small())
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    train_two_steps(network)
    same = [name for name, tensor in network.state_dict().items() if torch.equal(tensor, before[name])]
    assert not same


def test_eval_and_train_mode_come_back_for_the_rest() -> None:
    network = start_from(small(), freeze_until="stage1")
    network.eval().train()
    assert not network.bn1.training
    assert not network.layer1[0].bn1.training
    assert network.layer2[0].bn1.training


def test_weights_of_an_earlier_training_are_the_start(tmp_path: Path) -> None:
    source = small()
    torch.save(source.state_dict(), tmp_path / "model.pt")
    network = build_classifier("resnet18", 2, 1, 6, width=0.03125, stem_stride=1)
    assert start_from(network, tmp_path / "model.pt") is network
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name]) != name.startswith("classifier")


def test_unknown_depth_lists_them() -> None:
    with pytest.raises(ConfigError, match=r"none, stem, stage1, stage2, stage3, stage4, all_but_head.*'stage4'"):
        start_from(small(), freeze_until="stage5")
    with pytest.raises(ConfigError, match="no stages"):
        start_from(nn.Linear(2, 2), freeze_until="stem")


def test_nothing_is_downloaded() -> None:
    with pytest.raises(ConfigError, match="download the file"):
        start_from(small(), "https://example.org/resnet18.pth")


def test_pretrained_file_that_is_absent(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such weights file"):
        start_from(small(), tmp_path / "absent.pt")


def test_a_frozen_network_is_scripted_and_copied() -> None:
    network = start_from(small(), freeze_until="stage2").eval()
    image = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image))


@pytest.mark.parametrize(
    "build",
    [
        lambda: build_multi_view("resnet10", width=0.03125),
        lambda: build_msresnet(2, size="slim"),
        lambda: build_svm_classifier("resnet10", in_channels=3, width=0.03125),
        lambda: build_regressor("resnet10", spatial_dims=2, in_channels=3, width=0.03125),
    ],
    ids=["views", "slices", "svm", "number"],
)
@pytest.mark.parametrize("depth", ["stage1", "all_but_head"])
def test_every_trunk_is_frozen(build: Callable[[], nn.Module], depth: str) -> None:
    torch.manual_seed(0)
    network = start_from(build(), freeze_until=depth)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, weight_decay=0.1)
    generator = torch.Generator().manual_seed(1)
    for _ in range(2):
        network.train()
        optimizer.zero_grad()
        network(torch.rand(4, 3, 32, 32, generator=generator)).square().sum().backward()
        optimizer.step()
    frozen = {
        prefix + name
        for prefix, trunk in trunks_of(network).items()
        for name in trunk.state_dict()
        if trunk._is_frozen(name)
    }
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert frozen and not changed & frozen
    assert any("classifier" in name for name in changed)
    assert any(name.endswith("running_mean") for name in changed) == (depth == "stage1")


def test_dropout_in_front_of_a_head_that_learns_is_not_frozen() -> None:
    network = start_from(small(), freeze_until="all_but_head").train()
    assert network.dropout.training and not network.bn1.training


def test_networks_of_an_ensemble_start_from_weights_of_their_own(tmp_path: Path) -> None:
    names = ["resnet10", "vgg11_bn"]
    torch.manual_seed(1)
    published = [build_classifier(name, 2, 3, 5, width=0.03125) for name in names]
    for name, network in zip(names, published, strict=True):
        torch.save(network.state_dict(), tmp_path / f"{name}.pt")
    files = [tmp_path / f"{name}.pt" for name in names]
    ensemble = start_from(build_ensemble(names, num_classes=2, width=0.03125), files, freeze_until="stem")
    for member, network in zip(ensemble.members, published, strict=True):
        kept = member.state_dict()
        assert all(torch.equal(kept[k], v) for k, v in network.state_dict().items() if "classifier" not in k)
    ensemble = start_from(build_ensemble(names, num_classes=2, width=0.03125), [None, files[1]])
    first, second = (member.state_dict() for member in ensemble.members)
    assert torch.equal(second["features.0.weight"], published[1].state_dict()["features.0.weight"])
    assert not torch.equal(first["conv1.weight"], published[0].state_dict()["conv1.weight"])
    with pytest.raises(ConfigError, match="lists 1 weights, but the network is made of 2"):
        start_from(ensemble, files[:1])


def test_a_run_with_other_classes_gives_its_trunk_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Even where the classes are as many; the same classes in the same order keep the last layer too."""
    earlier = small()
    for folder in ("models", "configs"):
        (tmp_path / "bundle" / folder).mkdir(parents=True)
    torch.save(earlier.state_dict(), tmp_path / "bundle" / "models" / "model.pt")
    (tmp_path / "bundle" / "configs" / "metadata.json").write_text(json.dumps({"labels": {"0": "a", "1": "b"}}))
    torch.manual_seed(9)
    fresh = build_classifier("resnet18", 2, 1, 2, width=0.03125, stem_stride=1)
    random_head = fresh.classifier.weight.clone()
    with caplog.at_level("INFO"):
        start_from(fresh, tmp_path, class_names=["a", "c"])
    assert torch.equal(fresh.conv1.weight, earlier.conv1.weight)
    assert torch.equal(fresh.classifier.weight, random_head)
    assert "was trained for the classes a, b; what belongs to classes starts at random" in caplog.text
    for names in (["a", "b"], None):
        start_from(fresh, tmp_path, class_names=names)
        assert torch.equal(fresh.classifier.weight, earlier.classifier.weight)
