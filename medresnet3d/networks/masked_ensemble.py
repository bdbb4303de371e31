"""Two classifiers on one architecture with different heads, for pictures that are covered in two ways.

Hu et al. (2019) cover part of the training pictures in two ways, train a classifier on ResNet-50 features with each and
integrate the two. How their heads differ is not known to us; the second one here is ours.
"""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.layers.factories import Pool
from torch import Tensor, nn

from medresnet3d.networks.classifier import build_classifier
from medresnet3d.networks.classifier_base import ClassifierBase
from medresnet3d.networks.ensembles import Ensemble


class PooledHiddenClassifier(nn.Module):
    """Mean and maximum of a trunk's feature maps, a hidden layer with batch normalisation, dropout, the last layer.

    Args:
        trunk: a classifier of which the feature maps are used; its own last layer is removed.
        hidden: number of features of the hidden layer.
        num_classes: number of logits.
        dropout: rate at which hidden features are dropped in training.

    Shapes: (B, C, ...) to (B, num_classes) logits.
    """

    def __init__(self, trunk: ClassifierBase, hidden: int = 512, num_classes: int = 2, dropout: float = 0.5) -> None:
        super().__init__()
        dims, width = trunk.layers.spatial_dims, trunk.classifier.in_features
        self.average = Pool[Pool.ADAPTIVEAVG, dims](1)
        self.maximum = Pool[Pool.ADAPTIVEMAX, dims](1)
        self.hidden = nn.Sequential(
            nn.Linear(2 * width, hidden), nn.BatchNorm1d(hidden), trunk.layers.activation(hidden)
        )
        self.dropout = nn.Dropout(dropout)
        self.classifier = trunk.make_classifier(hidden, num_classes)
        trunk.classifier = nn.Identity()  # type: ignore[assignment]
        self.trunk = trunk

    def forward_features(self, x: Tensor) -> Tensor:
        """Hidden features in front of the last layer, (B, hidden)."""
        maps = self.trunk.feature_map(x)
        pooled = torch.cat([self.average(maps).flatten(1), self.maximum(maps).flatten(1)], dim=1)
        return self.dropout(self.hidden(pooled))

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (B, num_classes)."""
        return self.classifier(self.forward_features(x))


def build_masked_ensemble(
    arch: str = "resnet50",
    spatial_dims: int = 2,
    in_channels: int = 3,
    num_classes: int = 2,
    size: str = "paper",
    hidden: int = 512,
    head_dropout: float = 0.5,
    dropout: float | None = None,
    **options: Any,
) -> Ensemble:
    """Build the two classifiers and the mean of their probabilities.

    The first is the architecture with its own head (mean of the feature maps, linear layer), the second has a
    :class:`PooledHiddenClassifier` on a trunk of its own. In training the batch may have two pictures of each case
    packed as channels (2 * in_channels), the first for the first classifier; in eval mode both see the same picture.

    Args:
        arch: architecture of both (:func:`medresnet3d.networks.classifier.build_classifier`).
        spatial_dims: 2 or 3.
        in_channels: channels of one picture.
        num_classes: number of classes.
        size: ``"paper"`` or ``"slim"``.
        hidden: see :class:`PooledHiddenClassifier`.
        head_dropout: of the second head.
        dropout: of both heads, in place of the architecture's own and of ``head_dropout``.
        **options: further options of the architecture.

    Raises:
        ConfigError: for an unknown architecture or size.
    """
    first, trunk = (
        build_classifier(arch, spatial_dims, in_channels, num_classes, size, dropout=dropout, **options)
        for _ in range(2)
    )
    second = PooledHiddenClassifier(trunk, hidden, num_classes, head_dropout if dropout is None else dropout)
    return Ensemble([first, second], rule="sum", joint=False, picture_channels=in_channels)
