"""DenseNet-121, -169 and -201: MONAI's DenseNet with ``forward_features``, a ``classifier`` and a width factor.

Paper: G. Huang, Z. Liu, L. van der Maaten, K. Q. Weinberger. Densely connected convolutional networks. CVPR 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from monai.networks.nets import DenseNet
from torch import nn

from medresnet3d.networks.classifier_base import ClassifierBase
from medresnet3d.networks.width import scaled

_BLOCKS = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32)}


class DenseNetClassifier(ClassifierBase):
    """DenseNet-121, -169, -201 or one of other blocks, in 2D or 3D; the layers are MONAI's.

    3D DenseNet-121 has 11,244,674 parameters.

    torchvision's names are mapped to MONAI's, the old ones with a dot (``norm.1``) too. The first channels (64) and the
    growth rate (32) follow the width factor.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: number of logits.
        depth: 121, 169 or 201.
        blocks: layers of each dense block, in place of ``depth``.
        options: see :class:`ClassifierBase`.
    """

    published_names: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"(\.denselayer\d+)\.(norm|conv)\.?(\d)\.", r"\1.layers.\2\3."),
        (r"^class_layers\.out\.", "classifier."),  # MONAI's own
    )

    least_first_channels: ClassVar[int] = 1

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        num_classes: int = 2,
        *,
        depth: int = 121,
        blocks: Sequence[int] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(spatial_dims, **options)
        block_config = _BLOCKS[depth] if blocks is None else tuple(blocks)
        network = DenseNet(
            spatial_dims,
            in_channels,
            num_classes,
            init_features=max(self.least_first_channels, scaled(64, self.width)),
            growth_rate=scaled(32, self.width),
            block_config=block_config,
            norm=self.layers.norm_spec,
            act="relu",
        )
        self.features = network.features
        self.features.conv0 = self.first_layer(network.features[0], in_channels)
        self.block_count = len(block_config)
        self.pool = self.layers.average_pool()
        head: Any = network.class_layers[-1]
        features = head.in_features
        in_place = self.layers.norm != ""  # without it an activation would overwrite features that later layers read
        self._choose_activations(in_place)
        self.act = self.layers.activation(features, in_place)
        self.finish(features, num_classes)

    @torch.jit.unused
    def first_layer(self, layer: nn.Module, in_channels: int) -> nn.Module:
        """The layer at the start, given MONAI's: that with the stride of the stem."""
        stem: Any = layer
        stem.stride = (self.stem_stride,) * self.layers.spatial_dims  # MONAI's DenseNet has no argument for it
        return layer

    def _choose_activations(self, in_place: bool) -> None:
        """Put this network's activations, which know their channels, in the place of MONAI's, which do not."""
        for parent in self.features.modules():
            if not isinstance(parent, nn.Sequential):
                continue
            children = list(parent.named_children())
            for index, (name, layer) in enumerate(children):
                if isinstance(layer, nn.ReLU):
                    after = [each.in_channels for _, each in children[index:] if hasattr(each, "in_channels")]
                    before = [each.out_channels for _, each in children[:index] if hasattr(each, "out_channels")]
                    channels: Any = [*after, *before][0]
                    setattr(parent, name, self.layers.activation(channels, in_place))

    @torch.jit.unused
    def stage_patterns(self) -> tuple[str, ...]:
        """The stem, then each dense block with what follows it."""
        last = self.block_count
        return (
            r"features\.(conv|norm|relu)0\.",
            *(rf"features\.(denseblock|transition){number}\." for number in range(1, last)),
            rf"(features\.(denseblock{last}|norm5)|act)\.",
        )

    def feature_map(self, x: torch.Tensor) -> torch.Tensor:
        """Feature maps in front of the pooling, (B, F, ...)."""
        return self.act(self.features(x))
