"""What is special about this bundle: the projection is one id, and its loss is focal."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from medresnet3d.bundle.load import load_config
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.losses.focal import FocalLoss
from tests.bundles.as_configured import parameter_count
from tests.networks.detection_toy import interval

BUNDLE = find_bundle("lung_nodule_projection_densenet")


@pytest.mark.parametrize(
    ("overrides", "channels"),
    [({}, 3), ({"projection": "stack"}, 27), ({"projection": "stack", "slices": 5}, 15), ({"slices": 1}, 3)],
)
def test_the_projection_is_one_id(overrides: dict[str, Any], channels: int) -> None:
    parser = load_config(BUNDLE, ("inference.json",), overrides)
    network, prepare = (parser.get_parsed_content(name) for name in ("network_def", "preprocessing"))
    projected = prepare.transforms[-1]({"image": torch.zeros(1, 32, 32, 32)})["image"]
    assert projected.shape == (channels, 32, 32)
    with torch.inference_mode():
        assert network.eval()(projected[None]).shape == (1, 2)


def test_the_published_size_is_one_id() -> None:
    parser = load_config(BUNDLE, ("inference.json",), {"size": "paper"})
    with torch.device("meta"):
        network = parser.get_parsed_content("network_def")
    assert parameter_count(network) == 6_955_906
    assert parser.get_parsed_content("voxel_size_mm") == 0.5


def test_the_loss_is_focal_and_without_its_focus_cross_entropy() -> None:
    loss = load_config(BUNDLE, ("train.json",), {}).get_parsed_content("loss")
    assert isinstance(loss, FocalLoss) and loss.gamma == 2.0 and loss.alpha is None
    plain = load_config(BUNDLE, ("train.json",), {"loss": {"name": "focal", "gamma": 0.0, "alpha": None}})
    output, label = torch.randn(6, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 1, 0, 0, 1])
    expected = nn.functional.cross_entropy(output, label)
    torch.testing.assert_close(plain.get_parsed_content("loss")(output, label), expected)


def recall(loss: nn.Module, seed: int) -> float:
    """Of the rare class (one in twelve), by a linear model on two overlapping clouds, after the same steps."""
    generator = torch.Generator().manual_seed(seed)
    points, label = [], (torch.arange(600) % 12 == 0).long()
    for _ in range(2):
        points.append(torch.randn(600, 2, generator=generator) + 2.0 * label[:, None])
    torch.manual_seed(seed)
    model = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        loss(model(points[0]), label).backward()
        optimizer.step()
    rare = label == 1
    return float((model(points[1]).argmax(1) == 1)[rare].float().mean())


def recall_gained(loss: FocalLoss, peer: FocalLoss) -> tuple[float, float, float]:
    """Mean over ten seeds, with its 95 % interval."""
    gains = [recall(loss, seed) - recall(peer, seed) for seed in range(10)]
    mean, (low, high) = sum(gains) / len(gains), interval(gains)
    print(f"recall gained: {mean:.3f} ({low:.3f} to {high:.3f})")
    return mean, low, high


def test_focal_loss_raises_the_recall_of_the_rare_class_by_its_balance() -> None:
    """With alpha for the rare class above a half: the published 0.25 is made for the opposite."""
    whole, low, _ = recall_gained(FocalLoss(2.0, 0.75), FocalLoss(0.0))
    assert low > 0.05
    focus, _, _ = recall_gained(FocalLoss(2.0, 0.75), FocalLoss(0.0, 0.75))
    assert abs(focus) < 0.1 * whole, "turning down easy cases adds nothing here; the card says so"
