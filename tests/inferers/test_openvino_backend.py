from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.inferers.execution import prepare
from medresnet3d.inferers.openvino_backend import check_openvino

needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="the extra is not installed")


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU())
        self.second = nn.Conv3d(4, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.first(x)
        return {"features": y, "logits": self.second(y)}


@needs_openvino
def test_the_same_answer_in_the_same_structure() -> None:
    torch.manual_seed(0)
    network = Heads().eval()
    prepared = prepare(network, device="cpu", precision="fp32", backend="openvino")
    for size in (8, 12):
        x = torch.randn(1, 1, size, size, size)
        with torch.no_grad():
            torch.testing.assert_close(prepared(x), network(x), rtol=1e-4, atol=1e-5)
    assert prepared.description == "OpenVINO fp32, 1 of 1 batch normalisations folded"


@needs_openvino
def test_answers_are_kept_by_the_caller() -> None:
    prepared = prepare(Heads(), device="cpu", precision="fp32", backend="openvino")
    first = prepared(torch.zeros(1, 1, 8, 8, 8))["logits"]
    kept = first.clone()
    prepared(torch.ones(1, 1, 8, 8, 8))
    assert torch.equal(first, kept)


def test_refused_off_the_cpu_and_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="the device is cuda"):
        check_openvino(torch.device("cuda"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"pip install medresnet3d\[openvino\]"):
        check_openvino(torch.device("cpu"))
