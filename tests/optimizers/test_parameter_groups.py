from __future__ import annotations

import torch
from torch import nn

from medresnet3d.networks.classifier import build_classifier
from medresnet3d.optimizers import group_parameters, regularised_parameters


class Scaled(nn.Module):
    """A layer of a type that is not known, with a weight and a scale."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 2))
        self.scale = nn.Parameter(torch.ones(2))


def names(network: nn.Module) -> list[str]:
    chosen = {id(parameter) for parameter in regularised_parameters(network)}
    return [name for name, parameter in network.named_parameters() if id(parameter) in chosen]


def test_weights_alone_are_regularised() -> None:
    norms = [nn.BatchNorm3d(2), nn.InstanceNorm3d(2, affine=True), nn.GroupNorm(1, 2), nn.LayerNorm((2, 2))]
    network = nn.Sequential(nn.Conv3d(1, 2, 3), *norms, nn.PReLU(), nn.GRU(2, 2), Scaled(), nn.Linear(2, 1))
    assert names(network) == ["0.weight", "6.weight_ih_l0", "6.weight_hh_l0", "7.weight", "8.weight"]


def test_a_norm_with_weights_of_two_axes_is_told_by_its_type() -> None:
    assert names(nn.LayerNorm((4, 4))) == []


def test_groups_hold_every_parameter_once_also_a_shared_one() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
    network[2].weight = network[0].weight
    groups = group_parameters(network, 0.1)
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(held) == sorted({id(parameter) for parameter in network.parameters()})


def test_an_empty_group_is_left_out() -> None:
    assert [group["weight_decay"] for group in group_parameters(nn.Linear(2, 2, bias=False), 0.1)] == [0.1]
    assert [group["weight_decay"] for group in group_parameters(nn.BatchNorm1d(2), 0.1)] == [0.0]


def test_residual_network() -> None:
    network = build_classifier("resnet18", size="slim")
    spared = {name for name, _ in network.named_parameters()} - set(names(network))
    assert spared == {name for name, parameter in network.named_parameters() if parameter.ndim == 1}
    assert "classifier.weight" not in spared
