"""DenseNet-121: MONAI's DenseNet with ``forward_features``, a ``classifier`` and a width factor.

Paper: G. Huang, Z. Liu, L. van der Maaten, K. Q. Weinberger. Densely connected convolutional networks. CVPR 2017.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from monai.networks.nets import DenseNet

from medresnet3d.networks.heads.linear import LinearHead
from medresnet3d.networks.width import scaled


class DenseNetClassifier(DenseNet):
    """DenseNet-121 in 2D or 3D; the layers are MONAI's (3D, one channel, two classes: 11,244,674 parameters).

    torchvision's names are mapped to MONAI's, the old ones with a dot (``norm.1``) too.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: number of logits.
        width: factor on the first channels (64) and the growth rate (32); 1.0 is the published size.
        stem_stride: stride of the first convolution: 2 as published; 1 keeps detail in small cubes.
        norm: normalisation, by its name in MONAI's factory.
        act: activation, by its name in MONAI's factory.

    Shapes: (B, in_channels, ...) to (B, num_classes) logits.
    """

    published_names: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"(\.denselayer\d+)\.(norm|conv)\.?(\d)\.", r"\1.layers.\2\3."),
    )

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        num_classes: int = 2,
        width: float = 1.0,
        stem_stride: int = 2,
        norm: str | tuple = "batch",
        act: str | tuple = ("relu", {"inplace": True}),
    ) -> None:
        super().__init__(
            spatial_dims,
            in_channels,
            num_classes,
            init_features=scaled(64, width),
            growth_rate=scaled(32, width),
            block_config=(6, 12, 24, 16),
            norm=norm,
            act=act,
        )
        stem: Any = self.features[0]
        stem.stride = (stem_stride,) * spatial_dims  # MONAI's DenseNet has no argument for it
        self.pool, linear = self.class_layers[:-1], self.class_layers[-1]
        self.classifier = LinearHead.from_linear(linear)  # type: ignore[arg-type]
        del self.class_layers

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Globally pooled features, (B, F)."""
        return self.pool(self.features(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, (B, num_classes)."""
        return self.classifier(self.forward_features(x))
