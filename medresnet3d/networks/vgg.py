"""VGG-16 and VGG-19 in 2D and 3D, with or without normalisation.

Paper: K. Simonyan, A. Zisserman. Very deep convolutional networks for large-scale image recognition. ICLR 2015.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from monai.networks.layers.factories import Act, Conv, Norm, Pool
from monai.networks.layers.utils import get_norm_layer
from torch import nn

from medresnet3d.networks.heads.linear import LinearHead
from medresnet3d.networks.width import scaled

_CONVOLUTIONS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_CHANNELS = (64, 128, 256, 512, 512)
_HIDDEN = 4096


class VGG(nn.Module):
    """VGG-16 or VGG-19 (2D, three channels, 1000 classes: 138,357,544 and 143,667,240 parameters).

    ``features.N`` are torchvision's names. Its ``classifier`` holds three linear layers; here the last one alone is
    ``classifier`` (what margin losses and transfer need), and the two before it are ``hidden.0`` and ``hidden.3``;
    ``published_names`` maps one to the other.

    Args:
        depth: 16 or 19.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: number of logits.
        width: factor on every number of channels and hidden units; 1.0 is the published size.
        norm: normalisation after each convolution, by its name in MONAI's factory; ``None`` as in the paper,
            ``"batch"`` for torchvision's ``vgg16_bn`` and ``vgg19_bn``.
        dropout: dropout rate of the hidden layers.
        pool_size: edge of the pooled feature map in front of the hidden layers; by default 7 in 2D as published, and 1
            in 3D, where 7 would mean 719 million weights in the first hidden layer.

    Shapes: (B, in_channels, ...), every edge at least 32, to (B, num_classes) logits.
    """

    published_names: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^classifier\.([03])\.", r"hidden.\1."),
        (r"^classifier\.6\.", "classifier."),
    )

    def __init__(
        self,
        depth: int = 16,
        spatial_dims: int = 3,
        in_channels: int = 1,
        num_classes: int = 2,
        width: float = 1.0,
        norm: str | tuple | None = None,
        dropout: float = 0.5,
        pool_size: int | None = None,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = in_channels
        for stage_channels, repeats in zip(_CHANNELS, _CONVOLUTIONS[depth], strict=True):
            for _ in range(repeats):
                out = scaled(stage_channels, width)
                layers.append(Conv[Conv.CONV, spatial_dims](channels, out, kernel_size=3, padding=1))
                if norm is not None:
                    layers.append(get_norm_layer(norm, spatial_dims, out))
                layers.append(Act["relu"](inplace=True))
                channels = out
            layers.append(Pool[Pool.MAX, spatial_dims](kernel_size=2, stride=2))
        self.features = nn.Sequential(*layers)
        pool_size = pool_size or (7 if spatial_dims == 2 else 1)
        self.avgpool = Pool[Pool.ADAPTIVEAVG, spatial_dims](pool_size)
        hidden = scaled(_HIDDEN, width)
        self.hidden = nn.Sequential(
            nn.Linear(channels * pool_size**spatial_dims, hidden),
            Act["relu"](inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            Act["relu"](inplace=True),
            nn.Dropout(dropout),
        )
        self.classifier = LinearHead(hidden, num_classes)
        self._initialise(spatial_dims)

    def _initialise(self, spatial_dims: int) -> None:
        """He initialisation, without which the nets of this depth do not start to learn."""
        for module in self.modules():
            if isinstance(module, Conv[Conv.CONV, spatial_dims] | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
            elif isinstance(module, Norm[Norm.BATCH, spatial_dims]):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Activations of the last hidden layer, (B, F)."""
        return self.hidden(self.avgpool(self.features(x)).flatten(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, (B, num_classes)."""
        return self.classifier(self.forward_features(x))
