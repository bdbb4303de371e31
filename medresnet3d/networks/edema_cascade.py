"""Macular edema in two steps: a fully convolutional network finds exudates, a residual network looks at the likeliest.

Paper: J. Mo, L. Zhang, Y. Feng. Exudate-based diabetic macular edema recognition in retinal images using cascaded deep
residual networks. Neurocomputing 290 (2018) 161-171; known to us from its abstract.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medresnet3d.names import require_name
from medresnet3d.networks.cascade import PeakCascade
from medresnet3d.networks.classifier import WIDTHS, build_classifier
from medresnet3d.networks.layers.activations import LayerName
from medresnet3d.networks.multi_level_fcn import MultiLevelFCN

TASKS = ("segmentation", "classification")


def build_edema_cascade(
    task: str = "segmentation",
    spatial_dims: int = 2,
    in_channels: int = 3,
    num_classes: int = 2,
    *,
    size: str = "slim",
    depth: int = 18,
    fusion_channels: int = 32,
    arch: str = "resnet18",
    crop_size: int | Sequence[int] = 224,
    norm: LayerName | None = None,
    act: LayerName | None = None,
    dropout: float = 0.0,
    dropconnect: float | None = None,
) -> MultiLevelFCN | PeakCascade:
    """Build the network that finds exudates, or the cascade that has it within as ``finder``.

    Args:
        task: ``"segmentation"``: (B, C, ...) to dense logits (B, 1, ...); ``"classification"``: to logits (B, K).
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: number of classes of the second network.
        size: ``"slim"`` for a quarter of the ResNets' channels, or ``"paper"`` for all.
        depth: of the finder's ResNet.
        fusion_channels: channels that each of its levels is brought to.
        arch: of the second network, a key of :data:`medresnet3d.networks.classifier.ARCHITECTURES`.
        crop_size: pixels along each edge of the crop that it sees.
        norm: normalisation of both; by default that of the architecture.
        act: activation of both.
        dropout: rate in front of both last layers.
        dropconnect: probability of keeping a weight of the second network's last layer.

    Raises:
        ConfigError: for an unknown task, size, depth or architecture.
    """
    require_name("Task", task, TASKS)
    layers: dict[str, Any] = {"norm": norm, "act": act, "dropout": dropout}
    width = WIDTHS[require_name("Network size", size, WIDTHS)]
    finder = MultiLevelFCN(depth, spatial_dims, in_channels, 1, width=width, fusion_channels=fusion_channels, **layers)
    if task == "segmentation":
        return finder
    second = build_classifier(arch, spatial_dims, in_channels, num_classes, size, dropconnect=dropconnect, **layers)
    edges = [crop_size] * spatial_dims if isinstance(crop_size, int) else list(crop_size)
    return PeakCascade(finder, second, edges)
