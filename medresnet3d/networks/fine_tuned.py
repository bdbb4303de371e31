"""A pretrained network with two new layers at its end, and the node from which it is fine-tuned.

Chu (2018) chooses the node by how well a support vector machine classifies the features of each layer; see
:mod:`medresnet3d.engines.node_fit`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from medresnet3d.errors import ConfigError
from medresnet3d.names import require_name
from medresnet3d.networks.classifier import build_classifier
from medresnet3d.networks.classifier_base import ClassifierBase


class FineTunedClassifier(nn.Module):
    """A classification network whose last layer gives way to a hidden one, ReLU, dropout and a last one.

    Args:
        network: with its own last layer, which is taken off.
        hidden: features of the hidden layer.
        dropout: rate at which they are dropped in training.
        layers: that the node may be, in order of depth; by default :func:`probe_points`.

    Shapes: (B, C, ...) to (B, K) logits.

    Raises:
        ConfigError: for a layer that the network does not have, or if there is none.
    """

    fitted_names: ClassVar[str] = r"node$"  # that no training starts from
    if TYPE_CHECKING:  # TorchScript cannot read annotations that are strings
        node: Tensor

    def __init__(
        self, network: ClassifierBase, hidden: int = 256, dropout: float = 0.5, layers: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        last = network.classifier
        network.classifier = nn.Identity()  # type: ignore[assignment]
        self.network = network
        names = dict(network.named_modules())
        self.layers = [
            require_name("Layer", layer, names) for layer in (probe_points(network) if layers is None else layers)
        ]
        if not self.layers:
            raise ConfigError(f"{type(network).__name__} has no layer to choose from; name some.")
        self.hidden = nn.Linear(last.in_features, hidden)
        nn.init.kaiming_normal_(self.hidden.weight, nonlinearity="relu")
        nn.init.zeros_(self.hidden.bias)
        self.dropout = nn.Dropout(dropout)
        self.classifier = network.make_classifier(hidden, last.out_features)
        self.register_buffer("node", torch.tensor(-1))

    @property
    def node_layer(self) -> str | None:
        """Name in this module of the layer that was chosen; ``None`` until one is."""
        return None if int(self.node) < 0 else f"network.{self.layers[int(self.node)]}"

    def forward_features(self, x: Tensor) -> Tensor:
        """Features in front of the last layer, (B, hidden)."""
        return self.dropout(torch.relu(self.hidden(self.network.forward_features(x))))

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (B, K)."""
        return self.classifier(self.forward_features(x))


def probe_points(network: nn.Module) -> list[str]:
    """The outputs of a classification network between its stages: pooling layers, and blocks that follow each other.

    Args:
        network: of :func:`medresnet3d.networks.classifier.build_classifier`.

    Returns:
        names as in ``network.named_modules()``, in order of depth.
    """
    found: list[str] = []
    modules = dict(network.named_modules())
    for name, module in modules.items():
        if not name or any(name.startswith(f"{outer}.") for outer in found):
            continue
        parent = modules[name.rpartition(".")[0]]
        is_block = isinstance(parent, nn.Sequential) and any(True for _ in module.children())
        if is_block or isinstance(module, nn.modules.pooling._MaxPoolNd):
            found.append(name)
    return found


def build_fine_tuned(
    arch: str = "resnet50",
    spatial_dims: int = 2,
    in_channels: int = 3,
    num_classes: int = 2,
    size: str = "paper",
    hidden: int = 256,
    dropout: float = 0.5,
    layers: Sequence[str] | None = None,
    **options: Any,
) -> FineTunedClassifier:
    """Build a network by name with two new layers at its end.

    Args:
        arch: architecture, see :func:`medresnet3d.networks.classifier.build_classifier`.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: number of classes.
        size: ``"paper"`` or ``"slim"``.
        hidden: see :class:`FineTunedClassifier`, as for the next two.
        dropout: of the hidden layer.
        layers: that the node may be.
        **options: further options of the network.

    Raises:
        ConfigError: for an unknown architecture, size or layer.
    """
    network = build_classifier(arch, spatial_dims, in_channels, num_classes, size, **options)
    return FineTunedClassifier(network, hidden, dropout, layers)
