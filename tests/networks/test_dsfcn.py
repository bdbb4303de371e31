from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medresnet3d.data.phantoms.specimens import specimen_field
from medresnet3d.errors import ConfigError
from medresnet3d.losses import build_loss
from medresnet3d.metrics.paired import mean_interval
from medresnet3d.networks.dsfcn import DSFCN
from tests.networks.base import NetworkSuite

PATTERNS = ("homogeneous", "speckled", "nucleolar", "centromere", "nuclear_membrane", "golgi")
STEPS, BATCH = 40, 4


class TestDSFCN(NetworkSuite):
    batch = 2
    counts: ClassVar[Any] = (
        ({"spatial_dims": 2, "arch": "resnet18"}, 1_565_560),
        ({"spatial_dims": 2, "arch": "resnet50", "size": "paper"}, 54_063_048),
        ({"spatial_dims": 2, "arch": "resnet101", "size": "paper"}, 73_055_176),
    )

    def build(self, spatial_dims: int = 3, **options: Any) -> nn.Module:
        return DSFCN(**{"arch": "resnet10", "spatial_dims": spatial_dims, "size": "slim", **options})

    def output_shape(self, image: Tensor) -> tuple[int, ...]:
        return (image.shape[0], 2, *image.shape[2:])


def test_in_training_there_are_four_outputs_of_full_size() -> None:
    outputs = DSFCN("resnet10", size="slim").train()(torch.rand(2, 1, 33, 50))
    assert [tuple(output.shape) for output in outputs] == [(2, 2, 33, 50)] * 4


def test_side_outputs_supervise_the_steps_before_the_last() -> None:
    """The loss of the side outputs alone reaches the steps down to theirs, and not the last one."""
    network = DSFCN("resnet10", size="slim").train()
    outputs = network(torch.rand(2, 1, 32, 32))
    sum(output.square().mean() for output in outputs[1:]).backward()
    reached = [up.maps[0].weight.grad is not None for up in network.up]
    assert reached == [True, True, True, False]


def test_the_off_arm_has_as_many_parameters() -> None:
    counts = [sum(p.numel() for p in DSFCN(size="slim", dense=dense).parameters()) for dense in (True, False)]
    assert counts[0] == pytest.approx(counts[1], rel=0.1)


def test_an_encoder_that_is_no_resnet_is_named() -> None:
    with pytest.raises(ConfigError, match="'vgg11' is no ResNet"):
        DSFCN("vgg11", size="slim")


def fields(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Fields of specimens in uneven light and haze, and their masks, both (N, 1, 64, 64)."""
    drawn = [
        specimen_field([seed, number], PATTERNS[number % len(PATTERNS)], (64, 64), cell=16, difficulty=0.7)
        for number in range(count)
    ]
    images = torch.stack([torch.from_numpy(picture)[None] / 255.0 for picture, _ in drawn])
    return images, torch.stack([torch.from_numpy(mask)[None] for _, mask in drawn])


def dice(dense: bool, rate: float, seed: int, known: tuple[Tensor, Tensor], unseen: tuple[Tensor, Tensor]) -> float:
    """Train for some steps and measure the mean Dice; without dense deconvolution there are no side outputs either."""
    torch.manual_seed(seed)
    network = DSFCN("resnet10", size="slim", dense=dense).train()
    weights = (1.0, 0.5, 0.25, 0.25) if dense else (1.0,)
    loss_function = build_loss("dice_ce", include_background=False, batch=True, output_weights=weights)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=STEPS)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(STEPS):
        chosen = torch.randint(len(known[0]), (BATCH,), generator=generator)
        loss = loss_function(network(known[0][chosen])[: len(weights)], known[1][chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        answer = network.eval()(unseen[0]).argmax(1, keepdim=True)
    both, sizes = (answer * unseen[1]).sum((1, 2, 3)), (answer + unseen[1]).sum((1, 2, 3))
    return float((2 * both / sizes.clamp_min(1)).mean())


@pytest.mark.slow
def test_dense_deconvolution_and_side_outputs_are_not_clearly_worse_at_equal_budget() -> None:
    """As many parameters and steps; each arm chooses its learning rate on other fields; five seeds."""
    found: dict[bool, np.ndarray] = {}
    known, choice, unseen = fields(24, 0), fields(24, 1), fields(48, 2)
    for dense in (True, False):
        best = max((0.002, 0.01), key=lambda rate: dice(dense, rate, 9, known, choice))
        found[dense] = np.array([dice(dense, best, seed, known, unseen) for seed in range(5)])
    difference = mean_interval(found[True] - found[False])
    print(f"on {found[True].round(3)}, off {found[False].round(3)}, difference {difference}")
    assert found[True].mean() > 0.6
    assert difference.high is not None and difference.high > 0
