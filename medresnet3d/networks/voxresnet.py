"""VoxResNet: deep voxelwise residual networks for volumetric brain segmentation, with auto-context.

Paper: H. Chen, Q. Dou, L. Yu, J. Qin, P.-A. Heng. VoxResNet: Deep voxelwise residual networks for brain segmentation
from 3D MR images. NeuroImage 170 (2018) 446-455.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.layers.factories import Act, Conv
from monai.networks.layers.utils import get_norm_layer
from torch import nn

NormName = str | tuple[Any, ...]


def _conv(
    spatial_dims: int, in_channels: int, out_channels: int, kernel: int | Sequence[int] = 3, stride: int = 1
) -> nn.Module:
    """Convolution with the padding that keeps the size (or halves it, at stride two)."""
    sizes = [kernel] * spatial_dims if isinstance(kernel, int) else list(kernel)
    layer: nn.Module = Conv[Conv.CONV, spatial_dims](
        in_channels, out_channels, kernel_size=tuple(sizes), stride=stride, padding=tuple(size // 2 for size in sizes)
    )
    return layer


class VoxRes(nn.Module):
    """Pre-activation residual module: (norm, ReLU, convolution) twice, plus the input.

    At ``channels=64`` in 3D it has 221,568 parameters.

    Args:
        spatial_dims: 2 or 3.
        channels: channels in and out.
        kernel1: kernel size of the first convolution; the paper's figure may mean (1, 3, 3), the public code uses 3.
        norm: normalisation as MONAI names it, or (name, options); the paper uses batch normalisation.
    """

    def __init__(
        self, spatial_dims: int, channels: int, kernel1: int | Sequence[int] = 3, norm: NormName = "batch"
    ) -> None:
        super().__init__()
        self.block = nn.Sequential(
            get_norm_layer(norm, spatial_dims, channels),
            Act["relu"](inplace=True),
            _conv(spatial_dims, channels, channels, kernel1),
            get_norm_layer(norm, spatial_dims, channels),
            Act["relu"](inplace=True),
            _conv(spatial_dims, channels, channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, channels, ...) to the same shape."""
        return x + self.block(x)


class _Head(nn.Module):
    """Bring features of one resolution to full size by a deconvolution, then classify each voxel."""

    def __init__(
        self, spatial_dims: int, channels: int, classes: int, kernel: int, stride: int, branch_conv: bool
    ) -> None:
        super().__init__()
        self.branch = _conv(spatial_dims, channels, channels, 1) if branch_conv else nn.Identity()
        self.deconv = Conv[Conv.CONVTRANS, spatial_dims](channels, channels, kernel, stride=stride, padding=1)
        self.activation = Act["relu"](inplace=True)
        self.classifier = _conv(spatial_dims, channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.activation(self.deconv(self.branch(x))))


