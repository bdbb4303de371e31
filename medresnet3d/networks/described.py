"""A classifier of pictures beside a support vector machine on what an expert would measure in them.

Colours against the surroundings, texture and shape are measured without learning
(:mod:`medresnet3d.networks.object_descriptor`); what they say of the class is learnt from few pictures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from medresnet3d.errors import ConfigError
from medresnet3d.networks.heads.fitted import FittedModule
from medresnet3d.networks.heads.svm import SVMHead
from medresnet3d.networks.layers.resize import resize
from medresnet3d.networks.object_descriptor import ObjectDescriptor

DESCRIBED_SIZE = 128
LIMIT = 2.5


class DescribedClassifier(FittedModule):
    r"""Averages the log-probabilities of a classifier and of a support vector machine on measurements.

    .. math:: \log p(c) = (1 - s) \log p_\text{classifier}(c) + s \log p_\text{SVM}(c) + \text{const}

    Measurements are standardised and cut at 2.5 standard deviations, so that none decides alone. The machine is fitted
    after the classifier was trained (:class:`medresnet3d.engines.described_fit.FitDescribed`); until then the
    classifier answers alone.

    Args:
        classifier: (B, 3, ``picture_size``, ``picture_size``) to (B, K).
        num_classes: K.
        picture_size: pixels along each edge of a picture as the classifier sees it.
        share: s, above 0 and below 1.
        capacity: support vectors that there is room for.

    Shapes: (B, 3, n, n), any n, normalised by ImageNet's mean and deviation, to (B, K) log-probabilities. In training
    mode the picture is as the classifier sees it, and what it gives comes back, so that it learns as by itself.

    Raises:
        ConfigError: for a share out of range.
    """

    fitted_names: ClassVar[str] = r"(mean|deviation|svm\.)"  # that no training starts from

    if TYPE_CHECKING:  # TorchScript cannot read annotations that are strings
        mean: Tensor
        deviation: Tensor

    def __init__(
        self, classifier: nn.Module, num_classes: int, picture_size: int, share: float = 0.5, capacity: int = 1792
    ) -> None:
        super().__init__()
        if not 0 < share < 1:
            raise ConfigError(
                f"The share of what is measured is {share}; give 0 (the classifier alone) or a number below 1."
            )
        self.classifier = classifier
        self.picture_size, self.share = picture_size, share
        self.descriptor = ObjectDescriptor()
        self.svm = SVMHead(ObjectDescriptor.length, num_classes, "rbf", capacity)
        self.register_buffer("mean", torch.zeros(ObjectDescriptor.length))
        self.register_buffer("deviation", torch.ones(ObjectDescriptor.length))

    def seen(self, x: Tensor) -> Tensor:
        """Pictures as the classifier sees them."""
        return _resized(x, self.picture_size)

    def measurements(self, x: Tensor) -> Tensor:
        """What is measured in each picture, (B, F), out of reach of mixed precision."""
        with torch.autocast(x.device.type, enabled=False):
            found: Tensor = self.descriptor(_resized(x.float(), DESCRIBED_SIZE))
        return found

    def standardised(self, measurements: Tensor) -> Tensor:
        """Measurements (B, F) as the machine gets them."""
        return ((measurements - self.mean) / self.deviation).clamp(-LIMIT, LIMIT)

    def forward(self, x: Tensor) -> Tensor:
        """Log-probabilities (B, K), see the class."""
        if self.training:
            learnt: Tensor = self.classifier(x)
            return learnt
        said: Tensor = self.classifier(self.seen(x)).float().log_softmax(1)
        if not torch.jit.is_tracing() and not bool(self.svm.ready):
            return said
        measured = self.svm(self.standardised(self.measurements(x)))
        pooled = torch.lerp(said, measured, self.share).log_softmax(1)
        return torch.where(self.svm.ready, pooled, said)


def _resized(x: Tensor, size: int) -> Tensor:
    if x.shape[2:] == (size, size):
        return x
    return resize(x, [size, size])


def describe(
    classifier: nn.Module, num_classes: int, picture_size: int, share: float = 0.5, capacity: int = 1792
) -> nn.Module:
    """Put a support vector machine on measurements beside a classifier.

    Args:
        classifier: see :class:`DescribedClassifier`, as for the others.
        num_classes: number of classes.
        picture_size: pixels along each edge, as the classifier sees them.
        share: of what is measured; 0: the classifier by itself.
        capacity: support vectors that there is room for.

    Raises:
        ConfigError: for a share below 0, or of 1 or more.
    """
    return classifier if share == 0 else DescribedClassifier(classifier, num_classes, picture_size, share, capacity)
