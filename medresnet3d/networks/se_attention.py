"""Inception-v4 and DenseNet with SE-attention behind their blocks and an auxiliary classifier, in 2D and 3D.

After J. Deng et al. (2020), breast density by SE-attention networks with transfer learning and an auxiliary loss, known
to us from its abstract. Where the attention stands and where the auxiliary classifier is our choice.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from medresnet3d.names import require_name
from medresnet3d.networks.auxiliary import AuxiliaryClassifier
from medresnet3d.networks.classifier import WIDTHS
from medresnet3d.networks.classifier_base import ClassifierBase
from medresnet3d.networks.densenet import DenseNetClassifier
from medresnet3d.networks.inception_v4 import InceptionV4
from medresnet3d.networks.layers.activations import LayerName
from medresnet3d.networks.layers.choice import LayerChoice
from medresnet3d.networks.layers.se_attention import Attended, SEAttention

_STEM_STAGES = 6  # of Inception-v4: three convolutions and three blocks
_AUXILIARY_BLOCK = 11  # of Inception-v4's sixteen blocks: two thirds


def _head(layers: LayerChoice, channels: int, num_classes: int) -> nn.Module:
    """An auxiliary classifier: pooled features and a linear layer."""
    parts = OrderedDict(pool=layers.average_pool(), flatten=nn.Flatten(), fc=nn.Linear(channels, num_classes))
    return nn.Sequential(parts)


class AttentionClassifier(AuxiliaryClassifier):
    """Base of a network that gets attention behind its blocks and one auxiliary classifier, once it is built.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: number of logits.
        attention: without, the blocks stand alone.
        auxiliary: whether training mode returns the logits of a second head too.
        reduction: see :class:`~medresnet3d.networks.layers.se_attention.SEAttention`.
        options: of the network.
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        num_classes: int = 2,
        *,
        attention: bool = True,
        auxiliary: bool = True,
        reduction: int = 16,
        **options: Any,
    ) -> None:
        super().__init__(spatial_dims, in_channels=in_channels, num_classes=num_classes, **options)
        self.extend(num_classes, attention, auxiliary, reduction)

    @torch.jit.unused
    def extend(self, num_classes: int, attention: bool, auxiliary: bool, reduction: int) -> None:
        """Put attention and the auxiliary classifier where this network has them."""
        raise NotImplementedError


class AttentionInceptionV4(AttentionClassifier, InceptionV4):
    """Inception-v4 with attention behind each of its sixteen blocks A, B and C and reductions.

    The auxiliary classifier stands behind the eleventh block. Published weights of Inception-v4 go into everything but
    attention and heads. Arguments as :class:`AttentionClassifier`; options see
    :class:`~medresnet3d.networks.classifier_base.ClassifierBase`.

    Shapes: (B, in_channels, ...), every edge at least 75 (39 with ``stem_stride=1``), to (B, num_classes) logits; a
    list of two in training mode with ``auxiliary``.
    """

    published_names: ClassVar[tuple[tuple[str, str], ...]] = (
        *InceptionV4.published_names,
        (r"^features\.([6-9]|1\d|2\d)\.branch", r"features.\1.block.branch"),
    )
    own_parts: ClassVar[str] = r"features\.\d+\.attention\."

    @torch.jit.unused
    def extend(self, num_classes: int, attention: bool, auxiliary: bool, reduction: int) -> None:
        """See :class:`AttentionClassifier`."""
        if auxiliary:
            stage = _STEM_STAGES + _AUXILIARY_BLOCK - 1
            self.add_auxiliary("aux", _head(self.layers, self.stage_channels[stage], num_classes), str(stage))
        for index in range(_STEM_STAGES, len(self.features)) if attention else ():
            gates = SEAttention(self.stage_channels[index], reduction)
            self.features[index] = Attended(self.features[index], gates)
        if not attention:
            self.published_names = InceptionV4.published_names  # type: ignore[misc]


