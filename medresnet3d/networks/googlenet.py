"""GoogLeNet (Inception-v1 with batch normalisation, as torchvision publishes it) in 2D and 3D.

Paper: C. Szegedy et al. Going deeper with convolutions. CVPR 2015.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, ClassVar

from torch import nn

from medresnet3d.networks.auxiliary import AuxiliaryClassifier
from medresnet3d.networks.layers.activations import LayerName
from medresnet3d.networks.layers.choice import LayerChoice
from medresnet3d.networks.layers.inception import BlockBuilder, ConvNormAct, Layer
from medresnet3d.networks.width import scaled

# channels of the branches: 1; 1 then 3; 1 then "5"; pooling then 1
_BLOCKS: dict[str, tuple[int, int, int, int, int, int]] = {
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}
_POOLED_AFTER = {"inception3b": ("maxpool3", 3), "inception4e": ("maxpool4", 2)}
_TAPS = {"inception4a": "aux1", "inception4d": "aux2"}


class AuxiliaryHead(nn.Sequential):
    """Classifier on a feature map between stages: pooling to four places an axis, convolution, two linear layers.

    Args:
        layers: what it is made of.
        in_channels: channels of the map.
        num_classes: number of logits.
        width: factor on the number of channels.
    """

    def __init__(self, layers: LayerChoice, in_channels: int, num_classes: int, width: float) -> None:
        channels, hidden = scaled(128, width), scaled(1024, width)
        super().__init__()
        self.pool = layers.average_pool(4)
        self.conv = ConvNormAct(layers, in_channels, channels)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(channels * 4**layers.spatial_dims, hidden)
        self.act = layers.activation(hidden)
        self.dropout = nn.Dropout(0.7)
        self.fc2 = nn.Linear(hidden, num_classes)


class GoogLeNet(AuxiliaryClassifier):
    """GoogLeNet (2D, three channels, 1000 classes: 6,624,904 parameters, 13,004,888 with auxiliary heads).

    The network is the one that the published weights belong to: with batch normalisation, and with kernels of three in
    the branch where the paper has five. Those weights want images from -1 to 1 (mean and deviation 0.5). Names are
    torchvision's below ``features``.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: number of logits.
        auxiliary: whether training mode returns the logits of the two auxiliary heads too.
        options: see :class:`ClassifierBase`; ``dropout`` is 0.2 by default.

    Shapes: (B, in_channels, ...), every edge at least 15, to (B, num_classes) logits.
    """

    published_names: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"^(conv|inception)", r"features.\1"),
        (r"^(aux[12])\.", r"auxiliary.\1."),
        (r"^fc\.", "classifier."),
    )
    own_norm: ClassVar[LayerName] = ("batch", {"eps": 1e-3})
    own_dropout: ClassVar[float] = 0.2
    own_stages: ClassVar[tuple[str, ...]] = (
        r"features\.conv",
        *(rf"features\.inception{n}" for n in (3, 4, 5)),
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
        build = BlockBuilder(self.layers, self.width, in_channels)
        stages: OrderedDict[str, nn.Module] = OrderedDict()
        stages["conv1"] = build.conv(Layer(64, 7, self.stem_stride))
        stages["maxpool1"] = self._pool()
        stages["conv2"] = build.conv(Layer(64))
        stages["conv3"] = build.conv(Layer(192, 3))
        stages["maxpool2"] = self._pool()
        for name, (c1, c3_in, c3, c5_in, c5, pooled) in _BLOCKS.items():
            stages[name] = build.block(
                {
                    "branch1": [Layer(c1)],
                    "branch2": [Layer(c3_in), Layer(c3, 3)],
                    "branch3": [Layer(c5_in), Layer(c5, 3)],
                    "branch4": [lambda: self.layers.max_pool(stride=1), Layer(pooled)],
                }
            )
            if auxiliary and name in _TAPS:
                head = AuxiliaryHead(self.layers, build.channels, num_classes, self.width)
                self.add_auxiliary(_TAPS[name], head, name)
            if name in _POOLED_AFTER:
                pool, size = _POOLED_AFTER[name]
                stages[pool] = self._pool(size)
        self.features = nn.Sequential(stages)
        self.pool = self.layers.average_pool()
        self.initialise()
        self.finish(build.channels, num_classes)

    def _pool(self, size: int = 3) -> nn.Module:
        return self.layers.max_pool(size, padding=0, ceil_mode=True)
