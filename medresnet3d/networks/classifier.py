"""Classification networks by name: one registry for every bundle that chooses its architecture by an id."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from medresnet3d.errors import ConfigError
from medresnet3d.names import require_name
from medresnet3d.networks.alexnet import AlexNet
from medresnet3d.networks.classifier_base import ClassifierBase
from medresnet3d.networks.conv_pool import ConvPool
from medresnet3d.networks.densenet import DenseNetClassifier
from medresnet3d.networks.densenet2 import DenseNet2
from medresnet3d.networks.googlenet import GoogLeNet
from medresnet3d.networks.inception_v3 import InceptionV3
from medresnet3d.networks.inception_v4 import InceptionV4
from medresnet3d.networks.layers.activations import LayerName
from medresnet3d.networks.mobilenet import MobileNetV1
from medresnet3d.networks.resnet import ResNetClassifier
from medresnet3d.networks.vgg import VGG
from medresnet3d.networks.xception import Xception

ARCHITECTURES: dict[str, Callable[..., ClassifierBase]] = {
    **{f"resnet{depth}": partial(ResNetClassifier, depth) for depth in (10, 18, 34, 50, 101, 152, 200)},
    "resnet18_shortcut_a": partial(ResNetClassifier, 18, shortcut_type="A"),
    "resnet34_shortcut_a": partial(ResNetClassifier, 34, shortcut_type="A"),
    **{f"resnet{depth}_unpooled": partial(ResNetClassifier, depth, stem_pool=False) for depth in (10, 18)},
    "multi_branch_resnet18": partial(ResNetClassifier, 18, branches=2),
    "multi_branch_resnet50": partial(ResNetClassifier, 50, branches=2),
    **{f"densenet{depth}": partial(DenseNetClassifier, depth=depth) for depth in (121, 169, 201)},
    "densenet2_121": DenseNet2,
    "alexnet": AlexNet,
    "cnn_6c_2s": partial(ConvPool, (6,)),
    "cnn_6c_2s_12c_2s": partial(ConvPool, (6, 12)),
    **{f"vgg{depth}": partial(VGG, depth) for depth in (11, 13, 16, 19)},
    **{f"vgg{depth}_bn": partial(VGG, depth, norm="batch") for depth in (11, 13, 16, 19)},
    "googlenet": GoogLeNet,
    "inception_v3": InceptionV3,
    "inception_v4": InceptionV4,
    "mobilenet_v1": MobileNetV1,
    "xception": Xception,
}
_WITH_HIDDEN_LAYERS = ("alexnet", "vgg")
WIDTHS: dict[str, float] = {"slim": 0.25, "paper": 1.0}


def build_classifier(
    arch: str = "resnet18",
    spatial_dims: int = 3,
    in_channels: int = 1,
    num_classes: int = 2,
    size: str = "paper",
    width: float | None = None,
    stem_stride: int = 2,
    *,
    pool_size: int | None = None,
    act: LayerName | None = None,
    norm: LayerName | None = None,
    dropout: float | None = None,
    dropconnect: float | None = None,
) -> ClassifierBase:
    """Build a classification network by its name.

    Every network maps (B, in_channels, ...) to (B, num_classes) logits and has ``forward_features(x)``, (B, F), and a
    last layer ``classifier``. Where weights are published for it (ImageNet's for 2D networks, which 3D ones take too,
    MedicalNet's for 3D ResNets), :func:`medresnet3d.networks.pretrained.load_pretrained` loads them.

    NASNet, the sixth family of Zhang et al. (2019), is left out: its cells are a page of searched wiring each, and in
    that paper DenseNet-121 and Xception did better.

    Args:
        arch: a key of :data:`ARCHITECTURES`.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: number of logits.
        size: ``"paper"`` for the published number of channels, ``"slim"`` for a quarter of it.
        width: factor on the number of channels, in place of ``size``.
        stem_stride: stride of the first convolution: 2 as published, 1 for small cubes. AlexNet takes twice that; VGG
            and the ``cnn_*`` start without a stride and take no notice.
        pool_size: edge of the feature map in front of the hidden layers of AlexNet and VGG; ``None``: as published.
        act: activation, and ``"maxout"``; by default that of the architecture (see
            :class:`~medresnet3d.networks.classifier_base.ClassifierBase`, as for the next three).
        norm: normalisation, or (name, options); by default that of the architecture.
        dropout: rate at which features are dropped before the last layer.
        dropconnect: probability of keeping a weight of the last layer.

    Raises:
        ConfigError: if ``arch``, ``size`` or ``act`` is unknown; the message lists the choices. If ``pool_size`` is
            given for an architecture without hidden layers.
    """
    constructor = ARCHITECTURES[require_name("Network architecture", arch, ARCHITECTURES)]
    factor = WIDTHS[require_name("Network size", size, WIDTHS)] if width is None else width
    options = {"pool_size": pool_size, "act": act, "norm": norm, "dropout": dropout, "dropconnect": dropconnect}
    if pool_size is not None and not arch.startswith(_WITH_HIDDEN_LAYERS):
        raise ConfigError(f"{arch} has no hidden layers, so no pool_size; {' and '.join(_WITH_HIDDEN_LAYERS)}* have.")
    return constructor(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        num_classes=num_classes,
        width=factor,
        stem_stride=stem_stride,
        **{name: value for name, value in options.items() if value is not None},
    )
