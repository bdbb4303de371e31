"""The layer that carries the class is found, and what lies before it stays as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medresnet3d.engines.layer_probing import LayerProbe, probe_layers, trainable_after
from medresnet3d.engines.staged import training_only
from medresnet3d.errors import ConfigError
from medresnet3d.networks.classifier import build_classifier


class Backbone(nn.Module):
    """Four layers, of which one turns the class (the sign of a product of two channels) into something linear."""

    def __init__(self, carrier: int) -> None:
        super().__init__()
        self.carrier = carrier
        self.layers = nn.ModuleList(nn.Identity() for _ in range(4))
        self.head = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        for number, layer in enumerate(self.layers):
            if number == self.carrier:
                product = x[:, :1] * x[:, 1:]
                out = layer(torch.cat([product, product], 1))
            else:
                out = layer(x)
        return self.head(out.flatten(2).mean(2))


class Product:
    """Pictures of constant colour in two channels; the class is the sign of the channels' product."""

    def __init__(self, cases: int = 80) -> None:
        rng = np.random.default_rng(0)
        values = rng.uniform(0.5, 1.5, (cases, 2)) * rng.choice([-1, 1], (cases, 2))
        self.data: list[dict[str, Any]] = [
            {
                "image": torch.from_numpy(pair).float()[:, None, None].expand(2, 4, 4),
                "label": int(pair.prod() > 0),
                "patient": f"p{number // 2}",
            }
            for number, pair in enumerate(values)
        ]

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.data[index]


@pytest.mark.parametrize("carrier", range(4))
def test_the_layer_that_carries_the_class_linearly_is_chosen(carrier: int) -> None:
    names = [f"layers.{number}" for number in range(4)]
    probe = probe_layers(Backbone(carrier), Product(), names)
    assert probe.best == f"layers.{carrier}"
    assert probe.scores[carrier] > 0.95
    assert max(score for number, score in enumerate(probe.scores) if number != carrier) < 0.75


def test_the_table(tmp_path: Path) -> None:
    probe = LayerProbe(("layer1", "layer2"), (0.5, 0.75), (64, 128))
    probe.write(tmp_path / "probe.csv")
    assert (tmp_path / "probe.csv").read_text() == "layer,features,f1\nlayer1,64,0.5\nlayer2,128,0.75\n"
    assert "| **layer2** | 128 | 0.750 |" in probe.as_markdown()


def test_what_runs_before_the_freeze_point_is_unchanged_by_training() -> None:
    torch.manual_seed(0)
    network, image = build_classifier("resnet18", 2, 1, 2, "slim").train(), torch.rand(4, 1, 32, 32)
    patterns = trainable_after(network, "layer2.0", image)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with training_only(network, patterns):
        optimizer = torch.optim.SGD(network.parameters(), 0.1)
        nn.functional.cross_entropy(network.train()(image), torch.tensor([0, 1, 0, 1])).backward()
        optimizer.step()
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    frozen = ("conv1", "bn1", "layer1", "layer2.0.")
    assert not [name for name in changed if name.startswith(frozen)]
    for part in ("layer2.1.", "layer3.", "layer4.", "classifier."):
        assert any(name.startswith(part) for name in changed)


def test_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="is unknown"):
        probe_layers(Backbone(0), Product(8), ["layers.7"])
    with pytest.raises(ConfigError, match="is unknown"):
        trainable_after(Backbone(0), "layers.7", torch.rand(1, 2, 4, 4))
