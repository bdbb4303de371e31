from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medresnet3d.networks.layers.se_attention import Attended, SEAttention, opened


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_gates_lie_between_0_and_1_and_weigh_channels(spatial_dims: int) -> None:
    torch.manual_seed(0)
    layer, image = SEAttention(32), 5 * torch.randn(4, 32, *[6] * spatial_dims)
    gates = layer.gates(image)
    assert gates.shape == (4, 32) and bool(((gates > 0) & (gates < 1)).all())
    torch.testing.assert_close(layer(image), image * gates.reshape(4, 32, *[1] * spatial_dims))


def test_as_many_parameters_as_squeeze_and_excitation() -> None:
    count = sum(parameter.numel() for parameter in SEAttention(256).parameters())
    assert count == 2 * 256**2 // 16 + 256 // 16 + 256
    assert SEAttention(8).squeeze.out_features == 4


def test_gates_begin_nearly_open() -> None:
    gates = SEAttention(64).gates(torch.zeros(1, 64, 3, 3))
    assert float(gates.min()) > 0.7


def test_the_maximum_has_a_say_of_its_own() -> None:
    torch.manual_seed(0)
    layer = SEAttention(16)
    flat = torch.full((1, 16, 4, 4), 0.5)
    peak = torch.zeros(1, 16, 4, 4)
    peak[..., 0, 0] = 8.0  # the same mean
    assert not torch.allclose(layer.gates(flat), layer.gates(peak), atol=1e-3)


def test_opened_gates_leave_bits_alone_and_close_again() -> None:
    torch.manual_seed(0)
    block = nn.Conv2d(3, 8, 3)
    network, image = Attended(block, SEAttention(8)), torch.randn(2, 3, 9, 9)
    before = network(image)
    with opened(network):
        assert torch.equal(network(image), block(image))
    assert torch.equal(network(image), before) and not torch.equal(before, block(image))


def channels_of(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Eight channels that show one pattern faintly disturbed, then eight of noise alone, and the pattern."""
    rng = np.random.default_rng(seed)
    pattern = rng.normal(size=(count, 1, 6, 6))
    signal = pattern + rng.normal(0, 0.3, (count, 8, 6, 6))
    noise = rng.normal(0, 2.0, (count, 8, 6, 6))
    maps = np.concatenate([signal, noise], 1)
    return torch.tensor(maps, dtype=torch.float32), torch.tensor(pattern, dtype=torch.float32)


def learn(attention: bool, seed: int) -> tuple[float, Tensor]:
    """Mean square error on new maps of what the mean of all channels tells of the pattern, and the mean gates."""
    torch.manual_seed(seed)
    layer, scale = SEAttention(16), nn.Parameter(torch.ones(1))
    images, patterns = channels_of(128, seed)
    optimizer = torch.optim.Adam([*layer.parameters(), scale], lr=1e-2)

    def answer(x: Tensor) -> Tensor:
        return scale * (layer(x) if attention else x).mean(1, keepdim=True)

    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.mse_loss(answer(images), patterns).backward()
        optimizer.step()
    test, truth = channels_of(128, 1000 + seed)
    with torch.no_grad():
        return float(nn.functional.mse_loss(answer(test), truth)), layer.gates(test).mean(0)


@pytest.mark.parametrize("seed", range(5))
def test_channels_of_noise_get_lower_gates(seed: int) -> None:
    error, gates = learn(True, seed)
    without, _ = learn(False, seed)
    print(f"seed {seed}: gates {gates[:8].mean():.2f} and {gates[8:].mean():.2f}, error {error:.3f} and {without:.3f}")
    assert gates[:8].mean() > gates[8:].mean() + 0.3
    assert error < 0.7 * without
