"""Several inputs packed as channels, a trunk for each, their features joined for one last layer.

Guo and Yang (2018) give differently preprocessed versions of one picture to several ResNets; Nibali et al. (2017) do so
with three views of a nodule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medresnet3d.errors import ConfigError
from medresnet3d.networks.classifier import build_classifier
from medresnet3d.networks.classifier_base import ClassifierBase
from medresnet3d.networks.heads.linear import LinearHead


class MultiInputClassifier(nn.Module):
    """Split the channels among trunks, join the trunks' features, classify.

    Args:
        trunks: classifiers of which the features are used; their own last layers are removed. One trunk for several
            inputs shares its weights among them.
        channels: number of channels of each input, in their order.
        num_classes: number of logits.
        dropout: rate at which joined features are dropped in training.

    Shapes: (B, sum(channels), ...) to (B, num_classes); joined features are (B, F * inputs).

    Raises:
        ConfigError: if there is neither one trunk nor one for each input.
    """

    def __init__(
        self, trunks: Sequence[ClassifierBase], channels: Sequence[int], num_classes: int = 2, dropout: float = 0.5
    ) -> None:
        super().__init__()
        if len(trunks) not in (1, len(channels)) or not channels:
            raise ConfigError(f"{len(trunks)} trunks for {len(channels)} inputs; give one trunk, or one for each.")
        self.channels = list(channels)
        self.shared = len(trunks) == 1
        width = sum(trunks[n % len(trunks)].classifier.in_features for n in range(len(channels)))
        for trunk in trunks:
            trunk.classifier = nn.Identity()  # type: ignore[assignment]
        self.trunks = nn.ModuleList(trunks)
        self.dropout = nn.Dropout(dropout)
        self.classifier = LinearHead(width, num_classes)
        nn.init.zeros_(self.classifier.bias)

    def input_features(self, x: Tensor) -> list[Tensor]:
        """Features of each input by its trunk, (B, F) each."""
        parts = torch.split(x, self.channels, dim=1)
        features: list[Tensor] = []
        if self.shared:
            for part in parts:
                features.append(self.trunks[0].forward_features(part))  # type: ignore[operator]
        else:
            for number, trunk in enumerate(self.trunks):
                features.append(trunk.forward_features(parts[number]))  # type: ignore[operator]
        return features

    def forward_features(self, x: Tensor) -> Tensor:
        """Joined features in front of the last layer, (B, F * inputs)."""
        return self.dropout(torch.cat(self.input_features(x), dim=1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (B, num_classes)."""
        return self.classifier(self.forward_features(x))


class TrunkClassifiers(nn.Module):
    """The trunks of a :class:`MultiInputClassifier`, each with a last layer of its own, to train them before they join.

    Args:
        network: its trunks are shared, so what they learn here they know there.
        num_classes: number of logits of each trunk.

    Shapes: (B, sum(channels), ...) to a list of (B, num_classes) logits, one for each input.
    """

    def __init__(self, network: MultiInputClassifier, num_classes: int = 2) -> None:
        super().__init__()
        self.network = network
        width = network.classifier.in_features // len(network.channels)
        self.classifiers = nn.ModuleList(LinearHead(width, num_classes) for _ in network.channels)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Logits of each trunk."""
        features = self.network.input_features(x)
        return [classifier(each) for classifier, each in zip(self.classifiers, features, strict=True)]


def build_multi_input(
    arch: str = "resnet50",
    inputs: int = 3,
    spatial_dims: int = 2,
    in_channels: int = 3,
    num_classes: int = 2,
    size: str = "paper",
    share_weights: bool = False,
    dropout: float = 0.5,
    **options: Any,
) -> MultiInputClassifier:
    """Build a classifier of several inputs with one architecture.

    Args:
        arch: architecture of the trunks (:func:`medresnet3d.networks.classifier.build_classifier`).
        inputs: how many images are packed as channels.
        spatial_dims: 2 or 3.
        in_channels: channels of each.
        num_classes: number of logits.
        size: ``"paper"`` or ``"slim"``.
        share_weights: one trunk for all inputs.
        dropout: see :class:`MultiInputClassifier`.
        **options: further options of the trunks.

    Raises:
        ConfigError: for an unknown architecture or size, or no input.
    """
    number = 1 if share_weights else inputs
    trunks = [build_classifier(arch, spatial_dims, in_channels, num_classes, size, **options) for _ in range(number)]
    return MultiInputClassifier(trunks, [in_channels] * inputs, num_classes, dropout)
