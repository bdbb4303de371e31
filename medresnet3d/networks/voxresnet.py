"""VoxResNet: deep voxelwise residual networks for volumetric brain segmentation, with auto-context.

Paper: H. Chen, Q. Dou, L. Yu, J. Qin, P.-A. Heng. VoxResNet: Deep voxelwise residual networks for brain segmentation
from 3D MR images. NeuroImage 170 (2018) 446-455.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.layers.factories import Conv
from monai.networks.layers.utils import get_dropout_layer
from torch import nn

from medresnet3d.networks.layers.activations import LayerName, maxout_pieces
from medresnet3d.networks.layers.batch_renorm import BATCH_NORMS
from medresnet3d.networks.layers.choice import LayerChoice
from medresnet3d.networks.layers.maxout import use_maxout


class VoxRes(nn.Module):
    """Pre-activation residual module: (norm, activation, convolution) twice, plus the input.

    At ``channels=64`` in 3D it has 221,568 parameters.

    Args:
        layers: normalisation and activation; the paper uses batch normalisation and ReLU. With maxout both convolutions
            are maxout layers, and no activation (``"maxout"``) or a ReLU (``"maxout_relu"``) stands before them.
        channels: channels in and out.
        kernel1: kernel size of the first convolution; the paper's figure may mean (1, 3, 3), the public code uses 3.
    """

    def __init__(self, layers: LayerChoice, channels: int, kernel1: int | Sequence[int] = 3) -> None:
        super().__init__()
        self.block = nn.Sequential(
            *_norm_act(layers, channels),
            layers.conv(channels, channels, kernel1, bias=True),
            *_norm_act(layers, channels),
            layers.conv(channels, channels, 3, bias=True),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, channels, ...) to the same shape."""
        return x + self.block(x)


def _norm_act(layers: LayerChoice, channels: int) -> tuple[nn.Module, nn.Module]:
    """Normalisation and activation; without normalisation the input, which a sum still needs, is not overwritten."""
    return layers.normalisation(channels), layers.activation(channels, in_place=layers.norm != "")


class _Head(nn.Module):
    """Bring features of one resolution to full size by a deconvolution, then classify each voxel."""

    def __init__(
        self, layers: LayerChoice, channels: int, classes: int, level: int, branch_conv: bool, dropout: float
    ) -> None:
        super().__init__()
        dims, kernel = layers.spatial_dims, (3, 4, 6, 10)[level]
        self.branch = layers.conv(channels, channels, 1, bias=True) if branch_conv else nn.Identity()
        self.deconv = Conv[Conv.CONVTRANS, dims](channels, channels, kernel, stride=2**level, padding=1)
        self.activation = layers.activation(channels)
        self.dropout = get_dropout_layer(dropout, dims)
        self.classifier = layers.conv(channels, classes, 3, bias=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.dropout(self.activation(self.deconv(self.branch(x)))))


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
        norm: normalisation as MONAI names it, or (name, options), e.g. ``("batch", {"momentum": 0.03})``; ``""`` for
            none.
        act: activation by its name in MONAI's ``Act`` factory, or (name, options). With ``"maxout"`` or
            ``"maxout_relu"`` all convolutions and deconvolutions but those that give the logits (and ``branch_conv``)
            are maxout layers, see :class:`~medresnet3d.networks.classifier_base.ClassifierBase`.
        dropout: rate at which whole channels are dropped before the logits of each head, in training.

    Raises:
        ConfigError: for an unknown activation.

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
        norm: LayerName = "batch",
        act: LayerName = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        half = width // 2
        layers = LayerChoice(spatial_dims, norm, act)

        def stage(before: int, after: int, stride: int = 1) -> list[nn.Module]:
            return [*_norm_act(layers, before), layers.conv(before, after, 3, stride=stride, bias=True)]

        def modules() -> list[nn.Module]:
            return [VoxRes(layers, width, kernel1) for _ in range(2)]

        self.stage1 = nn.Sequential(layers.conv(in_channels, half, 3, bias=True), *stage(half, half))
        self.stage2 = nn.Sequential(*stage(half, width, 2), *modules())
        self.stage3 = nn.Sequential(*stage(width, width, 2), *modules())
        self.stage4 = nn.Sequential(*stage(width, width, 2), *modules())
        self.norm_frozen = False
        self.head1 = _Head(layers, half, out_channels, 0, branch_conv, dropout)
        self.head2 = _Head(layers, width, out_channels, 1, branch_conv, dropout)
        self.head3 = _Head(layers, width, out_channels, 2, branch_conv, dropout)
        self.head4 = _Head(layers, width, out_channels, 3, branch_conv, dropout)
        if maxout_pieces(act):
            use_maxout(self, maxout_pieces(act), r"\b(classifier|branch)$")

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
                if isinstance(module, BATCH_NORMS):
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

    The paper trains the nets one after the other. :func:`medresnet3d.engines.auto_context.auto_context_stages` does so:
    the maps that the second net learns from come from first nets that never saw the patient, and are appended to the
    images of a batch. Images alone get the maps of the module's own first net.

    Args:
        spatial_dims: 2 or 3.
        in_channels: modalities M.
        out_channels: classes K; the second net has M + K input channels.
        options: see :class:`VoxResNet`; both nets have them.

    Attributes:
        passes: 2; with 1 the answer is that of the first net, for its own training.
    """

    def __init__(self, spatial_dims: int = 3, in_channels: int = 1, out_channels: int = 4, **options: Any) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.passes = 2
        self.norm_frozen = False
        self.first = VoxResNet(spatial_dims, in_channels, out_channels, **options)
        self.second = VoxResNet(spatial_dims, in_channels + out_channels, out_channels, **options)

    @torch.jit.unused
    def freeze_norm(self, frozen: bool = True) -> None:
        """See :meth:`VoxResNet.freeze_norm`; both nets."""
        self.norm_frozen = frozen
        for network in (self.first, self.second):
            network.freeze_norm(frozen)

    @torch.jit.unused
    @torch.no_grad()
    def start_second(self) -> None:
        """Let the second net begin as the first: with its weights, and zeros for all that reads the maps."""
        own = self.second.state_dict()
        for name, value in self.first.state_dict().items():
            if own[name].shape == value.shape:
                own[name].copy_(value)
            else:  # the convolution that the images and the maps go into
                own[name].zero_()
                own[name][:, : self.in_channels] = value

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Segment a batch.

        Args:
            x: images (B, M, ...), or (B, M + K, ...) with the maps behind them.

        Returns:
            Logits (B, K, ...) of the second net (of the first, where ``passes`` is 1); in training mode a list of five.
        """
        if self.passes == 1:
            return self.first(x)
        if x.shape[1] == self.in_channels:
            c1, c2, c3, c4 = self.first.auxiliary(x)
            x = torch.cat([x, torch.softmax(c1 + c2 + c3 + c4, dim=1)], dim=1)
        return self.second(x)


