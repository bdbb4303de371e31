"""Networks of which the first stages may be frozen, by the names of their parameters."""

from __future__ import annotations

import re
from typing import ClassVar, Self

import torch
from torch import nn


class StagedNetwork(nn.Module):
    """Base of networks that say which of their parameters belong to which stage."""

    own_stages: ClassVar[tuple[str, ...]] = ()  # patterns of the names in the stem, then in each stage

    def __init__(self) -> None:
        super().__init__()
        self.frozen = ""

    @torch.jit.unused
    def stage_patterns(self) -> tuple[str, ...]:
        """Patterns (:func:`re.match`) of the names of parameters in the stem, then in each stage, in order of depth."""
        return self.own_stages

    @torch.jit.unused
    def freeze(self, pattern: str) -> None:
        """Let no training change the layers whose names match ``pattern``; ``""`` frees all.

        Their parameters need no gradient, and they stay in eval mode in training too, so that the statistics of their
        normalisation stand still. See :func:`medresnet3d.networks.transfer.start_from` for the depths by name.
        """
        self.frozen = pattern
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(not self._is_frozen(name))
        self.train(self.training)

    @torch.jit.unused
    def _is_frozen(self, name: str) -> bool:
        return bool(self.frozen) and re.match(self.frozen, name) is not None

    @torch.jit.unused
    def train(self, mode: bool = True) -> Self:
        """Set training mode; frozen layers stay in eval mode."""
        super().train(mode)
        for name, module in self.named_modules():
            if mode and name and self._is_frozen(f"{name}."):
                module.eval()
        return self
