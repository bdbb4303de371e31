"""ResNet classifiers in 2D and 3D, with the layout of torchvision and the layer names of torchvision and MONAI.

MONAI's own ``ResNet`` (1.6.1) hands normalisation and activation to its first layers only, and the layers of a block
share one activation, so the blocks are this package's.

Papers: K. He, X. Zhang, S. Ren, J. Sun. Deep residual learning for image recognition. CVPR 2016. Several branches
with a random multiplier: Xu et al. (2019), see :mod:`medresnet3d.networks.layers.random_multiplier`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from monai.networks.layers.factories import Pool
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.names import require_name
from medresnet3d.networks.classifier_base import ClassifierBase
from medresnet3d.networks.layers.choice import LayerChoice
from medresnet3d.networks.layers.random_multiplier import RandomMultiplier
from medresnet3d.networks.width import scaled


class PaddedShortcut(nn.Module):
    """Shortcut without parameters (option A of the paper): every ``stride``-th place, and channels of zeros.

    Args:
        layers: gives the number of spatial dimensions.
        in_channels: channels in.
        channels: channels out.
        stride: its stride.
    """

    def __init__(self, layers: LayerChoice, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.pool = Pool[Pool.AVG, layers.spatial_dims](kernel_size=1, stride=stride)
        self.padding = [0, 0] * layers.spatial_dims + [0, channels - in_channels]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, ...) to (B, channels, ...)."""
        return nn.functional.pad(self.pool(x), self.padding)


def shortcut(layers: LayerChoice, in_channels: int, channels: int, stride: int, shortcut_type: str = "B") -> nn.Module:
    """The other way around a residual function: the input itself where the shape stays.

    Where it changes, that is the input's projection (``shortcut_type="B"``) or the input padded with zeros (``"A"``).
    """
    if stride == 1 and in_channels == channels:
        return nn.Identity()
    if shortcut_type == "A":
        return PaddedShortcut(layers, in_channels, channels, stride)
    return nn.Sequential(layers.conv(in_channels, channels, 1, stride=stride), layers.normalisation(channels))


class ResidualBlock(nn.Module):
    """Base of the two blocks: a residual function plus the shortcut, then an activation.

    Args:
        layers: what it is made of. With ``act="maxout"`` nothing follows the sum, with ``"maxout_relu"`` a ReLU; the
            convolutions of the residual function are maxout layers then, the projection of the shortcut is not.
        in_channels: channels in.
        planes: channels of the inner convolutions; the output has ``expansion`` times as many.
        stride: stride of the (first) 3-convolution.
        bare: leave out shortcut and last activation: the residual function alone.
        shortcut_type: see :func:`shortcut`.

    Shapes: (B, in_channels, ...) to (B, planes * expansion, ...).
    """

    expansion: ClassVar[int] = 1

    def __init__(
        self,
        layers: LayerChoice,
        in_channels: int,
        planes: int,
        stride: int = 1,
        bare: bool = False,
        shortcut_type: str = "B",
    ) -> None:
        super().__init__()
        channels = planes * self.expansion
        self.bare = bare
        downsample = nn.Identity() if bare else shortcut(layers, in_channels, channels, stride, shortcut_type)
        self.add_residual(layers, in_channels, planes, stride)
        self.downsample = downsample
        self.act = nn.Identity() if bare else layers.activation(channels)

    @torch.jit.unused
    def add_residual(self, layers: LayerChoice, in_channels: int, planes: int, stride: int) -> None:
        """Make the layers of the residual function."""
        raise NotImplementedError

    def residual(self, x: torch.Tensor) -> torch.Tensor:
        """The residual function, which is added to the shortcut."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the block."""
        if self.bare:
            return self.residual(x)
        return self.act(self.residual(x) + self.downsample(x))


class BasicBlock(ResidualBlock):
    """Residual block of two 3-convolutions; see :class:`ResidualBlock`."""

    @torch.jit.unused
    def add_residual(self, layers: LayerChoice, in_channels: int, planes: int, stride: int) -> None:
        """Make the layers of the residual function."""
        self.conv1 = layers.conv(in_channels, planes, 3, stride=stride)
        self.bn1 = layers.normalisation(planes)
        self.act1 = layers.activation(planes)
        self.conv2 = layers.conv(planes, planes, 3)
        self.bn2 = layers.normalisation(planes)

    def residual(self, x: torch.Tensor) -> torch.Tensor:
        """The residual function, which is added to the shortcut."""
        return self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x)))))


class Bottleneck(ResidualBlock):
    """Residual block of a 1-, a 3- and a 1-convolution; see :class:`ResidualBlock`."""

    expansion: ClassVar[int] = 4

    @torch.jit.unused
    def add_residual(self, layers: LayerChoice, in_channels: int, planes: int, stride: int) -> None:
        """Make the layers of the residual function."""
        self.conv1 = layers.conv(in_channels, planes, 1)
        self.bn1 = layers.normalisation(planes)
        self.act1 = layers.activation(planes)
        self.conv2 = layers.conv(planes, planes, 3, stride=stride)
        self.bn2 = layers.normalisation(planes)
        self.act2 = layers.activation(planes)
        self.conv3 = layers.conv(planes, planes * self.expansion, 1)
        self.bn3 = layers.normalisation(planes * self.expansion)

    def residual(self, x: torch.Tensor) -> torch.Tensor:
        """The residual function, which is added to the shortcut."""
        x = self.act1(self.bn1(self.conv1(x)))
        return self.bn3(self.conv3(self.act2(self.bn2(self.conv2(x)))))


