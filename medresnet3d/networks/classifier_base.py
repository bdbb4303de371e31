"""What all classification networks have in common: options of their layers, pooled features and the last layer."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import nn

from medresnet3d.networks.heads.linear import LinearHead
from medresnet3d.networks.layers.activations import LayerName, maxout_pieces
from medresnet3d.networks.layers.choice import LayerChoice
from medresnet3d.networks.layers.dropconnect import DropConnectHead
from medresnet3d.networks.layers.maxout import use_maxout
from medresnet3d.networks.staged_network import StagedNetwork


class ClassifierBase(StagedNetwork):
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
    own_parts: ClassVar[str] = "(?!)"  # pattern of names that no published file has: they start at random
    own_norm: ClassVar[LayerName] = "batch"
    own_act: ClassVar[LayerName] = "relu"
    own_dropout: ClassVar[float] = 0.0
    pool: nn.Module
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

    def feature_map(self, x: torch.Tensor) -> torch.Tensor:
        """Feature maps in front of the pooling, (B, F, ...)."""
        raise NotImplementedError

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Features in front of the last layer, (B, F)."""
        return self.dropout(self.pool(self.feature_map(x)).flatten(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, (B, num_classes)."""
        return self.classifier(self.forward_features(x))
