"""Auxiliary classifiers on layers inside a network, which exist for training alone.

Paper: C.-Y. Lee et al. Deeply-supervised nets. AISTATS 2015. Lei et al. (2018) supervise a ResNet-50 for HEp-2 cells at
lower and upper levels that way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medresnet3d.networks.classifier import build_classifier
from medresnet3d.networks.classifier_base import ClassifierBase
from medresnet3d.networks.taps import captured, layer_widths, pooled


class DeeplySupervisedClassifier(nn.Module):
    """A classifier with a global average pooling and a linear layer on some of its layers.

    Args:
        network: the classifier, which stays what it is.
        layers: names of the layers that get an auxiliary classifier, e.g. ``("layer2", "layer3")`` of a ResNet.
        image: an image (B, C, ...) to measure the layers' channels with; a small one of zeros will do.

    Shapes: (B, C, ...) to (B, K) logits. In training mode a list: those, then the logits of each auxiliary classifier
    in the order of ``layers``; :class:`medresnet3d.losses.deep_supervision.FadingDeepSupervisionLoss` takes it.

    Raises:
        ConfigError: for a layer that the network does not have.
    """

    def __init__(self, network: ClassifierBase, layers: Sequence[str], image: Tensor) -> None:
        super().__init__()
        widths = layer_widths(network, layers, image)
        classes = network.classifier.out_features
        self.network = network
        self.layers = list(layers)
        self.auxiliary = nn.ModuleList([nn.Linear(widths[layer], classes) for layer in layers])

    @property
    def classifier(self) -> nn.Linear:
        """The network's last layer."""
        return self.network.classifier

    __jit_unused_properties__ = ("classifier",)

    def forward_features(self, x: Tensor) -> Tensor:
        """Features in front of the last layer, (B, F)."""
        return self.network.forward_features(x)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (B, K); in training mode a list, see the class."""
        if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript skips a branch for this condition alone
            if self.training:
                return self.training_outputs(x)  # type: ignore[return-value]
        return self.network(x)

    @torch.jit.unused
    def training_outputs(self, x: Tensor) -> list[Tensor]:
        """Logits of the network and of each auxiliary classifier."""
        with captured(self.network, self.layers) as maps:
            logits = self.network(x)
        return [logits, *(head(pooled(maps[layer])) for layer, head in zip(self.layers, self.auxiliary, strict=True))]


def build_deeply_supervised(
    arch: str = "resnet50",
    layers: Sequence[str] = ("layer2", "layer3"),
    spatial_dims: int = 2,
    in_channels: int = 3,
    num_classes: int = 2,
    size: str = "paper",
    **options: Any,
) -> DeeplySupervisedClassifier:
    """Build a classifier by name with auxiliary classifiers; arguments as those of ``build_classifier``.

    Args:
        arch: architecture.
        layers: names of the layers with an auxiliary classifier.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: number of logits.
        size: ``"paper"`` or ``"slim"``.
        **options: further options of the network.

    Raises:
        ConfigError: for an unknown architecture, size or layer.
    """
    network = build_classifier(arch, spatial_dims, in_channels, num_classes, size, **options)
    return DeeplySupervisedClassifier(network, layers, torch.zeros(1, in_channels, *[64] * spatial_dims))
