"""Classifiers of stages one after another, some of which may have an auxiliary classifier of their own."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from medresnet3d.networks.classifier_base import ClassifierBase


class AuxiliaryClassifier(ClassifierBase):
    """Base of the Inception networks: ``features`` is a chain of named stages, ``auxiliary`` has heads on some of them.

    In training mode a network with auxiliary heads returns a list: the logits, then those of each head, in order of
    depth (:class:`medresnet3d.losses.deep_supervision.FadingDeepSupervisionLoss` takes it). In eval mode, and without
    such heads, it returns the logits alone. A subclass makes ``features`` and calls :meth:`add_auxiliary`.
    """

    features: nn.Sequential

    def __init__(self, spatial_dims: int = 3, **options: Any) -> None:
        super().__init__(spatial_dims, **options)
        self.auxiliary = nn.ModuleDict()
        self.taps: dict[str, str] = {}

    @torch.jit.unused
    def add_auxiliary(self, name: str, head: nn.Module, stage: str) -> None:
        """Put an auxiliary classifier on the output of a stage."""
        self.auxiliary[name] = head
        self.taps[stage] = name

    def feature_map(self, x: torch.Tensor) -> torch.Tensor:
        """Feature maps in front of the pooling, (B, F, ...)."""
        return self.after_stages(self.features(x))

    def after_stages(self, x: torch.Tensor) -> torch.Tensor:
        """What stands between the last stage and the pooling: nothing, unless a subclass has it."""
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, (B, num_classes); a list in training mode if there are auxiliary heads."""
        if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript leaves out such a branch by itself only
            if self.training and len(self.auxiliary):
                return self.training_outputs(x)  # type: ignore[return-value]
        return self.classifier(self.forward_features(x))

    @torch.jit.unused
    def training_outputs(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Logits of the last layer and of each auxiliary head."""
        outputs = []
        for name, stage in self.features.named_children():
            x = stage(x)
            if name in self.taps:
                outputs.append(self.auxiliary[self.taps[name]](x))
        features = self.dropout(self.pool(self.after_stages(x)).flatten(1))
        return [self.classifier(features), *outputs]