def build_voxresnet(
    spatial_dims: int = 3,
    in_channels: int = 1,
    out_channels: int = 4,
    *,
    auto_context: bool = False,
    identity_share: float = 0.0,
    **options: Any,
) -> VoxResNet | AutoContextVoxResNet:
    """Make a :class:`VoxResNet`, or with ``auto_context`` two of them in a row (:class:`AutoContextVoxResNet`).

    ``identity_share``: see :func:`start_near_identity`. The other arguments, ``act``, ``norm`` and ``dropout`` among
    them, are those of the classes.
    """
    kind = AutoContextVoxResNet if auto_context else VoxResNet
    network = kind(spatial_dims, in_channels, out_channels, **options)
    if identity_share:
        for net in (network.first, network.second) if isinstance(network, AutoContextVoxResNet) else (network,):
            start_near_identity(net, identity_share)
    return network


@torch.no_grad()
def start_near_identity(network: VoxResNet, share: float = 0.5) -> None:
    """Let the path at full size start near functions of the voxel itself, where tissue follows intensity.

    The kernels of the two convolutions, the deconvolution and the classifier at full size become a mixture of their
    random start and of kernels that look at the middle only; the norms behind the convolutions get offsets spread over
    the range of intensities, so that the ReLUs bend at different ones. Maxout layers keep their random start.

    Args:
        network: changed in place.
        share: of the kernels in the middle; 0 is the random start, 1 leaves nothing of it.
    """
    for layer in (network.stage1[0], network.stage1[3], network.head1.deconv, network.head1.classifier):
        if not isinstance(layer, nn.modules.conv._ConvNd):  # a maxout has pieces of its own
            continue
        weight = layer.weight
        weight.mul_(1 - share)
        middle = weight.flatten(2)[:, :, weight[0, 0].numel() // 2]  # a view: all sides are odd
        rows, columns = middle.shape
        if rows == columns:
            middle += share * torch.eye(rows)
        elif columns == 1:
            middle += share * torch.tensor([1.0, -1.0]).repeat(rows)[:rows, None]
        else:
            middle += share * torch.randn(rows, columns) / columns**0.5
    for norm in (network.stage1[1], network.stage2[0]):
        bias = getattr(norm, "bias", None)  # there may be no normalisation, or one without offsets
        if isinstance(bias, torch.Tensor):
            bias.copy_(torch.linspace(-1.2, 1.2, len(bias)))
