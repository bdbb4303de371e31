"""A small DenseNet for each kind of patch in each region of the brain.

Paper: F. Li, M. Liu. Alzheimer's disease diagnosis based on multiple cluster dense convolutional networks.
Computerized Medical Imaging and Graphics 70 (2018) 101-110. The brain is divided into regions, the patches of a region
are grouped into clusters, a DenseNet learns the features of each cluster, and the features become those of the region,
then of the image. All numbers (regions, patches, clusters, layers) are our choice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from medresnet3d.errors import ConfigError
from medresnet3d.names import require_name
from medresnet3d.networks.classifier_base import ClassifierBase
from medresnet3d.networks.densenet import DenseNetClassifier
from medresnet3d.networks.heads.patch_clusters import PatchClusters
from medresnet3d.networks.windows import windows

POOLINGS = ("max", "mean")
WIDTHS = {"slim": 0.125, "paper": 0.25}
"""Factors on the channels of DenseNet-121: 8 first ones and 4 for each layer, 16 and 8."""

BLOCKS = {"slim": (2,), "paper": (3, 3, 3)}
PLACES = (("left", "middle", "right"), ("posterior", "middle", "anterior"), ("inferior", "middle", "superior"))


@dataclass(frozen=True)
class PatchPlan:
    """How an image is divided.

    There are three regions along each axis.

    Args:
        region_share: edge of a region as a share of the image's; regions overlap where this is above a third.
        patches: of a region, along each axis.
        patch_size: edge of a patch in voxels.
    """

    region_share: float = 0.5
    patches: int = 3
    patch_size: int = 32

    def region_edges(self, shape: Sequence[int]) -> list[int]:
        """Voxels of a region along each axis of an image of that shape.

        Raises:
            ConfigError: if a region is smaller than a patch.
        """
        edges = [math.ceil(size * self.region_share) for size in shape]
        if min(edges) < self.patch_size:
            raise ConfigError(
                f"An image of {tuple(shape)} voxels has regions of {tuple(edges)}, and a patch has an edge of "
                f"{self.patch_size}; make the grid finer or patch_size smaller."
            )
        return edges


class RegionDenseNet(nn.Module):
    """Patches of one region, each through the DenseNet of its cluster, joined to the features of the region.

    The features of a cluster are the mean over its patches; those of the region are their maximum or mean over the
    clusters that the image has patches of, then a linear layer and an activation.

    Args:
        clusters: which cluster a patch belongs to.
        trunks: a network for each cluster, whose last layers are taken off.
        features: F, of each trunk.
        project: from F to the features of the region.
        act: activation of those.
        plan: how a region is divided into patches.
        pooling: ``"max"`` or ``"mean"``.

    Shapes: a region (B, C, ...) to (B, H).
    """

    def __init__(
        self,
        clusters: PatchClusters,
        trunks: Sequence[ClassifierBase],
        features: int,
        project: nn.Linear,
        act: nn.Module,
        plan: PatchPlan,
        pooling: str = "max",
    ) -> None:
        super().__init__()
        self.clusters = clusters
        for trunk in trunks:
            trunk.classifier = nn.Identity()  # type: ignore[assignment]
        self.trunks = nn.ModuleList(trunks)
        self.features = features
        self.project = project
        self.act = act
        self.patch_size, self.patches_per_axis = plan.patch_size, plan.patches
        self.largest = require_name("Pooling over clusters", pooling, POOLINGS) == "max"

    def patches(self, region: Tensor) -> Tensor:
        """All patches of a region: (B, C, ...) to (P * B, C, ...), the first patch of every case first."""
        edges = [self.patch_size for _ in range(region.dim() - 2)]
        return torch.cat(windows(region, edges, self.patches_per_axis))

    def pooled(self, region: Tensor) -> Tensor:
        """Features of the trunks, joined over patches and clusters, (B, F), in fp32."""
        cases = region.shape[0]
        patches = self.patches(region)
        cluster = self.clusters(patches)
        owner = torch.arange(patches.shape[0], device=region.device) % cases
        means: list[Tensor] = []
        found: list[Tensor] = []
        for number, trunk in enumerate(self.trunks):
            chosen = cluster == number  # perhaps none: networks take an empty batch
            features = trunk.forward_features(patches[chosen]).float()  # type: ignore[operator]
            nothing = torch.zeros(cases, self.features, dtype=features.dtype, device=region.device)
            total = nothing.index_add(0, owner[chosen], features)
            count = nothing[:, 0].index_add(0, owner[chosen], torch.ones_like(features[:, 0]))[:, None]
            means.append(total / count.clamp(min=1.0))
            found.append(count > 0)
        values, present = torch.stack(means), torch.stack(found)
        if self.largest:
            return values.masked_fill(~present, float("-inf")).amax(0)
        return values.sum(0) / present.sum(0)

    def forward(self, region: Tensor) -> Tensor:
        """Features of the region, (B, H)."""
        return self.act(self.project(self.pooled(region)))


class ClusterDenseNet(ClassifierBase):
    """Regions, clusters of patches and a DenseNet for each; the features of all regions go to one last layer.

    :class:`medresnet3d.engines.cluster_fit.FitPatchClusters` fits the clusters; before that, all patches of a region go
    through its first DenseNet.

    Args:
        spatial_dims: 2 (nine regions) or 3 (27).
        in_channels: channels of the image.
        num_classes: number of logits.
        plan: how an image is divided; where an image is larger, regions are larger and patches farther apart.
        clusters: DenseNets of each region.
        blocks: layers of their dense blocks.
        components: see :class:`~medresnet3d.networks.heads.patch_clusters.PatchClusters`.
        descriptor_size: edge of the coarser grid on which patches are compared.
        region_features: H, features of each region.
        pooling: see :class:`RegionDenseNet`.
        options: see :class:`~medresnet3d.networks.classifier_base.ClassifierBase`; ``dropout`` and ``dropconnect`` are
            those of the last layer.

    Shapes: (B, in_channels, ...) to (B, num_classes) logits; features (B, H * regions).

    Raises:
        ConfigError: for a pooling or numbers that make no network; while running, if the image is too small.
    """

    # annotations of its own keep TorchScript from reading those of the base class
    regions_per_axis: ClassVar[int] = 3
    tells_places_apart: ClassVar[bool] = True  # see medresnet3d.reports.attention.class_map

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        num_classes: int = 2,
        *,
        plan: PatchPlan | None = None,
        clusters: int = 3,
        blocks: Sequence[int] = (3, 3, 3),
        components: int = 50,
        descriptor_size: int = 8,
        region_features: int = 16,
        pooling: str = "max",
        **options: Any,
    ) -> None:
        super().__init__(spatial_dims, **options)
        self.plan = plan or PatchPlan()
        self.lattice, self.region_share = [self.regions_per_axis] * spatial_dims, self.plan.region_share
        _require_room(self.plan.patch_size, self.stem_stride, len(blocks))
        per_trunk = {key: value for key, value in options.items() if key not in ("dropout", "dropconnect")}
        regions = []
        for _ in range(self.regions_per_axis**spatial_dims):
            nearest = PatchClusters(
                self.layers.average_pool(descriptor_size),
                in_channels * descriptor_size**spatial_dims,
                clusters,
                components,
            )
            trunks = [
                DenseNetClassifier(spatial_dims, in_channels, blocks=blocks, **per_trunk) for _ in range(clusters)
            ]
            width = trunks[0].classifier.in_features
            project = nn.Linear(width, region_features)
            act = self.layers.activation(region_features)
            regions.append(RegionDenseNet(nearest, trunks, width, project, act, self.plan, pooling))
        self.regions = nn.ModuleList(regions)
        self.pool = nn.Identity()
        self.dropout = nn.Dropout(self.dropout_rate)
        self.classifier = self.make_classifier(region_features * len(regions), num_classes)

    @torch.jit.unused
    def stage_patterns(self) -> tuple[str, ...]:
        """The stages of all DenseNets, then the layers of the regions."""
        trunk: Any = self.regions[0].trunks[0]  # type: ignore[index, union-attr]
        stages = [rf"regions\.\d+\.trunks\.\d+\.(?:{stage})" for stage in trunk.stage_patterns()]
        return (*stages, r"regions\.\d+\.(?:project|act)\.")

    def region_crops(self, x: Tensor) -> list[Tensor]:
        """The regions of images (B, C, ...), as views; the last axis changes fastest.

        Raises:
            ConfigError: if a region is smaller than a patch.
        """
        if not torch.jit.is_scripting():
            self.plan.region_edges(x.shape[2:])
        edges = [math.ceil(size * self.region_share) for size in x.shape[2:]]
        return windows(x, edges, self.lattice[0])

    def feature_map(self, x: Tensor) -> Tensor:
        """Features of the regions in their places, (B, H, 3, 3, 3)."""
        crops = self.region_crops(x)
        features: list[Tensor] = []
        for number, region in enumerate(self.regions):
            features.append(region(crops[number]))
        return self.pool(torch.stack(features, dim=2).unflatten(2, self.lattice))

    @torch.jit.unused
    def region_names(self) -> list[str]:
        """Names of the regions in their order, for images whose axes run to the right, anterior and superior."""
        return [" ".join(place) for place in product(*PLACES[: len(self.lattice)])]


def _require_room(patch_size: int, stem_stride: int, blocks: int) -> None:
    """Refuse patches of which a single feature voxel is left: batch normalisation cannot take one alone."""
    edge = math.ceil(math.ceil(patch_size / stem_stride) / 2) // 2 ** (blocks - 1)
    if edge < 2:
        raise ConfigError(
            f"Patches of {patch_size} voxels leave {edge} after {blocks} dense blocks; make patch_size larger, "
            "stem_stride 1, or blocks fewer."
        )


def build_cluster_densenet(
    spatial_dims: int = 3,
    in_channels: int = 1,
    num_classes: int = 2,
    size: str = "paper",
    patches: int = 3,
    patch_size: int = 32,
    region_share: float = 0.5,
    **options: Any,
) -> ClusterDenseNet:
    """Build the network in one of two sizes.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: number of logits.
        size: ``"paper"``: 16 channels, three blocks of three layers that add 8 each; ``"slim"``: 8 channels, one block
            of two layers that add 4.
        patches: see :class:`PatchPlan`, as for the next two.
        patch_size: edge of a patch in voxels.
        region_share: edge of a region as a share of the image's.
        **options: of :class:`ClusterDenseNet`; those that are None are left at their defaults.

    Raises:
        ConfigError: for an unknown size, or numbers that make no network.
    """
    width = WIDTHS[require_name("Network size", size, WIDTHS)]
    given = {name: value for name, value in options.items() if value is not None}
    plan = PatchPlan(patches=patches, patch_size=patch_size, region_share=region_share)
    defaults: dict[str, Any] = {"width": width, "blocks": BLOCKS[size]}
    return ClusterDenseNet(spatial_dims, in_channels, num_classes, plan=plan, **defaults | given)
