"""A patch classifier with a support vector machine, slid over a whole picture.

Paper: P. Khojasteh et al. Exudate detection in fundus images using deeply-learnable features. Computers in Biology and
Medicine 104 (2019) 62-69: a support vector machine on the features of a ResNet-50, patch by patch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from medresnet3d.networks.classifier import build_classifier
from medresnet3d.networks.classifier_base import ClassifierBase
from medresnet3d.networks.layers.resize import resize
from medresnet3d.networks.svm_classifier import SVMClassifier


class SVMHeatMap(SVMClassifier):
    """Classifies patches; of a larger image it gives the classes of the patches around a grid of its places.

    Args:
        network: see :class:`~medresnet3d.networks.svm_classifier.SVMClassifier`, as for the next three.
        kernel: see there.
        capacity: see there.
        normalise: see there.
        patch_size: edge of a patch in pixels.
        input_size: edge that a patch is enlarged to for the network.
        stride: pixels between the places of the grid; in between, log-probabilities are interpolated.
        chunk: patches that are computed at once.

    Shapes: patches (B, C, patch_size, ...) to (B, K): logits in training mode, log-probabilities in eval mode. In eval
    mode, images (B, C, ...) of any other size to dense log-probabilities (B, K, ...) of the same size; a patch that
    reaches over the border sees zeros there.
    """

    def __init__(
        self,
        network: ClassifierBase,
        kernel: str = "rbf",
        capacity: int = 512,
        normalise: bool = True,
        *,
        patch_size: int = 24,
        input_size: int = 48,
        stride: int = 8,
        chunk: int = 512,
    ) -> None:
        super().__init__(network, kernel, capacity, normalise)
        self.patch_size, self.input_size, self.stride, self.chunk = patch_size, input_size, stride, chunk

    def forward_features(self, x: Tensor) -> Tensor:
        """Features of patches (B, C, ...) in front of the last layer, (B, F)."""
        size = [self.input_size] * (x.ndim - 2)
        return self.network.forward_features(resize(x, size))

    def forward(self, x: Tensor) -> Tensor:
        """Answers for patches, or a dense map, see the class."""
        if self.training or all(size == self.patch_size for size in x.shape[2:]):
            return self.answers(x)
        return self.heat_map(x)

    def heat_map(self, x: Tensor) -> Tensor:
        """Dense log-probabilities (B, K, ...) of images (B, C, ...)."""
        axes = x.ndim - 2
        grid = [-(-size // self.stride) for size in x.shape[2:]]
        before = self.patch_size // 2 - self.stride // 2  # the middle of the first patch is that of the first cell
        padding: list[int] = []
        for size, count in zip(reversed(x.shape[2:]), reversed(grid), strict=True):
            padding += [before, (count - 1) * self.stride + self.patch_size - before - size]
        patches = functional.pad(x, padding)
        for axis in range(axes):
            patches = patches.unfold(2 + axis, self.patch_size, self.stride)
        order = [0, *range(2, 2 + axes), 1, *range(2 + axes, 2 + 2 * axes)]
        flat = patches.permute(order).reshape(-1, x.shape[1], *[self.patch_size] * axes)
        answers = torch.cat([self.answers(part) for part in flat.split(self.chunk)])
        coarse = answers.reshape(x.shape[0], *grid, -1).movedim(-1, 1)
        fine = [count * self.stride for count in grid]
        dense = resize(coarse.float(), fine)
        for axis, size in enumerate(x.shape[2:]):
            dense = dense.narrow(2 + axis, 0, size)
        return dense


def build_svm_heat_map(
    arch: str = "resnet50",
    spatial_dims: int = 2,
    in_channels: int = 3,
    num_classes: int = 2,
    size: str = "paper",
    kernel: str = "rbf",
    capacity: int = 512,
    normalise: bool = True,
    patch_size: int = 24,
    input_size: int = 48,
    stride: int = 8,
    **options: Any,
) -> SVMHeatMap:
    """Build a patch classifier by name with an SVM on its features, that is slid over whole pictures.

    Args:
        arch: architecture, see :func:`medresnet3d.networks.classifier.build_classifier`.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: number of classes.
        size: ``"paper"`` or ``"slim"``.
        kernel: ``"linear"`` or ``"rbf"``.
        capacity: support vectors that an RBF machine may have.
        normalise: bring each patch's features to length 1.
        patch_size: see :class:`SVMHeatMap`, as for the next two.
        input_size: edge that a patch is enlarged to.
        stride: pixels between the places of the grid.
        **options: further options of the network.

    Raises:
        ConfigError: for an unknown architecture, size or kernel.
    """
    network = build_classifier(arch, spatial_dims, in_channels, num_classes, size, **options)
    sizes = {"patch_size": patch_size, "input_size": input_size, "stride": stride}
    return SVMHeatMap(network, kernel, capacity, normalise, **sizes)
