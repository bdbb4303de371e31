"""A convolutional network whose features go to a support vector machine.

Li Hang (2018) classifies skin lesions by an SVM on the features of a ResNet-152; Khojasteh et al. (2019) find exudates
by one on those of a ResNet-50.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medresnet3d.networks.classifier import build_classifier
from medresnet3d.networks.classifier_base import ClassifierBase
from medresnet3d.networks.heads.svm import SVMHead


class SVMClassifier(nn.Module):
    """A classifier that answers by its linear last layer until an SVM on its features is fitted, by the SVM then.

    Args:
        network: the classifier; its last layer serves for training by gradients.
        kernel: of the SVM, ``"linear"`` or ``"rbf"``.
        capacity: support vectors that an RBF machine may have.
        normalise: bring each case's features to length 1 before the SVM.

    Shapes: (B, C, ...) to (B, K): logits of the last layer in training mode, log-probabilities in eval mode.
    """

    fitted_names: ClassVar[str] = r"svm\."  # that no training starts from
    __jit_unused_properties__ = ("classifier",)

    def __init__(
        self, network: ClassifierBase, kernel: str = "linear", capacity: int = 512, normalise: bool = True
    ) -> None:
        super().__init__()
        self.network = network
        self.normalise = normalise
        last = network.classifier
        self.svm = SVMHead(last.in_features, last.out_features, kernel, capacity)

    @property
    def classifier(self) -> nn.Linear:
        """The linear last layer."""
        return self.network.classifier

    def forward_features(self, x: Tensor) -> Tensor:
        """Features in front of the last layer, (B, F)."""
        return self.network.forward_features(x)

    def svm_features(self, features: Tensor) -> Tensor:
        """What the SVM gets of features (B, F)."""
        return F.normalize(features.float(), dim=1) if self.normalise else features.float()

    def forward(self, x: Tensor) -> Tensor:
        """Logits in training mode, log-probabilities in eval mode, (B, K)."""
        return self.answers(x)

    def answers(self, x: Tensor) -> Tensor:
        """What :meth:`forward` gives of images that are each one case."""
        features = self.forward_features(x)
        logits = self.network.classifier(features)
        if self.training:
            return logits
        return torch.where(self.svm.ready, self.svm(self.svm_features(features)), logits.float().log_softmax(1))


def build_svm_classifier(
    arch: str = "resnet152",
    spatial_dims: int = 2,
    in_channels: int = 3,
    num_classes: int = 2,
    size: str = "paper",
    kernel: str = "linear",
    capacity: int = 512,
    normalise: bool = True,
    **options: Any,
) -> SVMClassifier:
    """Build a classifier by name with an SVM on its features.

    Args:
        arch: architecture, see :func:`medresnet3d.networks.classifier.build_classifier`.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: number of classes.
        size: ``"paper"`` or ``"slim"``.
        kernel: see :class:`SVMClassifier`, as for the next two.
        capacity: support vectors that an RBF machine may have.
        normalise: bring each case's features to length 1.
        **options: further options of the network.

    Raises:
        ConfigError: for an unknown architecture, size or kernel.
    """
    network = build_classifier(arch, spatial_dims, in_channels, num_classes, size, **options)
    return SVMClassifier(network, kernel, capacity, normalise)
