"""A dense 2D network that goes through a volume slice by slice."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SliceWise(nn.Module):
    """Give a 2D network every slice across the last axis of a volume, with its neighbours as channels.

    Beyond the first and the last slice these are repeated. A window of a volume therefore sees other neighbours at its
    own ends than the volume has there; :func:`medresnet3d.inferers.receptive_field.halo` counts them.

    Args:
        network: from (B, 2 * neighbours + 1, i, j) to (B, K, i, j); the slices come in their order.
        neighbours: slices on each side.

    Shapes: (B, 1, i, j, k) to (B, K, i, j, k).
    """

    def __init__(self, network: nn.Module, neighbours: int = 0) -> None:
        super().__init__()
        self.network = network
        self.neighbours = neighbours

    def forward(self, x: Tensor) -> Tensor:
        """Run the network over all slices, as one batch."""
        depth = x.shape[4]
        # repeated by hand, since torch's "replicate" needs more slices than it adds on some devices
        ends = [x[..., :1]] * self.neighbours + [x] + [x[..., -1:]] * self.neighbours
        padded = torch.cat(ends, dim=4)
        shifted = [padded[..., start : start + depth] for start in range(2 * self.neighbours + 1)]
        slices = torch.cat(shifted, dim=1).permute(0, 4, 1, 2, 3).flatten(0, 1)
        logits = self.network(slices)
        return logits.unflatten(0, (x.shape[0], depth)).permute(0, 2, 3, 4, 1)
