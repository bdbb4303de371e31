"""Small networks of convolutions and subsampling in turn, such as "6c-2s-12c-2s".

"6c" is a convolution with 6 kernels of edge 5, "2s" subsampling over 2 places; one linear layer follows. The notation
is that of R. B. Palm. Prediction as a candidate for learning deep hierarchical models of data (2012); the layers are
those of Y. LeCun et al. Gradient-based learning applied to document recognition. Proceedings of the IEEE 86 (1998).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from monai.networks.layers.factories import Pool
from torch import nn

from medresnet3d.networks.classifier_base import ClassifierBase
from medresnet3d.networks.layers.activations import LayerName
from medresnet3d.networks.width import scaled

KERNEL = 5


class ConvPool(ClassifierBase):
    """Convolution, activation and mean over 2 places, once for each entry of ``kernels``.

    "6c-2s-12c-2s" for 28 x 28 pixels and one channel has maps of 24, 12, 8 and 4 pixels, 1,950 weights in its kernels
    and 2,354 parameters in all. An image of another size is pooled to as many places in front of the last layer.

    Args:
        kernels: number of kernels of each convolution.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: number of logits.
        pool_size: edge of the feature map in front of the last layer.
        kernel_size: edge of the kernels.
        padded: keep the size in each convolution, so that three or four fit a small image.
        options: see :class:`~medresnet3d.networks.classifier_base.ClassifierBase`; ``stem_stride`` is not used. There
            is no normalisation by default.

    Shapes: (B, in_channels, ...), every edge at least 16 for two convolutions, to (B, num_classes) logits.
    """

    own_norm: ClassVar[LayerName] = ""

    def __init__(
        self,
        kernels: Sequence[int] = (6, 12),
        spatial_dims: int = 3,
        in_channels: int = 1,
        num_classes: int = 2,
        *,
        pool_size: int = 4,
        kernel_size: int = KERNEL,
        padded: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(spatial_dims, **options)
        self.kernel_size, self.padding = kernel_size, kernel_size // 2 if padded else 0
        blocks, channels = [], in_channels
        for published in kernels:
            out = scaled(published, self.width)
            blocks.append(self._block(channels, out))
            channels = out
        self.features = nn.Sequential(*blocks)
        self.pool = self.layers.average_pool(pool_size)
        self.initialise()
        self.finish(channels * pool_size**spatial_dims, num_classes)

    @torch.jit.unused
    def _block(self, channels: int, out: int) -> nn.Sequential:
        norm = [] if self.layers.norm == "" else [self.layers.normalisation(out)]
        return nn.Sequential(
            self.layers.conv(channels, out, self.kernel_size, padding=self.padding, bias=True),
            *norm,
            self.layers.activation(out),
            Pool[Pool.AVG, self.layers.spatial_dims](kernel_size=2),
        )

    @torch.jit.unused
    def stage_patterns(self) -> tuple[str, ...]:
        """The first convolution is the stem, each further one a stage."""
        return tuple(rf"features\.{number}\." for number in range(len(self.features)))

    def feature_map(self, x: torch.Tensor) -> torch.Tensor:
        """Feature maps in front of the pooling, (B, F, ...)."""
        return self.features(x)


def build_small_cnn(
    filters: Sequence[int] = (8, 12, 16),
    kernel_size: int = 3,
    spatial_dims: int = 2,
    in_channels: int = 3,
    num_classes: int = 2,
    *,
    pool_size: int = 2,
    **options: Any,
) -> ConvPool:
    """A :class:`ConvPool` with padded convolutions, small enough for all its weights to be searched by a swarm.

    Args:
        filters: number of kernels of each convolution; each one halves the image, 32 pixels take up to four.
        kernel_size: edge of the kernels, odd.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: number of logits.
        pool_size: edge of the feature map in front of the last layer.
        **options: see :class:`~medresnet3d.networks.classifier_base.ClassifierBase`.
    """
    return ConvPool(
        filters,
        spatial_dims,
        in_channels,
        num_classes,
        pool_size=pool_size,
        kernel_size=kernel_size,
        padded=True,
        **options,
    )
