"""What all classification networks have in common: options of their layers, pooled features and the last layer."""

from __future__ import annotations

import re
from typing import ClassVar, Literal, Self

import torch
from torch import nn

from medresnet3d.networks.heads.linear import LinearHead
from medresnet3d.networks.layers.activations import LayerName, maxout_pieces
from medresnet3d.networks.layers.choice import LayerChoice
from medresnet3d.networks.layers.dropconnect import DropConnectHead
from medresnet3d.networks.layers.maxout import use_maxout


class ClassifierBase(nn.Module):
    """Base of the classification networks.

    A subclass makes its layers with ``self.layers``, ``self.pool`` among them, calls :meth:`finish` and defines
    :meth:`feature_map`.

    Args:
        spatial_dims: 2 or 3.
        stem_stride: stride of the first convolution: 2 as published; 1 keeps detail in small cubes (32 voxels).
        width: factor on every number of channels; 1.0 is the published size.
        norm: normalisation by its name in MONAI's ``Norm`` factory, or (name, options), ``""`` for none; by default
            that of the architecture, ``own_norm``.
        act: activation by its name in MONAI's ``Act`` factory, or (name, options); by default that of the
            architecture, ``own_act``. With ``"maxout"`` every convolution (and hidden linear layer) but those of the
            shortcuts has two filters for each output channel, of which each place takes the larger; norms, sums and
            concatenations come after the maximum and have the channels they always had, and where the architecture has
            its activation, for example after the addition of a residual block, there is none. ``"maxout_relu"`` (Gan et
            al. 2019) has ReLU there. ``("maxout", {"pieces": 3})`` has three filters.
        dropout: rate at which features are dropped before the last layer, in training; by default that of the
            architecture, ``own_dropout``.
        dropconnect: probability of *keeping* a weight of the last layer
            (:class:`~medresnet3d.networks.layers.dropconnect.DropConnectHead`); by default all are kept.

    Shapes: (B, in_channels, ...) to (B, num_classes) logits.

    Raises:
        ConfigError: for an unknown activation.
    """

    published_names: ClassVar[tuple[tuple[str, str], ...]] = ()  # pattern and replacement, one after another
    passed_over: ClassVar[str] = "(?!)"  # pattern of names in a published file that are no part of the network
    own_norm: ClassVar[LayerName] = "batch"
    own_act: ClassVar[LayerName] = "relu"
    own_dropout: ClassVar[float] = 0.0
    pool: nn.Module
    own_stages: ClassVar[tuple[str, ...]] = ()  # patterns of the names in the stem, then in each stage
    linear_layers: ClassVar[str] = ""  # regular expression: names of convolutions that stay linear with maxout

    def __init__(
        self,
        spatial_dims: int = 3,
        *,
        stem_stride: int = 2,
        width: float = 1.0,
        norm: LayerName | None = None,
        act: LayerName | None = None,
        dropout: float | None = None,
        dropconnect: float | None = None,
    ) -> None:
        super().__init__()
        self.layers = LayerChoice(spatial_dims, self._norm(norm), self.own_act if act is None else act)
        self.stem_stride, self.width = stem_stride, width
        self.dropout_rate = self.own_dropout if dropout is None else dropout
        self.keep_probability = dropconnect
        self.frozen = ""

    @torch.jit.unused
    def _norm(self, norm: LayerName | None) -> LayerName:
        """``norm``, or the architecture's own: also where its mere name is given, so that its options are kept."""
        own_name = self.own_norm if isinstance(self.own_norm, str) else self.own_norm[0]
        return self.own_norm if norm is None or norm == own_name else norm

    @torch.jit.unused
    def finish(self, features: int, num_classes: int) -> None:
        """Turn the layers made so far into maxout layers if that is wanted, and add dropout and the last layer."""
        pieces = maxout_pieces(self.layers.act)
        if pieces:
            use_maxout(self, pieces, self.linear_layers)
        self.dropout = nn.Dropout(self.dropout_rate)
        self.classifier = self.make_classifier(features, num_classes)

    @torch.jit.unused
    def make_classifier(self, features: int, num_classes: int) -> nn.Linear:
        """The last layer: (B, features) to (B, num_classes); its bias starts at zero."""
        keep = self.keep_probability
        layer = LinearHead(features, num_classes) if keep is None else DropConnectHead(features, num_classes, keep)
        nn.init.zeros_(layer.bias)
        return layer

    @torch.jit.unused
    def initialise(self, mode: Literal["fan_in", "fan_out"] = "fan_in") -> None:
        """He initialisation of the convolutions made so far; biases, where they have them, are zero."""
        for module in self.modules():
            if isinstance(module, self.layers.conv_type):
                nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

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
            if mode and self._is_frozen(f"{name}."):
                module.eval()
        return self

    def feature_map(self, x: torch.Tensor) -> torch.Tensor:
        """Feature maps in front of the pooling, (B, F, ...)."""
        raise NotImplementedError

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Features in front of the last layer, (B, F)."""
        return self.dropout(self.pool(self.feature_map(x)).flatten(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, (B, num_classes)."""
        return self.classifier(self.forward_features(x))
