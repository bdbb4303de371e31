from __future__ import annotations

from typing import Any

import pytest
import torch

from medresnet3d.networks.classifier import build_classifier
from medresnet3d.networks.conv_pool import ConvPool, build_small_cnn
from medresnet3d.networks.transfer import freeze_depths
from tests.networks.base import ClassifierSuite


class TestConvPool(ClassifierSuite):
    learning_rate = 0.01
    counts = (
        ({"spatial_dims": 2}, 1_950 + 6 + 12 + 2 * (12 * 4**2 + 1)),
        ({"spatial_dims": 3}, 9_750 + 6 + 12 + 2 * (12 * 4**3 + 1)),
    )

    def build(self, spatial_dims: int = 3, **options: Any) -> ConvPool:
        return ConvPool((6, 12), spatial_dims, **options)


def test_feature_maps_of_28_pixels_are_24_12_8_and_4() -> None:
    sizes: list[int] = []
    network = ConvPool((6, 12), 2).eval()
    for block in network.features:
        for module in (block[0], block[-1]):
            module.register_forward_hook(lambda *call: sizes.append(call[-1].shape[-1]))
    image = torch.rand(1, 1, 28, 28)
    with torch.no_grad():
        features = network.forward_features(image)
        assert torch.equal(features, network.feature_map(image).flatten(1)), "nothing is pooled further at that size"
    assert sizes == [24, 12, 8, 4] * 2


@pytest.mark.parametrize(("arch", "kernels"), [("cnn_6c_2s", 6 * 25), ("cnn_6c_2s_12c_2s", 1_950)])
def test_the_kernels_have_as_many_weights_as_the_paper_searches(arch: str, kernels: int) -> None:
    network = build_classifier(arch, 2)
    assert sum(p.numel() for name, p in network.named_parameters() if p.ndim == 4) == kernels


def test_stages_can_be_frozen_by_name() -> None:
    assert list(freeze_depths(ConvPool((6, 12), 2, norm="batch"))) == ["none", "stem", "stage1", "all_but_head"]
    network = ConvPool((6, 12), 2, norm="batch")
    network.freeze(freeze_depths(network)["stem"])
    frozen = {name.split(".")[1] for name, p in network.named_parameters() if not p.requires_grad}
    assert frozen == {"0"}


@pytest.mark.parametrize(("filters", "kernel_size"), [((8, 12, 16), 3), ((6, 8, 8, 8), 5)])
def test_padded_convolutions_let_three_or_four_halve_32_pixels(filters: tuple[int, ...], kernel_size: int) -> None:
    network = build_small_cnn(filters, kernel_size).eval()
    with torch.no_grad():
        assert network.feature_map(torch.rand(1, 3, 32, 32)).shape == (1, filters[-1], *[32 >> len(filters)] * 2)
    kernels = sum(p.numel() for p in network.parameters() if p.ndim == 4)
    pairs = zip((3, *filters), filters, strict=False)
    assert kernels == kernel_size**2 * sum(given * made for given, made in pairs)
