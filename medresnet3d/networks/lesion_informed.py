"""A classifier of whole pictures that is told how much of each kind of lesion a second network finds in them.

A grade of retinopathy is defined by its lesions (C. P. Wilkinson et al., Ophthalmology 110 (2003) 1677-1682), most of
them a few pixels in size. A network that learns from a few hundred grades does not find them by itself; one that was
shown their outlines does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from medresnet3d.errors import ConfigError
from medresnet3d.networks.heads.fitted import FittedModule, full_precision_linear
from medresnet3d.networks.layers.activations import LayerName
from medresnet3d.networks.multi_level_fcn import MultiLevelFCN

AXES = {2: nn.AvgPool2d, 3: nn.AvgPool3d}


class LesionInformedClassifier(FittedModule):
    """Adds to a classifier's log-probabilities what the load of lesions says for each class.

    The load of a kind of lesion are two numbers: the logarithms of one plus the sum of its probabilities over all
    pixels, and of one plus that of their squares, which counts clear findings alone. Their evidence is linear in them
    and fitted (:class:`medresnet3d.engines.lesion_fit.FitLesionEvidence`); until then it is zero.

    Args:
        classifier: (B, C, ...) to (B, K).
        finder: (B, C, ...) to dense logits (B, L, ...), one channel for each kind of lesion.
        kinds: L.
        num_classes: K.
        spatial_dims: 2 or 3.
        detail: how many of the finder's pixels are one of the classifier's, along each axis.

    Shapes: (B, C, ...) as the finder sees it to (B, K) logits. In training mode the picture is as the classifier sees
    it, and its logits alone are given, so that it learns as it would by itself.
    """

    learned_apart: ClassVar[tuple[str, ...]] = ("finder",)
    has_class_maps: ClassVar[bool] = True  # its evidence is not all that leads to the class: there is the classifier

    if TYPE_CHECKING:  # TorchScript cannot read annotations that are strings
        mean: Tensor
        deviation: Tensor
        weight: Tensor
        bias: Tensor

    def __init__(
        self,
        classifier: nn.Module,
        finder: nn.Module,
        kinds: int,
        num_classes: int,
        spatial_dims: int = 2,
        detail: int = 2,
    ) -> None:
        super().__init__()
        self.finder = finder
        self.classifier = classifier
        self.shrink = AXES[spatial_dims](detail)
        self.register_buffer("mean", torch.zeros(2 * kinds))
        self.register_buffer("deviation", torch.ones(2 * kinds))
        self.register_buffer("weight", torch.zeros(num_classes, 2 * kinds))
        self.register_buffer("bias", torch.zeros(num_classes))

    def loads(self, x: Tensor) -> Tensor:
        """How much there is of each kind of lesion, (B, 2 L): all of them, then the clear ones."""
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)  # faster on processors
        probabilities = self.finder(x).float().sigmoid().flatten(2)
        return torch.log1p(torch.cat([probabilities.sum(2), probabilities.square().sum(2)], 1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K), see the class."""
        if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript skips a branch for this condition alone
            if self.training:
                return self.classifier(x)  # type: ignore[no-any-return]
        said = self.classifier(self.shrink(x)).float().log_softmax(1)
        return said + full_precision_linear((self.loads(x) - self.mean) / self.deviation, self.weight) + self.bias

    @torch.jit.unused
    def evidence(self, x: Tensor) -> Tensor:
        """Probability of the likeliest lesion at each pixel, (B, ...)."""
        return self.finder(x).float().sigmoid().amax(1)  # type: ignore[no-any-return]


def inform(
    classifier: nn.Module,
    lesions: int = 0,
    num_classes: int = 5,
    *,
    detail: int = 2,
    spatial_dims: int = 2,
    in_channels: int = 3,
    width: float = 0.25,
    norm: LayerName | None = ("batch", {"momentum": 0.05}),
    act: LayerName | None = None,
) -> nn.Module:
    """Put a :class:`~medresnet3d.networks.multi_level_fcn.MultiLevelFCN` that finds lesions beside a classifier.

    Args:
        classifier: see :class:`LesionInformedClassifier`.
        lesions: kinds of lesions; 0: the classifier by itself.
        num_classes: number of classes.
        detail: see :class:`LesionInformedClassifier`.
        spatial_dims: 2 or 3.
        in_channels: channels of the picture.
        width: factor on the channels of the finder's ResNet-18, which has no stride in its first convolution.
        norm: normalisation of the finder.
        act: activation of the finder.

    Raises:
        ConfigError: for a number of lesions below 0.
    """
    if lesions < 0:
        raise ConfigError(f"lesions is {lesions}; give the number of kinds to find, or 0 to find none.")
    if lesions == 0:
        return classifier
    finder = MultiLevelFCN(18, spatial_dims, in_channels, lesions, width=width, stem_stride=1, norm=norm, act=act)
    return LesionInformedClassifier(classifier, finder, lesions, num_classes, spatial_dims, detail)
