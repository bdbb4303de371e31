"""Inception-v3 in 2D and 3D.

Paper: C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens, Z. Wojna. Rethinking the Inception architecture for computer
vision. CVPR 2016.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, ClassVar

from monai.networks.layers.factories import Pool
from torch import nn

from medresnet3d.networks.auxiliary import AuxiliaryClassifier
from medresnet3d.networks.layers.activations import LayerName
from medresnet3d.networks.layers.choice import LayerChoice
from medresnet3d.networks.layers.inception import Block, BlockBuilder, ConvNormAct, Layer, MeanPool, reduction
from medresnet3d.networks.width import scaled

_AUXILIARY, _TAP = "AuxLogits", "Mixed_6e"


class _Blocks:
    """The five kinds of blocks of the paper; their branches have torchvision's names."""

    def __init__(self, layers: LayerChoice) -> None:
        self.layers = layers

    def max_pool(self) -> nn.Module:
        return self.layers.max_pool(padding=0)

    def mean_pool(self) -> nn.Module:
        return MeanPool(self.layers.spatial_dims, count_include_pad=True)

    def a(self, pooled: int) -> Block:
        return {
            "branch1x1": [Layer(64)],
            "branch5x5": [Layer(48), Layer(64, 5)],
            "branch3x3dbl": [Layer(64), Layer(96, 3), Layer(96, 3)],
            "branch_pool": [self.mean_pool, Layer(pooled)],
        }

    def b(self) -> Block:
        return {
            "branch3x3": [reduction(384)],
            "branch3x3dbl": [Layer(64), Layer(96, 3), reduction(96)],
            "branch_pool": [self.max_pool],
        }

    def c(self, inner: int) -> Block:
        across, down = Layer(inner, (1, 7)), Layer(inner, (7, 1))
        return {
            "branch1x1": [Layer(192)],
            "branch7x7": [Layer(inner), across, Layer(192, (7, 1))],
            "branch7x7dbl": [Layer(inner), down, across, down, Layer(192, (1, 7))],
            "branch_pool": [self.mean_pool, Layer(192)],
        }

    def d(self) -> Block:
        return {
            "branch3x3": [Layer(192), reduction(320)],
            "branch7x7x3": [Layer(192), Layer(192, (1, 7)), Layer(192, (7, 1)), reduction(192)],
            "branch_pool": [self.max_pool],
        }

    def e(self) -> Block:
        both = {"a": Layer(384, (1, 3)), "b": Layer(384, (3, 1))}
        return {
            "branch1x1": [Layer(320)],
            "branch3x3": [Layer(384), both],
            "branch3x3dbl": [Layer(448), Layer(384, 3), both],
            "branch_pool": [self.mean_pool, Layer(192)],
        }


class InceptionV3(AuxiliaryClassifier):
    """Inception-v3 (2D, three channels, 1000 classes: 23,834,568 parameters, 27,161,264 with the auxiliary head).

    Names are torchvision's below ``features``, with a dot where it counts the layers of a branch by an underscore. The
    published weights want images from -1 to 1 (mean and deviation 0.5).

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: number of logits.
        auxiliary: whether training mode returns the logits of the auxiliary head too; every edge must be at least
            299 then.
        options: see :class:`ClassifierBase`; ``dropout`` is 0.5 by default.

    Shapes: (B, in_channels, ...), every edge at least 75 (39 with ``stem_stride=1``), to (B, num_classes) logits.
    """

    published_names: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"(\.branch\dx\w*?)_(\d)([ab])\.", r"\1.\2.\3."),
        (r"(\.branch\dx\w*?)_(\d)\.", r"\1.\2."),
        (r"\.branch_pool\.(conv|bn)\.", r".branch_pool.2.\1."),
        (r"^(Conv2d|Mixed)", r"features.\1"),
        (r"^AuxLogits\.", "auxiliary.AuxLogits."),
        (r"^fc\.", "classifier."),
    )
    own_norm: ClassVar[LayerName] = ("batch", {"eps": 1e-3})
    own_dropout: ClassVar[float] = 0.5
    own_stages: ClassVar[tuple[str, ...]] = (
        r"features\.Conv2d",
        *(rf"features\.Mixed_{n}" for n in (5, 6, 7)),
    )

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        num_classes: int = 2,
        *,
        auxiliary: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(spatial_dims, **options)
        build, blocks = BlockBuilder(self.layers, self.width, in_channels, first=1), _Blocks(self.layers)
        stages: OrderedDict[str, nn.Module] = OrderedDict()
        stages["Conv2d_1a_3x3"] = build.conv(Layer(32, 3, self.stem_stride, padded=False))
        stages["Conv2d_2a_3x3"] = build.conv(Layer(32, 3, padded=False))
        stages["Conv2d_2b_3x3"] = build.conv(Layer(64, 3))
        stages["maxpool1"] = blocks.max_pool()
        stages["Conv2d_3b_1x1"] = build.conv(Layer(80))
        stages["Conv2d_4a_3x3"] = build.conv(Layer(192, 3, padded=False))
        stages["maxpool2"] = blocks.max_pool()
        mixed = {"5b": blocks.a(32), "5c": blocks.a(64), "5d": blocks.a(64), "6a": blocks.b()}
        mixed |= {"6b": blocks.c(128), "6c": blocks.c(160), "6d": blocks.c(160), "6e": blocks.c(192)}
        mixed |= {"7a": blocks.d(), "7b": blocks.e(), "7c": blocks.e()}
        for name, block in mixed.items():
            stages[f"Mixed_{name}"] = build.block(block)
            if auxiliary and f"Mixed_{name}" == _TAP:
                self.add_auxiliary(_AUXILIARY, self._auxiliary_head(build.channels, num_classes), _TAP)
        self.features = nn.Sequential(stages)
        self.pool = self.layers.average_pool()
        self.initialise()
        self.finish(build.channels, num_classes)

    def _auxiliary_head(self, channels: int, num_classes: int) -> nn.Sequential:
        inner, features = scaled(128, self.width), scaled(768, self.width)
        head: OrderedDict[str, nn.Module] = OrderedDict()
        head["pool"] = Pool[Pool.AVG, self.layers.spatial_dims](kernel_size=5, stride=3)
        head["conv0"] = ConvNormAct(self.layers, channels, inner)
        head["conv1"] = ConvNormAct(self.layers, inner, features, 5, padding=0)
        head["mean"] = self.layers.average_pool()
        head["flatten"] = nn.Flatten()
        head["fc"] = nn.Linear(features, num_classes)
        return nn.Sequential(head)