class AttentionDenseNet(AttentionClassifier, DenseNetClassifier):
    """A DenseNet with attention behind each dense block.

    The auxiliary classifier stands behind the last block but one. Published weights of a DenseNet go into everything
    but attention and heads. Arguments as :class:`AttentionClassifier`; options see
    :class:`~medresnet3d.networks.densenet.DenseNetClassifier`.

    Shapes: (B, in_channels, ...) to (B, num_classes) logits; a list of two in training mode with ``auxiliary``.
    """

    own_parts: ClassVar[str] = r"features\.attention\d+\."

    @torch.jit.unused
    def extend(self, num_classes: int, attention: bool, auxiliary: bool, reduction: int) -> None:
        """See :class:`AttentionClassifier`."""
        stages: OrderedDict[str, nn.Module] = OrderedDict()
        for name, stage in self.features.named_children():
            stages[name] = stage
            if name.startswith("denseblock"):
                channels = _channels_after(stage)
                number = name.removeprefix("denseblock")
                last = f"attention{number}" if attention else name
                if attention:
                    stages[last] = SEAttention(channels, reduction)
                if auxiliary and int(number) == self.block_count - 1:
                    self.add_auxiliary("aux", _head(self.layers, channels, num_classes), last)
        self.features = nn.Sequential(stages)

    @torch.jit.unused
    def stage_patterns(self) -> tuple[str, ...]:
        """As in a DenseNet; attention belongs to the block in front of it."""
        return tuple(stage.replace("denseblock", "attention") + "|" + stage for stage in super().stage_patterns())

    def after_stages(self, x: Tensor) -> Tensor:
        """The activation behind the last normalisation."""
        return self.act(x)


def _channels_after(block: nn.Module) -> int:
    """Channels that a dense block gives: those its first layer takes and the growth of each layer."""
    layers = [[each for each in layer.modules() if hasattr(each, "in_channels")] for layer in block.children()]
    first: Any = layers[0][0]
    growth: list[Any] = [layer[-1] for layer in layers]
    return int(first.in_channels + sum(each.out_channels for each in growth))


NETWORKS: dict[str, Callable[..., ClassifierBase]] = {
    "inception_v4": AttentionInceptionV4,
    **{f"densenet{depth}": partial(AttentionDenseNet, depth=depth) for depth in (121, 169, 201)},
}


def build_attention_classifier(
    arch: str = "inception_v4",
    spatial_dims: int = 3,
    in_channels: int = 1,
    num_classes: int = 4,
    size: str = "paper",
    *,
    attention: bool = True,
    auxiliary: bool = True,
    reduction: int = 16,
    act: LayerName | None = None,
    norm: LayerName | None = None,
    dropout: float | None = None,
    dropconnect: float | None = None,
) -> ClassifierBase:
    """Build a network with SE-attention by its name.

    Args:
        arch: ``inception_v4``, ``densenet121``, ``densenet169`` or ``densenet201``.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: number of logits.
        size: ``paper`` for the published number of channels, ``slim`` for a quarter of it.
        attention: without, it is the network by that name.
        auxiliary: whether training mode returns the logits of an auxiliary classifier too.
        reduction: see :class:`~medresnet3d.networks.layers.se_attention.SEAttention`.
        act: as for :func:`medresnet3d.networks.classifier.build_classifier`, as the next three.
        norm: normalisation.
        dropout: rate in front of the last layer.
        dropconnect: probability of keeping a weight of the last layer.

    Raises:
        ConfigError: if ``arch``, ``size`` or ``act`` is unknown; the message lists the choices.
    """
    constructor = NETWORKS[require_name("Network with attention", arch, NETWORKS)]
    layers = {"act": act, "norm": norm, "dropout": dropout, "dropconnect": dropconnect}
    return constructor(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        num_classes=num_classes,
        width=WIDTHS[require_name("Network size", size, WIDTHS)],
        attention=attention,
        auxiliary=auxiliary,
        reduction=reduction,
        **{name: value for name, value in layers.items() if value is not None},
    )
