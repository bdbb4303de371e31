"""AlexNet in 2D and 3D, in the form of one column that torchvision publishes.

Papers: A. Krizhevsky, I. Sutskever, G. E. Hinton. ImageNet classification with deep convolutional neural networks.
NeurIPS 2012. The numbers of filters are those of A. Krizhevsky. One weird trick for parallelizing convolutional neural
networks. arXiv:1404.5997 (2014).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from medresnet3d.networks.hidden_classifier import HiddenClassifier
from medresnet3d.networks.layers.activations import LayerName
from medresnet3d.networks.width import scaled

# channels, kernel edge and whether max pooling follows
_CONVOLUTIONS = ((64, 11, True), (192, 5, True), (384, 3, False), (256, 3, False), (256, 3, True))
_HIDDEN = 4096


class AlexNet(HiddenClassifier):
    """AlexNet (2D, three channels, 1000 classes: 61,100,840 parameters).

    ``features.N`` are torchvision's names; of its ``classifier`` the last layer alone is ``classifier`` here, and the
    two before it are ``hidden.0`` and ``hidden.3``.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: number of logits.
        pool_size: edge of the pooled feature map in front of the hidden layers; by default 6 in 2D as published and 1
            in 3D, where 6 would mean 226 million weights in the first hidden layer.
        options: see :class:`~medresnet3d.networks.classifier_base.ClassifierBase`. The first convolution has twice
            ``stem_stride``: 4 as published. There is no normalisation by default. ``dropout``, 0.5 by default, is the
            rate in front of both hidden layers.

    Shapes: (B, in_channels, ...), every edge at least 63 (35 with ``stem_stride=1``), to (B, num_classes) logits.
    """

    published_names: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^classifier\.1\.", "hidden.0."),
        (r"^classifier\.4\.", "hidden.3."),
        (r"^classifier\.6\.", "classifier."),
    )
    own_norm: ClassVar[LayerName] = ""
    own_dropout: ClassVar[float] = 0.5

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        num_classes: int = 2,
        *,
        pool_size: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(spatial_dims, **options)
        features: list[nn.Module] = []
        channels = in_channels
        for number, (published, kernel, pooled) in enumerate(_CONVOLUTIONS):
            out = scaled(published, self.width)
            first = {} if number else {"stride": 2 * self.stem_stride, "padding": 2}
            features.append(self.layers.conv(channels, out, kernel, bias=True, **first))
            if self.layers.norm != "":
                features.append(self.layers.normalisation(out))
            features.append(self.layers.activation(out))
            if pooled:
                features.append(self.layers.max_pool(padding=0))
            channels = out
        self.features = nn.Sequential(*features)
        pool_size = pool_size or (6 if spatial_dims == 2 else 1)
        self.finish_hidden(channels, pool_size, scaled(_HIDDEN, self.width), num_classes)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Activations of the last hidden layer, (B, F)."""
        return self.hidden(self.dropout(self.pool(self.features(x)).flatten(1)))
