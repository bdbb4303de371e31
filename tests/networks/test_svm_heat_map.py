"""The dense map is the patch classifier at each place of the grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import Tensor, nn

from medresnet3d.networks.svm_heat_map import SVMHeatMap, build_svm_heat_map
from tests.networks.base import NetworkSuite

PATCH, STRIDE = 12, 4


def build(spatial_dims: int = 2, in_channels: int = 3, **options: Any) -> SVMHeatMap:
    given = {"patch_size": PATCH, "input_size": 24, "stride": STRIDE, "capacity": 40, **options}
    return build_svm_heat_map("resnet10", spatial_dims, in_channels, 2, width=0.125, **given)


class TestSVMHeatMap(NetworkSuite):
    dims = (2,)
    size = 24
    odd_size = (29, 22)

    def build(self, spatial_dims: int = 2, **options: Any) -> nn.Module:
        return build(spatial_dims, 1, **options)

    def test_export(self, spatial_dims: int) -> None:
        """By tracing: the machine's probabilities are iterated until they stand still."""
        network, image = self.seeded(spatial_dims).eval(), self.image(spatial_dims)
        with torch.no_grad():
            traced = torch.jit.trace(network, image)
            torch.testing.assert_close(traced(image), network(image), rtol=1e-4, atol=1e-5)

    def output_shape(self, image: Tensor) -> tuple[int, ...]:
        return (image.shape[0], 2, *image.shape[2:])


def fitted() -> SVMHeatMap:
    """With a machine that was fitted on random patches."""
    torch.manual_seed(0)
    network = build().eval()
    patches = torch.rand(40, 3, PATCH, PATCH)
    patches[::2] += 0.5 * torch.rand(20, 3, 1, 1)
    with torch.no_grad():
        values = network.svm_features(network.forward_features(patches)).double().numpy()
    scaler = StandardScaler().fit(values)
    machine = SVC(C=1.0, kernel="rbf").fit(scaler.transform(values), np.arange(40) % 2)
    network.svm.from_sklearn(machine, scaler)
    return network


@pytest.mark.parametrize("shape", [(32, 40), (33, 26)])
def test_the_middle_of_each_cell_is_what_the_patch_around_it_gets(shape: tuple[int, int]) -> None:
    network, image = fitted(), torch.rand(1, 3, *shape, generator=torch.Generator().manual_seed(2))
    network.stride = 3  # odd, so that the middle of a cell is a pixel
    padded = nn.functional.pad(image, [PATCH] * 4)
    with torch.no_grad():
        dense = network(image)
        for row in range(1, shape[0], 6):
            for column in range(1, shape[1], 9):
                first, second = (place + PATCH - PATCH // 2 for place in (row, column))
                patch = padded[:, :, first : first + PATCH, second : second + PATCH]
                torch.testing.assert_close(dense[0, :, row, column], network(patch)[0], atol=1e-4, rtol=1e-4)
    assert dense.std() > 0


def test_training_takes_patches_and_gives_logits() -> None:
    network = build().train()
    assert network(torch.rand(5, 3, PATCH, PATCH)).shape == (5, 2)


def test_a_batch_is_each_image_by_itself_and_chunks_do_not_matter() -> None:
    network, images = fitted(), torch.rand(2, 3, 20, 28, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        together, alone = network(images), network(images[1:])
        network.chunk = 3
        torch.testing.assert_close(network(images), together, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(together[1:], alone, atol=1e-4, rtol=1e-4)
