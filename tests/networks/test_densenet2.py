from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from medresnet3d.networks.classifier import build_classifier
from medresnet3d.networks.densenet import DenseNetClassifier
from medresnet3d.networks.densenet2 import DenseNet2, InceptionStem
from medresnet3d.networks.layers.choice import LayerChoice
from medresnet3d.networks.layers.inception import Branches, ConvNormAct
from medresnet3d.networks.pretrained import load_pretrained
from tests.networks.base import ClassifierSuite


class TestDenseNet2(ClassifierSuite):
    learning_rate = 1e-2
    counts = (
        ({"spatial_dims": 2, "width": 1.0, "blocks": None}, 6_956_474),
        ({"spatial_dims": 3, "width": 1.0, "blocks": None}, 11_265_210),
    )

    def build(self, spatial_dims: int = 3, width: float = 0.125, **options: Any) -> DenseNet2:
        return DenseNet2(spatial_dims, width=width, **{"blocks": (2, 2, 2, 2), **options})


def shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def test_the_stem_gives_64_maps_of_112_for_224() -> None:
    stem = InceptionStem(LayerChoice(2), 1)
    image = torch.rand(1, 1, 224, 224)
    assert stem(image).shape == (1, 64, 112, 112)
    assert [branch(image).shape[1] for branch in stem.values()] == [16, 24, 16, 8]
    assert InceptionStem(LayerChoice(3), 1)(torch.rand(1, 1, 17, 16, 15)).shape == (1, 64, 9, 8, 8)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_all_but_the_stem_is_densenet_121(spatial_dims: int) -> None:
    with torch.device("meta"):
        own, plain = (shapes(build_classifier(arch, spatial_dims, 1)) for arch in ("densenet2_121", "densenet121"))
    stem = {name for name in own if name.startswith("features.conv0.")}
    assert {name: shape for name, shape in own.items() if name not in stem} == {
        name: shape for name, shape in plain.items() if name != "features.conv0.weight"
    }
    assert list(own)[: len(stem)] == [name for name in own if name in stem]


def test_weights_of_a_densenet_go_into_all_but_the_stem(tmp_path: Path) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"width": 0.125, "blocks": (2, 2, 2, 2)}
    source, network = DenseNetClassifier(2, 3, 9, **options), DenseNet2(2, 1, 2, **options)
    torch.save(source.state_dict(), tmp_path / "densenet.pt")
    report = load_pretrained(network, tmp_path / "densenet.pt")
    given, taken = source.state_dict(), network.state_dict()
    assert report.unexpected == ["features.conv0.weight"] and report.missing == []
    for name in report.loaded:
        assert torch.equal(taken[name], given[name])
    left = {name for name in taken if name.startswith(("features.conv0", "classifier"))}
    assert left == set(report.left)


# ---- two scales of texture: the stem is what tells them apart ----

EDGE, RATES, BATCH, CHANNELS = 32, (3e-3, 1e-2, 3e-2), 16, 16


def textures(count: int, seed: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Noise with two faint textures, of periods 2 and 6, each along rows or along columns: four classes."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((EDGE, EDGE))
    labels = rng.integers(4, size=count)
    images = []
    for fine, coarse in zip(labels // 2, labels % 2, strict=True):
        along = (rows if fine else columns) + rng.integers(2)
        image = 0.4 * (-1.0) ** along
        along = (rows if coarse else columns) + rng.uniform(0, 6)
        image = image + 0.4 * np.cos(2 * np.pi * along / 6)
        images.append(image + rng.normal(0, 1.5, image.shape))
    return torch.tensor(np.array(images)[:, None], dtype=torch.float32), torch.tensor(labels)


class KernelsOfThree(Branches):
    """A stem of as many channels and parameters whose kernels all have edge 3."""

    def __init__(self, layers: LayerChoice, channels: int) -> None:
        def branch(hidden: int) -> nn.Module:
            return nn.Sequential(ConvNormAct(layers, 1, hidden), layers.conv(hidden, channels // 2, 3, stride=2))

        super().__init__({"narrow": branch(4), "wide": branch(5)})


def texture_network(inception: bool, seed: int) -> nn.Sequential:
    """A stem with what follows it in DenseNet, then a 1-convolution: no other kernel sees a texture."""
    torch.manual_seed(seed)
    layers = LayerChoice(2)
    stem = InceptionStem(layers, 1, CHANNELS) if inception else KernelsOfThree(layers, CHANNELS)
    behind = [nn.BatchNorm2d(CHANNELS), nn.ReLU(), layers.max_pool()]
    last = [layers.conv(CHANNELS, 16, 1), nn.BatchNorm2d(16), nn.ReLU(), layers.average_pool(), nn.Flatten()]
    return nn.Sequential(stem, *behind, *last, nn.Linear(16, 4))


def right(inception: bool, seed: int, rates: Sequence[float], count: int, steps: int) -> float:
    """Share of test images that are told right, with the learning rate that was best on validation images."""
    (images, labels), *held_out = (textures(n, [seed, part]) for part, n in enumerate((count, 200, 300)))
    scores = []
    for rate in rates:
        network = texture_network(inception, seed)
        optimizer, generator = torch.optim.Adam(network.parameters(), lr=rate), torch.Generator().manual_seed(seed)
        for _ in range(steps):
            chosen = torch.randperm(len(images), generator=generator)[:BATCH]
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[chosen]), labels[chosen]).backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            scores.append([float((network(x).argmax(1) == y).float().mean()) for x, y in held_out])
    return max(scores)[1]


def test_both_stems_have_as_many_parameters() -> None:
    counts = [sum(p.numel() for p in texture_network(inception, 0)[0].parameters()) for inception in (True, False)]
    assert abs(counts[0] - counts[1]) < 0.1 * counts[0]


def test_kernels_of_several_sizes_tell_textures_of_two_scales() -> None:
    ours, theirs = (right(inception, 1, (1e-2,), 400, 100) for inception in (True, False))
    assert ours > theirs + 0.05


@pytest.mark.slow
def test_kernels_of_several_sizes_tell_textures_of_two_scales_for_five_seeds() -> None:
    pairs = np.array([[right(inception, seed, RATES, 1200, 300) for inception in (True, False)] for seed in range(5)])
    ahead = pairs[:, 0] - pairs[:, 1]
    reach = stats.t.ppf(0.975, 4) * ahead.std(ddof=1) / np.sqrt(5)
    print(f"right {pairs.mean(0).round(3)}, ahead by {ahead.mean():.3f} ({ahead.mean() - reach:.3f} up)")
    assert ahead.mean() - reach > 0
