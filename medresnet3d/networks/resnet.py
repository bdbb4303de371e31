"""ResNet classifiers: MONAI's ResNet with the torchvision layout, ``forward_features`` and a ``classifier``.

Paper: K. He, X. Zhang, S. Ren, J. Sun. Deep residual learning for image recognition. CVPR 2016.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from monai.networks.nets import ResNet
from torch import nn

from medresnet3d.networks.heads.linear import LinearHead
from medresnet3d.networks.width import scaled

_DEPTHS: dict[int, tuple[str, list[int]]] = {
    10: ("basic", [1, 1, 1, 1]),
    18: ("basic", [2, 2, 2, 2]),
    34: ("basic", [3, 4, 6, 3]),
    50: ("bottleneck", [3, 4, 6, 3]),
    101: ("bottleneck", [3, 4, 23, 3]),
    152: ("bottleneck", [3, 8, 36, 3]),
}


class ResNetClassifier(ResNet):
    """ResNet-10 to ResNet-152 in 2D or 3D.

    The layers are MONAI's. Two of its defaults are not: shortcuts have no bias, and the first convolution has stride
    two, so that in 2D names, shapes and feature-map sizes are torchvision's (ResNet-18: 11,689,512 parameters,
    ResNet-50: 25,557,032, at 1000 classes). torchvision's ``fc`` is called ``classifier`` here.

    Args:
        depth: 10, 18, 34, 50, 101 or 152.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: number of logits.
        width: factor on every number of channels; 1.0 is the published size.
        stem_stride: stride of the first convolution: 2 as published; 1 keeps detail in small cubes (32 voxels).
        norm: normalisation, by its name in MONAI's factory.
        act: activation after the first convolution, by its name in MONAI's factory.

    Shapes: (B, in_channels, ...) to (B, num_classes) logits.
    """

    published_names: ClassVar[tuple[tuple[str, str], ...]] = ((r"^fc\.", "classifier."),)

    def __init__(
        self,
        depth: int = 18,
        spatial_dims: int = 3,
        in_channels: int = 1,
        num_classes: int = 2,
        width: float = 1.0,
        stem_stride: int = 2,
        norm: str | tuple = "batch",
        act: str | tuple = ("relu", {"inplace": True}),
    ) -> None:
        block, layers = _DEPTHS[depth]
        planes = [scaled(channels, width) for channels in (64, 128, 256, 512)]
        super().__init__(
            block,
            layers,
            planes,
            spatial_dims=spatial_dims,
            n_input_channels=in_channels,
            conv1_t_stride=stem_stride,
            feed_forward=False,
            bias_downsample=False,
            norm=norm,
            act=act,
        )
        self.classifier = LinearHead(self.in_planes, num_classes)
        nn.init.zeros_(self.classifier.bias)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Globally pooled features, (B, F)."""
        x = self.maxpool(self.act(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.avgpool(x).flatten(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, (B, num_classes)."""
        return self.classifier(self.forward_features(x))