class VoxResNet(nn.Module):
    """VoxResNet: six residual modules at 1/2, 1/4 and 1/8 size and four summed deconvolution heads.

    With ``width=64``, one input channel and four classes it has the 6,930,000 parameters and 21 convolutions of the
    public reference code (6,931,728 with three input channels); ``branch_conv`` adds a 1x1x1 convolution to each
    branch, which gives the paper's count of 25 convolutions beside four deconvolutions. Sizes that are not a multiple
    of eight are padded with zeros at the far end and cropped back.

    Args:
        spatial_dims: 2 or 3.
        in_channels: input channels M (modalities); M + K when the probability maps of a first net are appended.
        out_channels: number of classes K, background included.
        width: channels of the residual modules; the two convolutions at full size have half of it.
        kernel1: kernel size of the first convolution in every residual module.
        branch_conv: add one 1x1x1 convolution to each of the four branches.
        norm: normalisation as MONAI names it, or (name, options), e.g. ``("batch", {"momentum": 0.03})``.

    Example:
        >>> VoxResNet(in_channels=1, out_channels=4, width=16).eval()(torch.zeros(1, 1, 20, 16, 16)).shape
        torch.Size([1, 4, 20, 16, 16])
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 4,
        width: int = 64,
        kernel1: int | Sequence[int] = 3,
        branch_conv: bool = False,
        norm: NormName = "batch",
    ) -> None:
        super().__init__()
        half = width // 2

        def norm_relu(channels: int) -> list[nn.Module]:
            return [get_norm_layer(norm, spatial_dims, channels), Act["relu"](inplace=False)]

        def modules() -> list[nn.Module]:
            return [VoxRes(spatial_dims, width, kernel1, norm) for _ in range(2)]

        self.stage1 = nn.Sequential(
            _conv(spatial_dims, in_channels, half), *norm_relu(half), _conv(spatial_dims, half, half)
        )
        self.stage2 = nn.Sequential(*norm_relu(half), _conv(spatial_dims, half, width, stride=2), *modules())
        self.stage3 = nn.Sequential(*norm_relu(width), _conv(spatial_dims, width, width, stride=2), *modules())
        self.stage4 = nn.Sequential(*norm_relu(width), _conv(spatial_dims, width, width, stride=2), *modules())
        self.norm_frozen = False
        self.head1 = _Head(spatial_dims, half, out_channels, 3, 1, branch_conv)
        self.head2 = _Head(spatial_dims, width, out_channels, 4, 2, branch_conv)
        self.head3 = _Head(spatial_dims, width, out_channels, 6, 4, branch_conv)
        self.head4 = _Head(spatial_dims, width, out_channels, 10, 8, branch_conv)

    @torch.jit.unused
    def freeze_norm(self, frozen: bool = True) -> None:
        """Normalise by the running statistics in training too, and leave these as they are.

        With one or two small patches a batch, the statistics of a batch say more about where the patch lies than about
        the scan; once the running ones have settled, training goes on faster, and as inference will see it.
        """
        self.norm_frozen = frozen
        self.train(self.training)

    @torch.jit.unused
    def train(self, mode: bool = True) -> VoxResNet:
        """Set the mode of the module; frozen normalisation stays in eval mode."""
        super().train(mode)
        if self.norm_frozen:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def auxiliary(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Logits of the four heads, C1 to C4, each (B, K, ...) at the size of ``x``."""
        size = x.shape
        padding: list[int] = []
        for axis in range(x.dim() - 1, 1, -1):
            padding.extend([0, (8 - x.shape[axis] % 8) % 8])
        x = nn.functional.pad(x, padding)
        first = self.stage1(x)
        second = self.stage2(first)
        third = self.stage3(second)
        fourth = self.stage4(third)
        outputs: list[torch.Tensor] = []
        for logits in (self.head1(first), self.head2(second), self.head3(third), self.head4(fourth)):
            for axis in range(2, logits.dim()):
                logits = logits.narrow(axis, 0, size[axis])
            outputs.append(logits)
        return outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Segment a batch.

        Args:
            x: (B, in_channels, ...) with ``spatial_dims`` trailing axes of any size.

        Returns:
            In eval mode the logits (B, K, ...); in training mode a list of five logits: their sum, then C1 to C4.
        """
        c1, c2, c3, c4 = self.auxiliary(x)
        main = c1 + c2 + c3 + c4
        if self.training:
            return [main, c1, c2, c3, c4]
        return main


class AutoContextVoxResNet(nn.Module):
    """Two VoxResNets in a row: the second sees the images and the first one's probability maps.

    The paper trains the nets one after the other. Train the first with :class:`VoxResNet`, give its state to ``first``
    and train this module: with ``freeze_first`` only the second net learns, and the first one stays in eval mode.

    Args:
        spatial_dims: 2 or 3.
        in_channels: modalities M.
        out_channels: classes K; the second net has M + K input channels.
        width: see :class:`VoxResNet`; both nets have it.
        kernel1: see :class:`VoxResNet`.
        branch_conv: see :class:`VoxResNet`.
        norm: see :class:`VoxResNet`.
        freeze_first: keep the first net as it is while the second learns.
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 4,
        width: int = 64,
        kernel1: int | Sequence[int] = 3,
        branch_conv: bool = False,
        norm: NormName = "batch",
        freeze_first: bool = False,
    ) -> None:
        super().__init__()
        self.freeze_first = freeze_first
        self.norm_frozen = False
        self.first = VoxResNet(spatial_dims, in_channels, out_channels, width, kernel1, branch_conv, norm)
        self.second = VoxResNet(
            spatial_dims, in_channels + out_channels, out_channels, width, kernel1, branch_conv, norm
        )
        if freeze_first:
            self.first.requires_grad_(False)

    @torch.jit.unused
    def freeze_norm(self, frozen: bool = True) -> None:
        """See :meth:`VoxResNet.freeze_norm`; both nets."""
        self.norm_frozen = frozen
        for network in (self.first, self.second):
            network.freeze_norm(frozen)

    @torch.jit.unused
    def train(self, mode: bool = True) -> AutoContextVoxResNet:
        """Set the mode of the module; a frozen first net stays in eval mode."""
        super().train(mode)
        if self.freeze_first:
            self.first.eval()
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Segment a batch (B, M, ...): logits (B, K, ...) of the second net, in training mode a list of its five."""
        c1, c2, c3, c4 = self.first.auxiliary(x)
        context = torch.softmax(c1 + c2 + c3 + c4, dim=1)
        return self.second(torch.cat([x, context], dim=1))


def build_voxresnet(
    spatial_dims: int = 3,
    in_channels: int = 1,
    out_channels: int = 4,
    width: int = 64,
    kernel1: int | Sequence[int] = 3,
    branch_conv: bool = False,
    norm: NormName = "batch",
    auto_context: bool = False,
) -> VoxResNet | AutoContextVoxResNet:
    """Make a :class:`VoxResNet`, or with ``auto_context`` two of them in a row (:class:`AutoContextVoxResNet`).

    The other arguments are those of the classes.
    """
    network = AutoContextVoxResNet if auto_context else VoxResNet
    return network(spatial_dims, in_channels, out_channels, width, kernel1, branch_conv, norm)
