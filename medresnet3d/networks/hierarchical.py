"""Classifiers by name whose last layer decides on a group of classes first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medresnet3d.networks.classifier import build_classifier
from medresnet3d.networks.classifier_base import ClassifierBase
from medresnet3d.networks.heads.hierarchical import HierarchicalHead, checked_groups


def build_hierarchical_classifier(
    groups: Sequence[int],
    arch: str = "resnet50",
    spatial_dims: int = 2,
    in_channels: int = 3,
    size: str = "paper",
    **options: Any,
) -> ClassifierBase:
    """Build a classifier with a :class:`~medresnet3d.networks.heads.hierarchical.HierarchicalHead`.

    It gives log-probabilities of the classes, (B, K), of which
    :class:`medresnet3d.losses.hierarchical.HierarchicalLoss` is the loss.

    Args:
        groups: the group (0, 1, ...) of each class.
        arch: architecture, see :func:`medresnet3d.networks.classifier.build_classifier`.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        size: ``"paper"`` or ``"slim"``.
        **options: further options of the network.

    Raises:
        ConfigError: for an unknown architecture or size, or a group without a class.
    """
    groups = checked_groups(groups)
    network = build_classifier(arch, spatial_dims, in_channels, len(groups), size, **options)
    features = network.classifier.in_features
    network.classifier = HierarchicalHead(features, groups, network.make_classifier)  # type: ignore[assignment]
    return network
