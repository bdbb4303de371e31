"""Inception-v4 in 2D and 3D.

Paper: C. Szegedy, S. Ioffe, V. Vanhoucke, A. A. Alemi. Inception-v4, Inception-ResNet and the impact of residual
connections on learning. AAAI 2017.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from medresnet3d.networks.classifier_base import ClassifierBase
from medresnet3d.networks.layers.activations import LayerName
from medresnet3d.networks.layers.choice import LayerChoice
from medresnet3d.networks.layers.inception import Block, BlockBuilder, Layer, MeanPool, reduction


class _Blocks:
    """The blocks of the paper; their branches have timm's names."""

    def __init__(self, layers: LayerChoice) -> None:
        self.layers = layers

    def max_pool(self) -> nn.Module:
        return self.layers.max_pool(padding=0)

    def mean_pool(self) -> nn.Module:
        return MeanPool(self.layers.spatial_dims, count_include_pad=False)

    def stem(self) -> tuple[Block, Block, Block]:
        last = Layer(96, 3, padded=False)
        return (
            {"maxpool": [self.max_pool], "conv": [reduction(96)]},
            {"branch0": [Layer(64), last], "branch1": [Layer(64), Layer(64, (1, 7)), Layer(64, (7, 1)), last]},
            {"conv": [reduction(192)], "maxpool": [self.max_pool]},
        )

    def a(self) -> Block:
        return {
            "branch0": [Layer(96)],
            "branch1": [Layer(64), Layer(96, 3)],
            "branch2": [Layer(64), Layer(96, 3), Layer(96, 3)],
            "branch3": [self.mean_pool, Layer(96)],
        }

    def reduction_a(self) -> Block:
        return {
            "branch0": [reduction(384)],
            "branch1": [Layer(192), Layer(224, 3), reduction(256)],
            "branch2": [self.max_pool],
        }

    def b(self) -> Block:
        return {
            "branch0": [Layer(384)],
            "branch1": [Layer(192), Layer(224, (1, 7)), Layer(256, (7, 1))],
            "branch2": [
                Layer(192),
                Layer(192, (7, 1)),
                Layer(224, (1, 7)),
                Layer(224, (7, 1)),
                Layer(256, (1, 7)),
            ],
            "branch3": [self.mean_pool, Layer(128)],
        }

    def reduction_b(self) -> Block:
        return {
            "branch0": [Layer(192), reduction(192)],
            "branch1": [Layer(256), Layer(256, (1, 7)), Layer(320, (7, 1)), reduction(320)],
            "branch2": [self.max_pool],
        }

    def c(self) -> Block:
        both = {"a": Layer(256, (1, 3)), "b": Layer(256, (3, 1))}
        return {
            "branch0": [Layer(256)],
            "branch1": [Layer(384), both],
            "branch2": [Layer(384), Layer(448, (3, 1)), Layer(512, (1, 3)), both],
            "branch3": [self.mean_pool, Layer(256)],
        }


class InceptionV4(ClassifierBase):
    """Inception-v4 (2D, three channels, 1000 classes: 42,679,816 parameters).

    Names are timm's, with a dot where it counts the layers of a branch by an underscore; its ``last_linear`` is
    ``classifier`` here. The published weights want images from -1 to 1 (mean and deviation 0.5).

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: number of logits.
        options: see :class:`ClassifierBase`.

    Shapes: (B, in_channels, ...), every edge at least 75 (39 with ``stem_stride=1``), to (B, num_classes) logits.

    Attributes:
        stage_channels: channels behind each stage of ``features``.
    """

    published_names: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"\.(branch\d)_(\d)([ab])\.", r".\1.\2.\3."),
        (r"\.(branch\d)_(\d)\.", r".\1.\2."),
        (r"^last_linear\.", "classifier."),
    )
    own_norm: ClassVar[LayerName] = ("batch", {"eps": 1e-3})
    own_stages: ClassVar[tuple[str, ...]] = (
        r"features\.[0-5]\.",
        r"features\.([6-9])\.",
        r"features\.1[0-7]\.",
        r"features\.(1[89]|2\d)\.",
    )

    def __init__(self, spatial_dims: int = 3, in_channels: int = 1, num_classes: int = 2, **options: Any) -> None:
        super().__init__(spatial_dims, **options)
        build, blocks = BlockBuilder(self.layers, self.width, in_channels), _Blocks(self.layers)
        stem = [Layer(32, 3, self.stem_stride, padded=False), Layer(32, 3, padded=False), Layer(64, 3)]
        stages = [*blocks.stem(), *[blocks.a()] * 4, blocks.reduction_a(), *[blocks.b()] * 7, blocks.reduction_b()]
        stages += [blocks.c()] * 3
        made = [(build.conv(layer), build.channels) for layer in stem]
        made += [(build.block(block), build.channels) for block in stages]
        self.features = nn.Sequential(*(stage for stage, _ in made))
        self.stage_channels = [channels for _, channels in made]
        self.pool = self.layers.average_pool()
        self.initialise()
        self.finish(build.channels, num_classes)

    def feature_map(self, x: torch.Tensor) -> torch.Tensor:
        """Feature maps in front of the pooling, (B, F, ...)."""
        return self.features(x)
