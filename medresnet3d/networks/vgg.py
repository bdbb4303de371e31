"""VGG-11, -13, -16 and -19 in 2D and 3D, with or without normalisation.

Paper: K. Simonyan, A. Zisserman. Very deep convolutional networks for large-scale image recognition. ICLR 2015.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from monai.networks.layers.factories import Pool
from torch import nn

from medresnet3d.networks.hidden_classifier import HiddenClassifier
from medresnet3d.networks.layers.activations import LayerName
from medresnet3d.networks.width import scaled

_CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_CHANNELS = (64, 128, 256, 512, 512)
_HIDDEN = 4096


class VGG(HiddenClassifier):
    """VGG-11 to VGG-19 (2D, three channels, 1000 classes: VGG-16 has 138,357,544 parameters, VGG-19 143,667,240).

    ``features.N`` are torchvision's names. Its ``classifier`` holds three linear layers; here the last one alone is
    ``classifier`` (what margin losses and transfer need), and the two before it are ``hidden.0`` and ``hidden.3``;
    ``published_names`` maps one to the other.

    Args:
        depth: 11, 13, 16 or 19.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: number of logits.
        pool_size: edge of the pooled feature map in front of the hidden layers; by default 7 in 2D as published, and 1
            in 3D, where 7 would mean 719 million weights in the first hidden layer.
        options: see :class:`~medresnet3d.networks.classifier_base.ClassifierBase`. As in the paper there is no
            normalisation by default; ``norm="batch"`` makes it torchvision's ``vgg16_bn``, and so on. ``dropout`` is
            the rate of both hidden layers, 0.5 by default. VGG starts without a stride, so ``stem_stride`` has no
            effect. Hidden units follow the width factor.

    Shapes: (B, in_channels, ...), every edge at least 32, to (B, num_classes) logits.
    """

    published_names: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^classifier\.([03])\.", r"hidden.\1."),
        (r"^classifier\.6\.", "classifier."),
    )
    own_norm: ClassVar[LayerName] = ""
    own_dropout: ClassVar[float] = 0.5

    def __init__(
        self,
        depth: int = 16,
        spatial_dims: int = 3,
        in_channels: int = 1,
        num_classes: int = 2,
        *,
        pool_size: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(spatial_dims, **options)
        layers: list[nn.Module] = []
        channels = in_channels
        for stage_channels, repeats in zip(_CHANNELS, _CONVOLUTIONS[depth], strict=True):
            for _ in range(repeats):
                out = scaled(stage_channels, self.width)
                layers.append(self.layers.conv(channels, out, 3, bias=True))
                if self.layers.norm != "":
                    layers.append(self.layers.normalisation(out))
                layers.append(self.layers.activation(out))
                channels = out
            layers.append(Pool[Pool.MAX, spatial_dims](kernel_size=2, stride=2))
        self.features = nn.Sequential(*layers)
        pool_size = pool_size or (7 if spatial_dims == 2 else 1)
        self.finish_hidden(channels, pool_size, scaled(_HIDDEN, self.width), num_classes)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Activations of the last hidden layer, (B, F)."""
        return self.dropout(self.hidden(self.pool(self.features(x)).flatten(1)))
