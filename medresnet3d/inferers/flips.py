"""Test-time augmentation by mirroring."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer


class FlipInferer(Inferer):
    """Average the outputs for an image and its mirror images; dense ones are mirrored back.

    Args:
        axes: spatial axes to mirror, 0 for the first; all combinations of them are used, and the image as it is. Left
            and right are axis 0 of a volume in RAS orientation. Empty: the image as it is, once.
        inferer: what is run on each; ``None``: the whole image in one pass.

    An output with fewer axes than the image, the logits of a classifier, has no place to mirror back.

    Example:
        >>> double = lambda x: 2 * x
        >>> FlipInferer(axes=[0])(torch.arange(3.0)[None, None], double)
        tensor([[[0., 2., 4.]]])
    """

    def __init__(self, axes: Sequence[int] = (0,), inferer: Callable[..., Any] | None = None) -> None:
        super().__init__()
        chosen = [axis + 2 for axis in axes]
        self.flips = [list(some) for count in range(len(chosen) + 1) for some in combinations(chosen, count)]
        self.inferer = SimpleInferer() if inferer is None else inferer

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Give the mean output, (B, K, ...) or (B, K), for ``inputs`` (B, C, ...); the network returns one tensor."""
        total: torch.Tensor | None = None
        for axes in self.flips:
            output = self.inferer(inputs.flip(axes) if axes else inputs, network, *args, **kwargs)
            output = output.flip(axes) if axes and output.ndim == inputs.ndim else output
            total = output if total is None else total + output
        assert total is not None  # the empty combination is always there
        return total / len(self.flips)
