"""The node is the layer that carries the class, and what is trained begins behind it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from medresnet3d.data import SeededDataset
from medresnet3d.engines.node_fit import AfterNode, FitNode
from medresnet3d.engines.staged import training_only
from medresnet3d.errors import ConfigError
from medresnet3d.networks.classifier_base import ClassifierBase
from medresnet3d.networks.fine_tuned import FineTunedClassifier
from tests.engines.test_layer_probing import Product

LAYERS = [f"stages.{number}" for number in range(4)]


class Backbone(ClassifierBase):
    """Four stages of which one turns the class, the sign of a product of two channels, into something linear."""

    def __init__(self, carrier: int) -> None:
        super().__init__(2)
        self.carrier = carrier
        self.stages = nn.ModuleList(nn.Conv2d(2, 2, 1) for _ in range(4))
        for stage in self.stages:
            nn.init.eye_(stage.weight[:, :, 0, 0].detach())
            nn.init.zeros_(stage.bias)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.finish(2, 2)

    def feature_map(self, x: Tensor) -> Tensor:
        found = torch.empty(0)
        for number, stage in enumerate(self.stages):
            product = x[:, :1] * x[:, 1:]
            found = stage(torch.cat([product, product], 1) if number == self.carrier else x)
        return found


def network(carrier: int) -> FineTunedClassifier:
    torch.manual_seed(0)
    return FineTunedClassifier(Backbone(carrier), hidden=8, layers=LAYERS)


@pytest.fixture(scope="module")
def dataset() -> SeededDataset:
    return SeededDataset(Product().data)


@pytest.mark.parametrize("carrier", range(4))
def test_the_layer_that_carries_the_class_becomes_the_node(
    carrier: int, dataset: SeededDataset, tmp_path: Path
) -> None:
    own = network(carrier)
    FitNode(dataset, dataset.transform, folds=3)(own, tmp_path)
    assert own.node_layer == f"network.stages.{carrier}"
    scores = {
        line.split(",")[0]: float(line.split(",")[2]) for line in (tmp_path / "layers.csv").read_text().split()[1:]
    }
    assert list(scores) == LAYERS and max(scores, key=lambda layer: scores[layer]) == f"stages.{carrier}"


def test_what_lies_behind_the_node_is_trained_and_nothing_else(dataset: SeededDataset) -> None:
    own = network(1)
    own.node.fill_(1)
    with training_only(own, AfterNode(dataset)(own)):
        trained = {name for name, parameter in own.named_parameters() if parameter.requires_grad}
    new = {f"{layer}.{kind}" for layer in ("hidden", "classifier") for kind in ("weight", "bias")}
    assert trained == new | {f"network.stages.{number}.{kind}" for number in (2, 3) for kind in ("weight", "bias")}


def test_without_a_node(dataset: SeededDataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no node yet"):
        AfterNode(dataset)(network(0))
    with pytest.raises(ConfigError, match="Linear has no node to fine-tune from"):
        FitNode(dataset, dataset.transform)(nn.Linear(2, 2), tmp_path)
