"""Joint segmentation and classification of the hippocampus, and a DenseNet on patches that the mask locates.

Paper: M. Liu et al. A multi-model deep convolutional neural network for automatic hippocampus segmentation and
classification in Alzheimer's disease. NeuroImage 208 (2020) 116459. One network labels the hippocampus and classifies
from its bottleneck; a 3D DenseNet looks at the patch around the hippocampus; the features of both are joined for the
last layer. Sizes are not known to us and listed as inferred in the bundle.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from monai.networks.nets import DenseNet
from torch import Tensor, nn

from medresnet3d.errors import ConfigError
from medresnet3d.names import require_name
from medresnet3d.networks.cascade import crop_around
from medresnet3d.networks.heads.linear import LinearHead
from medresnet3d.networks.layers.activations import LayerName
from medresnet3d.networks.layers.choice import LayerChoice
from medresnet3d.networks.residual_unet import ResidualUNet
from medresnet3d.networks.staged_network import StagedNetwork

TASKS = ("segmentation", "classification")
SIZES: dict[str, dict[str, Any]] = {
    "slim": {"width": 32, "fine": 8, "growth": 8, "layers": (2, 2, 2)},
    "paper": {"width": 64, "fine": 16, "growth": 16, "layers": (4, 4, 4)},
}


def mask_centre(logits: Tensor) -> Tensor:
    """The voxel in the middle of what is labelled: the centroid, rounded; the image's middle where nothing is.

    Args:
        logits: dense, (B, K, ...), class 0 the background.

    Returns:
        int64, (B, axes): index along each axis; of an empty mask ``size // 2``.
    """
    mask = (logits.argmax(1) > 0).to(torch.float32)
    count = mask.flatten(1).sum(1)
    places: list[Tensor] = []
    for axis in range(1, mask.dim()):
        profile = mask.transpose(1, axis).flatten(2).sum(2)  # (B, size)
        steps = torch.arange(profile.shape[1], dtype=torch.float32, device=mask.device)
        centre = torch.floor((profile * steps).sum(1) / count.clamp(min=1.0) + 0.5)
        places.append(torch.where(count > 0, centre, torch.full_like(centre, profile.shape[1] // 2)))
    return torch.stack(places, 1).to(torch.int64)


class PatchDenseNet(nn.Module):
    """MONAI's DenseNet as a trunk: a small one, for patches of some 32 voxels a side.

    Args:
        spatial_dims: 2 or 3.
        growth: channels that each layer adds; twice as many leave the stem.
        layers: layers of each dense block.
        norm: normalisation as MONAI names it, or (name, options).
        act: activation by its name in MONAI's ``Act`` factory, or (name, options); no maxout.

    Shapes: (B, 1, ...) to features (B, F).
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        growth: int = 8,
        layers: Sequence[int] = (2, 2, 2),
        norm: LayerName = "batch",
        act: LayerName = "relu",
    ) -> None:
        super().__init__()
        choice = LayerChoice(spatial_dims, norm, act)
        network = DenseNet(
            spatial_dims,
            1,
            2,
            init_features=2 * growth,
            growth_rate=growth,
            block_config=tuple(layers),
            norm=choice.norm_spec,
            act=act if isinstance(act, str) else tuple(act),
        )
        stem: Any = network.features[0]
        stem.stride = (1,) * spatial_dims  # MONAI's DenseNet has no argument for it, and a patch is small
        head: Any = network.class_layers[-1]
        self.features = head.in_features
        self.trunk = network.features
        self.act = choice.activation(self.features, in_place=False)
        self.pool = choice.average_pool()

    def forward(self, x: Tensor) -> Tensor:
        """Features of patches, (B, F)."""
        return self.pool(self.act(self.trunk(x))).flatten(1)


