"""What AlexNet and VGG have in common: convolutions with poolings between, then two hidden linear layers."""

from __future__ import annotations

import torch
from torch import nn

from medresnet3d.networks.classifier_base import ClassifierBase


class HiddenClassifier(ClassifierBase):
    """Base of AlexNet and VGG; a subclass makes ``features`` and calls :meth:`finish_hidden`."""

    features: nn.Sequential
    hidden: nn.Sequential

    @torch.jit.unused
    def finish_hidden(self, channels: int, pool_size: int, hidden: int, num_classes: int) -> None:
        """Add pooling, the two hidden layers and the last one; He initialisation, so that deep nets start to learn.

        Args:
            channels: of the last feature map.
            pool_size: edge of the pooled map.
            hidden: features of each hidden layer.
            num_classes: number of logits.
        """
        dims = self.layers.spatial_dims
        self.pool = self.layers.average_pool(pool_size)
        self.hidden = nn.Sequential(
            nn.Linear(channels * pool_size**dims, hidden),
            self.layers.activation(hidden),
            nn.Dropout(self.dropout_rate),
            nn.Linear(hidden, hidden),
            self.layers.activation(hidden),
        )
        self.initialise()
        for module in self.hidden:
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
        self.finish(hidden, num_classes)

    @torch.jit.unused
    def stage_patterns(self) -> tuple[str, ...]:
        """The layers up to each pooling, of which the first are the stem, then the hidden layers."""
        names: list[list[str]] = [[]]
        for name, module in self.features.named_children():
            names[-1].append(name)
            if isinstance(module, nn.modules.pooling._MaxPoolNd):
                names.append([])
        return (*(rf"features\.({'|'.join(stage)})\." for stage in names if stage), r"hidden\.")

    def feature_map(self, x: torch.Tensor) -> torch.Tensor:
        """Feature maps in front of the pooling, (B, F, ...)."""
        return self.features(x)
