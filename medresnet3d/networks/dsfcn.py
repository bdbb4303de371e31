"""A deep fully convolutional network with dense deconvolution and hierarchical supervision, for specimen images.

Paper: H. Xie et al., deeply supervised full convolutional network for HEp-2 specimen segmentation (2019), known to us
from a survey only: a very deep FCN, dense deconvolution layers, supervision of the shallow layers, end to end. The
encoder, the skips and where the side outputs lie are our reading.
"""

from __future__ import annotations

import torch
from monai.networks.layers.utils import get_dropout_layer
from torch import Tensor, nn

from medresnet3d.errors import ConfigError
from medresnet3d.networks.classifier import build_classifier
from medresnet3d.networks.layers.activations import LayerName, maxout_pieces
from medresnet3d.networks.layers.choice import LayerChoice
from medresnet3d.networks.layers.dense_deconvolution import DenseDeconvolution
from medresnet3d.networks.layers.maxout import use_maxout
from medresnet3d.networks.layers.resize import resize
from medresnet3d.networks.resnet import BasicBlock, ResNetClassifier
from medresnet3d.networks.width import scaled


class DSFCN(nn.Module):
    """A ResNet at strides 1 to 16, four steps back to full size, and a side output after each.

    Each step is a :class:`~medresnet3d.networks.layers.dense_deconvolution.DenseDeconvolution`, joined with the
    encoder's maps of the same size by a residual block. The first convolution of the encoder has stride 1, so that the
    fourth step ends at full resolution. Sizes that are no multiple of 16 are padded with zeros at the far end and
    cropped back.

    Args:
        arch: encoder, a ResNet of :func:`medresnet3d.networks.classifier.build_classifier`.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: number of classes K, background included.
        size: ``"paper"`` for the encoder's published channels, ``"slim"`` for a quarter.
        dense: make the interleaved maps by dense deconvolution; otherwise a transposed convolution of size 8 takes its
            place, which has about as many parameters, with the same normalisation and activation.
        norm: normalisation as MONAI names it, or (name, options); by default batch normalisation.
        act: activation by its name in MONAI's ``Act`` factory, or (name, options); by default ReLU. With ``"maxout"``
            or ``"maxout_relu"`` all convolutions but the shortcuts', the deconvolutions' and those that give the logits
            are maxout layers.
        dropout: rate at which whole channels are dropped in front of the logits, in training.

    Shapes: (B, in_channels, ...) to logits (B, K, ...); in training mode a list of four of that size: full resolution,
    then the side outputs at 1/2, 1/4 and 1/8, enlarged linearly.

    Raises:
        ConfigError: if the encoder is no ResNet, or for an unknown size or layer.

    Example:
        >>> DSFCN("resnet10", 2, size="slim").eval()(torch.zeros(1, 1, 40, 50)).shape
        torch.Size([1, 2, 40, 50])
    """

    def __init__(
        self,
        arch: str = "resnet18",
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 2,
        size: str = "paper",
        dense: bool = True,
        norm: LayerName | None = None,
        act: LayerName | None = None,
        dropout: float | None = None,
    ) -> None:
        super().__init__()
        encoder = build_classifier(arch, spatial_dims, in_channels, 1, size, stem_stride=1, act=act, norm=norm)
        if not isinstance(encoder, ResNetClassifier):
            raise ConfigError(f"The encoder {arch!r} is no ResNet; choose resnet10, resnet18, ... or resnet200.")
        planes = [scaled(64 * 2**number, encoder.width) for number in range(4)]
        expansion = encoder.classifier.in_features // planes[-1]
        channels = [planes[0], *(expansion * number for number in planes)]  # at strides 1 to 16
        widths = [planes[2], planes[1], planes[0], planes[0]]
        encoder.classifier = nn.Identity()  # type: ignore[assignment]
        self.encoder = encoder
        layers = LayerChoice(spatial_dims, encoder.layers.norm, encoder.layers.act)
        kind = DenseDeconvolution if dense else TransposedConvolution
        self.stride = 2 ** (len(channels) - 1)
        self.up, self.join, self.sides = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        before = channels.pop()
        for after, skip in zip(widths, reversed(channels), strict=True):
            self.up.append(kind(layers, before, after))
            join = BasicBlock(layers, after + skip, after)
            if maxout_pieces(layers.act):
                use_maxout(join, maxout_pieces(layers.act), r"\bdownsample\b")
            self.join.append(join)
            self.sides.append(layers.conv(after, out_channels, 1, bias=True))
            before = after
        self.dropout = get_dropout_layer(dropout or 0.0, spatial_dims)

    def levels(self, x: Tensor) -> list[Tensor]:
        """The encoder's maps at strides 1, 2, 4, 8 and 16."""
        net = self.encoder
        stem = net.act(net.bn1(net.conv1(x)))
        first = net.layer1(net.maxpool(stem))
        second = net.layer2(first)
        third = net.layer3(second)
        return [stem, first, second, third, net.layer4(third)]

    def side_outputs(self, x: Tensor) -> list[Tensor]:
        """Logits at 1/8, 1/4, 1/2 and full resolution of an image whose sizes are multiples of 16."""
        levels = self.levels(x)
        x = levels.pop()
        outputs: list[Tensor] = []
        for up, join, side in zip(self.up, self.join, self.sides):  # noqa: B905 - TorchScript knows no strict
            x = join(torch.cat([up(x), levels.pop()], dim=1))
            outputs.append(side(self.dropout(x)))
        return outputs

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits, see the class."""
        size = list(x.shape)
        padding: list[int] = []
        for axis in range(x.dim() - 1, 1, -1):
            padding.extend([0, (self.stride - x.shape[axis] % self.stride) % self.stride])
        x = nn.functional.pad(x, padding)
        padded = list(x.shape[2:])
        outputs = self.side_outputs(x)
        main = _cropped(outputs.pop(), size)
        if not self.training:
            return main
        found = [main]
        while len(outputs) > 0:
            side = resize(outputs.pop(), padded)
            found.append(_cropped(side, size))
        return found


class TransposedConvolution(nn.Module):
    """Upsampling by two with a transposed convolution, the ordinary way; of size 8, for about as many parameters.

    Args:
        layers: see :class:`~medresnet3d.networks.layers.dense_deconvolution.DenseDeconvolution`.
        in_channels: channels in.
        channels: channels out.
    """

    def __init__(self, layers: LayerChoice, in_channels: int, channels: int) -> None:
        super().__init__()
        kind = nn.ConvTranspose2d if layers.spatial_dims == 2 else nn.ConvTranspose3d
        self.deconv = kind(in_channels, channels, 8, stride=2, padding=3, bias=not layers.norm)
        nn.init.kaiming_normal_(self.deconv.weight, mode="fan_out", nonlinearity="relu")
        self.norm = layers.normalisation(channels)
        self.act = layers.activation(channels)

    def interleaved(self, x: Tensor) -> Tensor:
        """The maps before normalisation and activation."""
        return self.deconv(x)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, ...) to (B, channels, ...) with every axis twice as long."""
        return self.act(self.norm(self.interleaved(x)))


def _cropped(logits: Tensor, size: list[int]) -> Tensor:
    for axis in range(2, logits.dim()):
        logits = logits.narrow(axis, 0, size[axis])
    return logits
