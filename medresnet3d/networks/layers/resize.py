"""Linear interpolation of maps in two or three dimensions."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def resize(x: Tensor, size: list[int]) -> Tensor:
    """Interpolate maps (B, C, ...) to the size of their axes in space, bilinearly or trilinearly."""
    return functional.interpolate(x, size=size, mode="bilinear" if x.dim() == 4 else "trilinear", align_corners=False)