class MultiBranchBlock(nn.Module):
    r"""Residual block of several residual functions, :math:`y = f(x + \sum_b m_b F_b(x))` with random m.

    Args:
        kind: the block whose residual function every branch has.
        layers: see :class:`ResidualBlock`.
        in_channels: see :class:`ResidualBlock`.
        planes: see :class:`ResidualBlock`.
        stride: see :class:`ResidualBlock`.
        branches: number of branches.
        multiplier: distribution of m (:class:`~medresnet3d.networks.layers.random_multiplier.RandomMultiplier`).
    """

    def __init__(
        self,
        kind: type[ResidualBlock],
        layers: LayerChoice,
        in_channels: int,
        planes: int,
        stride: int = 1,
        branches: int = 2,
        multiplier: str = "simplex",
    ) -> None:
        super().__init__()
        channels = planes * kind.expansion
        functions = [kind(layers, in_channels, planes, stride, bare=True) for _ in range(branches)]
        self.residual = RandomMultiplier(functions, multiplier)
        self.downsample = shortcut(layers, in_channels, channels, stride)
        self.act = layers.activation(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the block."""
        return self.act(self.residual(x) + self.downsample(x))


_DEPTHS: dict[int, tuple[type[ResidualBlock], tuple[int, ...]]] = {
    10: (BasicBlock, (1, 1, 1, 1)),
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
    200: (Bottleneck, (3, 24, 36, 3)),
}


class ResNetClassifier(ClassifierBase):
    """ResNet-10 to ResNet-200 in 2D or 3D.

    In 2D names, shapes and feature-map sizes are torchvision's (ResNet-18: 11,689,512 parameters, ResNet-50:
    25,557,032, at 1000 classes); torchvision's ``fc`` is called ``classifier`` here. It gives what MONAI's ``ResNet``
    with ``conv1_t_stride=2, bias_downsample=False`` gives with the same weights.

    Args:
        depth: 10, 18, 34, 50, 101, 152 or 200.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: number of logits.
        branches: residual functions per block; more than one makes it the multi-branch network of Xu et al. (2019),
            whose blocks are :class:`MultiBranchBlock` and which has no published weights.
        multiplier: distribution of the random multiplier of several branches.
        shortcut_type: ``"B"``, a projection where the shape changes, as torchvision has it, or ``"A"``, zeros, as
            MedicalNet's 3D ResNet-18 and -34 have it; for networks of one branch.
        stem_pool: halve the maps behind the stem by max pooling, as published; without it images of 28 voxels keep
            enough places in the last stages.
        options: see :class:`ClassifierBase`.

    Raises:
        ConfigError: for a depth that is not listed, or less than one branch.
    """

    published_names: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^fc\.", "classifier."),
        (r"^features\.0\.", "conv1."),  # MONAI's TorchVisionFCModel numbers the children of torchvision's network
        (r"^features\.1\.", "bn1."),
        *((rf"^features\.{number + 3}\.", f"layer{number}.") for number in (1, 2, 3, 4)),
    )
    linear_layers: ClassVar[str] = r"\bdownsample\b"
    own_stages: ClassVar[tuple[str, ...]] = (r"(conv1|bn1|act)\.", *(rf"layer{n}\." for n in (1, 2, 3, 4)))
    passed_over: ClassVar[str] = r"conv_seg\."  # the decoder of MedicalNet

    def __init__(
        self,
        depth: int = 18,
        spatial_dims: int = 3,
        in_channels: int = 1,
        num_classes: int = 2,
        *,
        branches: int = 1,
        multiplier: str = "simplex",
        shortcut_type: str = "B",
        stem_pool: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(spatial_dims, **options)
        require_name("Shortcut", shortcut_type, ("A", "B"))
        if depth not in _DEPTHS or branches < 1:
            depths = ", ".join(map(str, _DEPTHS))
            raise ConfigError(f"A ResNet of depth {depth} with {branches} branches; give one of {depths}, 1 or more.")
        kind, repeats = _DEPTHS[depth]
        channels = scaled(64, self.width)
        self.conv1 = self.layers.conv(in_channels, channels, 7, stride=self.stem_stride)
        self.bn1 = self.layers.normalisation(channels)
        self.act = self.layers.activation(channels)
        self.maxpool = self.layers.max_pool() if stem_pool else nn.Identity()
        stages = []
        self.stage_channels: list[int] = []
        for number, blocks in enumerate(repeats):
            planes = scaled(64 * 2**number, self.width)
            stage: list[nn.Module] = []
            for index in range(blocks):
                shape = (self.layers, channels, planes, 2 if number and not index else 1)
                if branches > 1:
                    stage.append(MultiBranchBlock(kind, *shape, branches, multiplier))
                else:
                    stage.append(kind(*shape, shortcut_type=shortcut_type))
                channels = planes * kind.expansion
            stages.append(nn.Sequential(*stage))
            self.stage_channels.append(channels)
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.pool = self.layers.average_pool()
        self.initialise("fan_out")
        self.finish(channels, num_classes)

    def feature_map(self, x: torch.Tensor) -> torch.Tensor:
        """Feature maps in front of the pooling, (B, F, ...)."""
        x = self.maxpool(self.act(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def feature_maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Feature maps behind each of the four stages, the finest first; they have ``stage_channels`` channels."""
        x = self.maxpool(self.act(self.bn1(self.conv1(x))))
        maps = [self.layer1(x)]
        maps.append(self.layer2(maps[0]))
        maps.append(self.layer3(maps[1]))
        maps.append(self.layer4(maps[2]))
        return maps