class HippocampusClassifier(StagedNetwork):
    """Classify from the shape of each hippocampus and from the tissue in and around it.

    The sides are channels, each a region around one hippocampus, the left one mirrored so that it looks like a right
    one. All pass through one ``segmenter`` and one ``patches``. Its bottleneck, pooled, tells of shape; the mask's
    centre says where the patch is cut. An empty mask, as an untrained decoder or a failed scan gives it, puts the patch
    in the middle of the region, where the alignment expects the hippocampus.

    Args:
        segmenter: network of the dense labels.
        patches: trunk of the patches.
        sides: number of regions.
        num_classes: number of logits.
        patch_size: voxels of a patch along each axis.
        dropout: rate at which joined features are dropped in training.

    Shapes: (B, sides, ...) to (B, num_classes). In training mode a list: those, the logits from shape alone, those from
    patches alone, and dense logits (B * sides, K, ...). The cut is no differentiable function of the mask.

    Raises:
        ConfigError: if the patch has another number of axes than two or three.
    """

    own_stages: ClassVar[tuple[str, ...]] = (*(rf"segmenter\.down{n}\." for n in (1, 2, 3)), r"segmenter\.")

    def __init__(
        self,
        segmenter: ResidualUNet,
        patches: PatchDenseNet,
        sides: int = 2,
        num_classes: int = 2,
        patch_size: Sequence[int] = (32, 32, 32),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(patch_size) not in (2, 3):
            raise ConfigError(f"The patch's size is {list(patch_size)}; give two or three numbers.")
        self.segmenter, self.patches = segmenter, patches
        self.sides, self.patch_size = sides, list(patch_size)
        self.pool = LayerChoice(len(patch_size)).average_pool()
        self.dropout = nn.Dropout(dropout)
        shape, texture = sides * segmenter.features, sides * patches.features
        heads = {"shape": LinearHead(shape, num_classes), "texture": LinearHead(texture, num_classes)}
        self.auxiliary = nn.ModuleDict(heads)
        self.classifier = LinearHead(shape + texture, num_classes)
        for head in (*heads.values(), self.classifier):
            nn.init.zeros_(head.bias)

    @torch.jit.unused
    def pretrained_part(self, names: Iterable[str]) -> nn.Module:
        """The segmentation network, for weights of it alone, such as this bundle's own; else the whole."""
        return self if any(name.startswith("segmenter.") for name in names) else self.segmenter

    def look(self, x: Tensor) -> list[Tensor]:
        """Features of shape (B, F), of the patches (B, G), and dense logits (B * sides, K, ...)."""
        batch = x.shape[0]
        regions = x.flatten(0, 1).unsqueeze(1)
        features = self.segmenter.encode(regions)
        dense = self.segmenter.decode(features)
        for axis in range(2, x.dim()):
            dense = dense.narrow(axis, 0, x.shape[axis])
        boxes = crop_around(regions, mask_centre(dense), self.patch_size)
        shape = self.pool(features[3]).reshape(batch, -1)
        return [shape, self.patches(boxes).reshape(batch, -1), dense]

    def forward_features(self, x: Tensor) -> Tensor:
        """Joined features in front of the last layer, (B, F + G)."""
        shape, texture, _ = self.look(x)
        return self.dropout(torch.cat([shape, texture], dim=1))

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits, (B, num_classes); in training mode a list, see the class."""
        shape, texture, dense = self.look(x)
        logits = self.classifier(self.dropout(torch.cat([shape, texture], dim=1)))
        if self.training:
            return [logits, self.auxiliary["shape"](shape), self.auxiliary["texture"](texture), dense]
        return logits


def build_hippocampus_network(
    task: str = "segmentation",
    spatial_dims: int = 3,
    out_channels: int = 3,
    num_classes: int = 2,
    size: str = "slim",
    patch_size: Sequence[int] = (32, 32, 32),
    sides: int = 2,
    norm: LayerName = "batch",
    act: LayerName = "relu",
    dropout: float = 0.0,
) -> ResidualUNet | HippocampusClassifier:
    """Build the segmentation network, or the classifier that has it within as ``segmenter``.

    Args:
        task: ``"segmentation"``: (B, 1, ...) to dense logits; ``"classification"``: (B, sides, ...) to logits.
        spatial_dims: 2 or 3.
        out_channels: number of dense labels, background included.
        num_classes: number of classes.
        size: ``"slim"``, or ``"paper"`` for the width that we take the paper's to be.
        patch_size: voxels of the classifier's patches.
        sides: hippocampi that are seen together.
        norm: normalisation, for all parts.
        act: activation, for all parts; maxout for the segmentation network alone.
        dropout: rate, in front of the last layer, or at the lowest resolution.

    Raises:
        ConfigError: for an unknown task or size, or an activation that does not go with the task.
    """
    require_name("Task", task, TASKS)
    sizes = SIZES[require_name("Network size", size, SIZES)]
    segmenter = ResidualUNet(
        spatial_dims,
        1,
        out_channels,
        width=sizes["width"],
        fine=sizes["fine"],
        norm=norm,
        act=act,
        dropout=dropout if task == "segmentation" else 0.0,
    )
    if task == "segmentation":
        return segmenter
    patches = PatchDenseNet(spatial_dims, sizes["growth"], sizes["layers"], norm, act)
    return HippocampusClassifier(segmenter, patches, sides, num_classes, list(patch_size)[:spatial_dims], dropout)
