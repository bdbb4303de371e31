"""A detector of two stages in one module: a dense network finds candidates, a classifier of cubes scores them.

After Y. Yao, J. Zhang (2019): candidates by a 3D fully convolutional network with a hybrid loss, fewer false positives
by an attention-based multi-scale 3D residual network; known to us from a survey only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medresnet3d.errors import ConfigError
from medresnet3d.names import require_name
from medresnet3d.networks.attention_resnet import MultiScaleAttentionResNet
from medresnet3d.networks.candidates import find_peaks, paint_candidates, sample_cubes
from medresnet3d.networks.layers.activations import LayerName
from medresnet3d.networks.residual_fcn import ResidualFCN

FUSIONS = ("second", "mean", "product", "first")
LEAST = 1e-4
"""Probability where there is no candidate; one is at most as far from 1."""


class TwoStageDetector(nn.Module):
    """Dense logits of a first network, and in eval mode a map in which a second network has scored its candidates.

    The second network looks at cubes around the candidates, so its answer for a voxel depends on voxels up to half a
    cube, a mask's reach and the first network's own reach away, and the number of candidates counts for a whole image.
    An image that is cut into windows therefore has another answer near the cuts.
    :class:`medresnet3d.inferers.TwoStageInferer` cuts it for ``first`` alone and calls :meth:`refine` once, which gives
    what one pass over the whole image would.

    Args:
        first: from (B, 1, ...) to logits (B, 2, ...): of centres, and of masks.
        second: from cubes (N, scales, ...) to logits (N, 1).
        edges: edge of each scale's cube, in voxels of the image.
        cube_size: voxels along each edge of a cube that ``second`` sees.
        count: candidates of an image at most.
        distance: least distance of two candidates along one axis, in voxels.
        reach: how far from a candidate its mask may reach, in voxels.
        threshold: least probability of a centre at a candidate.
        fusion: probability of a candidate: by the ``second`` network, by the ``first``, or ``mean`` or ``product``.

    Shapes: (B, 1, ...) to logits (B, 1, ...) in eval mode: the probability of each candidate fills its mask, and
    :data:`LEAST` everything else. In training mode the logits (B, 2, ...) of ``first``. While ``scoring`` is off, the
    second network has not been trained, and the candidates keep the probability of the first.

    Raises:
        ConfigError: if the scales do not fit, or there is no such fusion.
    """

    scoring: Tensor

    def __init__(
        self,
        first: nn.Module,
        second: nn.Module,
        edges: Sequence[float],
        cube_size: int,
        *,
        count: int = 50,
        distance: int = 5,
        reach: int = 15,
        threshold: float = 0.1,
        fusion: str = "second",
    ) -> None:
        super().__init__()
        if not 0 <= threshold < 1 or count < 1:
            raise ConfigError(f"A detector has threshold {threshold} and count {count}; give 0 to 1, and 1 or more.")
        self.first, self.second = first, second
        self.edges, self.cube_size, self.count = list(edges), cube_size, count
        self.distance, self.reach, self.threshold = distance, reach, threshold
        self.fusion = require_name("Fusion of the two stages", fusion, FUSIONS)
        self.register_buffer("scoring", torch.zeros((), dtype=torch.bool))

    def candidates(self, dense: Tensor) -> tuple[Tensor, Tensor]:
        """Voxels, int64, (B, K, dimensions), and probabilities (B, K) of the candidates in logits of ``first``.

        From the largest; those below the threshold have probability 0.
        """
        centres, logits = find_peaks(dense[:, 0].float(), self.count, self.distance)
        found = logits.sigmoid()
        return centres, torch.where(found >= self.threshold, found, 0.0)

    def cubes(self, image: Tensor, centres: Tensor) -> Tensor:
        """What ``second`` sees around points (B, K, dimensions) in voxels: (B, K, scales, ...)."""
        return sample_cubes(image.float(), centres, self.edges, self.cube_size)

    def refine(self, image: Tensor, dense: Tensor) -> Tensor:
        """The answer of eval mode, from an image (B, 1, ...) and the logits (B, 2, ...) of ``first`` for all of it."""
        centres, found = self.candidates(dense)
        scored = self.second(self.cubes(image, centres).flatten(0, 1)).float().sigmoid().reshape(found.shape)
        fused = torch.where(found > 0, self._fused(found, scored), 0.0)
        values = torch.where(self.scoring, fused, found)
        probability = paint_candidates(dense[:, 1] > 0, centres, values, self.reach)
        return torch.logit(probability.clamp(LEAST, 1 - LEAST)).unsqueeze(1)

    def _fused(self, first: Tensor, second: Tensor) -> Tensor:
        if self.fusion == "mean":
            return (first + second) / 2
        if self.fusion == "product":
            return first * second
        return first if self.fusion == "first" else second

    def forward(self, x: Tensor) -> Tensor:
        """Dense logits, see the class."""
        dense: Tensor = self.first(x)
        return dense if self.training else self.refine(x, dense)


def build_two_stage_detector(
    spatial_dims: int = 3,
    *,
    width: float = 1.0,
    voxel_size_mm: float = 1.0,
    scales_mm: Sequence[float] = (20.0, 30.0, 40.0),
    cube_size: int = 32,
    attention: bool = True,
    reduction: int = 8,
    candidates: int = 50,
    candidate_distance_mm: float = 5.0,
    candidate_threshold: float = 0.1,
    largest_mm: float = 30.0,
    fusion: str = "second",
    norm: LayerName = "batch",
    act: LayerName = "relu",
    dropout: float = 0.0,
    **options: Any,
) -> TwoStageDetector:
    """Build a :class:`TwoStageDetector` of a residual U-Net and attention trunks, its sizes given in millimetres.

    Args:
        spatial_dims: 2 or 3.
        width: factor on the channels of both networks.
        voxel_size_mm: edge of a voxel of the image.
        scales_mm: edges of the cubes.
        cube_size: voxels along each edge of a cube that the second network sees.
        attention: of the second network.
        reduction: of its channel attention.
        candidates: of an image at most.
        candidate_distance_mm: least distance of two candidates along one axis.
        candidate_threshold: least probability of a centre at a candidate.
        largest_mm: diameter of the largest finding.
        fusion: see :class:`TwoStageDetector`.
        norm: normalisation of both networks.
        act: activation of both networks.
        dropout: of both networks.
        **options: of :class:`~medresnet3d.networks.residual_fcn.ResidualFCN`.

    Raises:
        ConfigError: if a length is not above 0, or a part is unknown.
    """
    if min(voxel_size_mm, *scales_mm, candidate_distance_mm, largest_mm) <= 0:
        raise ConfigError(
            f"Lengths of a detector must be above 0 mm; voxel_size_mm is {voxel_size_mm}, scales_mm {list(scales_mm)}."
        )
    layers: dict[str, Any] = {"width": width, "norm": norm, "act": act, "dropout": dropout}
    return TwoStageDetector(
        ResidualFCN(spatial_dims, 1, **layers, **options),
        MultiScaleAttentionResNet(spatial_dims, len(scales_mm), 1, attention=attention, reduction=reduction, **layers),
        [scale / voxel_size_mm for scale in scales_mm],
        cube_size,
        count=candidates,
        distance=max(1, round(candidate_distance_mm / voxel_size_mm)),
        reach=max(1, round(largest_mm / 2 / voxel_size_mm)),
        threshold=candidate_threshold,
        fusion=fusion,
    )
