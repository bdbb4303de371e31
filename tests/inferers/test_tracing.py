from __future__ import annotations

import pytest
import torch
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.inferers.tracing import plain, tensors_in, trace


class Sum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3)
        self.second = nn.ReLU()

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.first(x)
        return {"sum": self.second(y) + y, "raw": y}


def test_every_call_is_recorded_with_its_module_and_readers() -> None:
    record = trace(Sum(), (1, 1, 8, 8))
    assert [(call.function, call.module) for call in record.calls] == [
        ("conv2d", "first"),
        ("relu", "second"),
        ("add", ""),
    ]
    convolution = record.calls[0]
    assert convolution.reads[0] == record.input
    assert record.readers()[convolution.writes[0]] == 3  # the activation, the sum and the caller
    assert [tuple(tensor.shape) for tensor in record.output_tensors] == [(1, 3, 6, 6)] * 2


def test_a_change_in_place_makes_a_new_value() -> None:
    class InPlace(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x + 1
            y.relu_()
            return y * 2

    add, relu, product = trace(InPlace(), (1, 1, 4, 4)).calls
    assert relu.reads == add.writes
    assert product.reads == relu.writes != add.writes


def test_the_network_stays_as_it_is() -> None:
    network = Sum().train()
    trace(network, (1, 1, 8, 8))
    assert network.training
    assert not network.first._forward_hooks
    assert network.first.weight.device.type == "cpu"


def test_control_flow_by_voxel_values_is_refused() -> None:
    class Branching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.mean() > 0 else -x

    with pytest.raises(ConfigError, match="Branching cannot be followed"):
        trace(Branching(), (1, 1, 4, 4))


def test_tensors_are_found_and_stripped_of_their_class_in_any_structure() -> None:
    class Marked(torch.Tensor):
        pass

    tensor = torch.zeros(2).as_subclass(Marked)
    result = plain({"a": (tensor, [tensor]), "b": 3})
    assert [type(part) for part in tensors_in(result)] == [torch.Tensor, torch.Tensor]
    assert isinstance(result["a"], tuple)
    assert result["b"] == 3
