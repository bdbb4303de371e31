from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.metrics.paired import paired_test
from medresnet3d.networks.layers.choice import LayerChoice
from medresnet3d.networks.msresnet import MSResNet, MultiKernelBlock, build_msresnet
from medresnet3d.networks.slice_vote import SliceVote
from tests.networks.base import ClassifierSuite


class TestMSResNet(ClassifierSuite):
    counts = (
        ({"spatial_dims": 2, "width": 1.0, "blocks": (2, 2, 2)}, 2_165_714),
        ({"spatial_dims": 3, "width": 1.0, "blocks": (2, 2, 2)}, 12_305_138),
    )

    def build(self, spatial_dims: int = 3, width: float = 0.125, **options: Any) -> MSResNet:
        # a residual function that starts at zero hides its first convolutions from one backward pass
        return MSResNet(spatial_dims, **{"width": width, "blocks": (1, 1, 1), "zero_init": False} | options)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_a_block_that_starts_at_zero_is_its_shortcut(spatial_dims: int) -> None:
    block = MultiKernelBlock(LayerChoice(spatial_dims), 6, 6)
    image = torch.randn(2, 6, *[9] * spatial_dims, generator=torch.Generator().manual_seed(0))
    assert torch.equal(block(image), image.relu())


def test_each_kernel_gives_its_share_of_the_channels() -> None:
    block = MultiKernelBlock(LayerChoice(2), 4, 8, kernels=(3, 5, 7))
    assert [tuple(conv.weight.shape) for conv in block.scales] == [(3, 4, 3, 3), (3, 4, 5, 5), (2, 4, 7, 7)]  # type: ignore[union-attr]


def test_a_block_sees_as_far_as_its_largest_kernel() -> None:
    for kernels, reach in (((3, 3, 3), 1), ((3, 5, 7), 3)):
        block = MultiKernelBlock(LayerChoice(2, norm="", act="prelu"), 3, 3, kernels=kernels, zero_init=False)
        image = torch.zeros(1, 3, 15, 15, requires_grad=True)
        block(image)[0, :, 7, 7].sum().backward()
        assert image.grad is not None
        rows = torch.nonzero(image.grad.abs().sum((0, 1, 3)))[:, 0]
        assert (int(rows.min()), int(rows.max())) == (7 - reach, 7 + reach)


@pytest.mark.parametrize("kernels", [(), (3, 4), (3, 3, 3, 3)])
def test_kernels_that_make_no_block_are_refused(kernels: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="give odd sizes"):
        MultiKernelBlock(LayerChoice(2), 3, 3, kernels=kernels)


def test_the_dimension_is_one_argument() -> None:
    flat, deep = build_msresnet(2, size="slim").eval(), build_msresnet(3, size="slim", act=None).eval()
    assert isinstance(flat, SliceVote) and isinstance(deep, MSResNet)
    with torch.no_grad():
        assert flat(torch.zeros(2, 5, 32, 32)).shape == deep(torch.zeros(2, 1, 32, 32, 16)).shape == (2, 3)
    with pytest.raises(ConfigError, match="choose one of slim, paper"):
        build_msresnet(2, size="huge")


def pairs(count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise with six pairs of dots: side by side or one above the other, one or three pixels apart."""
    label = torch.arange(count) % 4
    image = 0.2 * torch.randn(count, 1, 24, 24, generator=generator)
    for sample, kind in zip(image[:, 0], label.tolist(), strict=True):
        apart, upright = (1, 3)[kind // 2], kind % 2
        for i, j in torch.randint(3, 18, (6, 2), generator=generator).tolist():
            sample[i, j] += 2
            sample[i + apart * upright, j + apart * (1 - upright)] += 2
    return image, label


class OneBlock(nn.Module):
    """One block on the image itself, its feature maps pooled: no depth that could make up for a small kernel."""

    def __init__(self, kernels: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.block = MultiKernelBlock(LayerChoice(2), 1, channels, kernels=kernels, zero_init=False)
        self.classifier = nn.Linear(channels, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.block(x).mean((2, 3)))


def accuracy(kernels: tuple[int, ...], channels: int, seed: int, rate: float) -> float:
    generator = torch.Generator().manual_seed(seed)
    train, test = pairs(96, generator), pairs(192, generator)
    torch.manual_seed(seed)
    network = OneBlock(kernels, channels)
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    for _ in range(80):
        part = torch.randperm(96, generator=generator)[:32]
        loss = nn.functional.cross_entropy(network(train[0][part]), train[1][part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        return float((network(test[0]).argmax(1) == test[1]).float().mean())


RATES = (0.01, 0.03)
SCALES, SMALL = ((3, 5, 7), 12), ((3, 3, 3), 17)
"""Kernels and channels of two blocks with equally many parameters."""


def best(arm: tuple[tuple[int, ...], int], seed: int) -> float:
    """The better of two learning rates, for each arm of its own."""
    return max(accuracy(*arm, seed, rate) for rate in RATES)


def test_several_scales_tell_apart_what_one_small_kernel_cannot() -> None:
    """At equal parameters and steps."""
    sizes = [sum(parameter.numel() for parameter in OneBlock(*arm).parameters()) for arm in (SCALES, SMALL)]
    assert abs(sizes[1] / sizes[0] - 1) < 0.1
    assert best(SCALES, 0) - best(SMALL, 0) > 0.2


@pytest.mark.slow
def test_several_scales_decide_over_five_seeds() -> None:
    several, small = ([best(arm, seed) for seed in range(5)] for arm in (SCALES, SMALL))
    gain = paired_test(several, small).difference
    print(f"\naccuracy of several kernels {np.round(several, 3).tolist()}, of one {np.round(small, 3).tolist()}")
    print(f"gained {gain.value:.3f} ({gain.low:.3f} to {gain.high:.3f})", flush=True)
    assert gain.low > 0
