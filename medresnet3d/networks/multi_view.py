"""Several views of one thing, each through a trunk of its own or all through one, joined in front of the last layer.

Paper: A. Nibali, Z. He, D. Wollersheim. Pulmonary nodule classification with deep residual networks. International
Journal of Computer Assisted Radiology and Surgery 12 (2017). Three orthogonal views, as we recall it; that their trunks
are separate by default is our choice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.networks.classifier import build_classifier
from medresnet3d.networks.classifier_base import ClassifierBase


class MultiViewClassifier(nn.Module):
    """A classifier of views that are packed as channels.

    Args:
        trunks: one network for each view, or a single one that all views share; their last layers are taken off.
        views: number of views.
        features: number of features of each trunk.
        num_classes: number of logits.

    Shapes: (B, views, ...) to (B, num_classes).

    Raises:
        ConfigError: if the numbers of views and trunks do not fit.
    """

    def __init__(self, trunks: list[ClassifierBase], views: int, features: int, num_classes: int) -> None:
        super().__init__()
        if len(trunks) not in (1, views):
            raise ConfigError(f"{len(trunks)} trunks for {views} views; give one for each, or a single one for all.")
        self.views = views
        self.classifier = trunks[0].make_classifier(views * features, num_classes)
        for trunk in trunks:
            trunk.classifier = nn.Identity()  # type: ignore[assignment]
        self.trunks = nn.ModuleList(trunks)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Features of all views one after the other, (B, views * features)."""
        parts: list[torch.Tensor] = []
        for trunk in self.trunks:
            # a trunk of its own sees the next view, one for all sees every view
            seen = self.views if len(self.trunks) == 1 else 1
            for _ in range(seen):
                view = len(parts)
                parts.append(trunk.forward_features(x[:, view : view + 1]))  # type: ignore[operator]
        return torch.cat(parts, dim=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, (B, num_classes)."""
        return self.classifier(self.forward_features(x))


def build_multi_view(
    arch: str = "resnet18",
    views: int = 3,
    num_classes: int = 2,
    share_weights: bool = False,
    spatial_dims: int = 2,
    **options: Any,
) -> MultiViewClassifier:
    """Build a classifier of several views of one channel each.

    Args:
        arch: of the trunks, a key of :data:`~medresnet3d.networks.classifier.ARCHITECTURES`.
        views: number of views.
        num_classes: number of logits.
        share_weights: one trunk for all views.
        spatial_dims: of a view, 2 or 3.
        **options: of :func:`~medresnet3d.networks.classifier.build_classifier`.
    """
    count = 1 if share_weights else views
    trunks = [build_classifier(arch, spatial_dims, 1, num_classes, **options) for _ in range(count)]
    return MultiViewClassifier(trunks, views, trunks[0].classifier.in_features, num_classes)
