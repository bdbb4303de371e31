"""Test-time augmentation: mirrored and turned views of each window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import torch

from medresnet3d.errors import ConfigError
from medresnet3d.inferers.structure import flatten

Forward = Callable[[torch.Tensor], Any]


class Views:
    """The views of a window whose outputs, mirrored or turned back, are averaged.

    Args:
        flips: spatial axes to mirror, 0 for the first; all combinations of them are used, and the window as it is.
        turns: two spatial axes in whose plane the window is also turned by 90, 180 and 270 degrees.
    """

    def __init__(self, flips: Sequence[int] = (), turns: Sequence[int] | None = None) -> None:
        if turns is not None and len(set(turns)) != 2:
            raise ConfigError(f"turns is {list(turns)}; give the two spatial axes of the plane to turn in.")
        axes = [axis + 2 for axis in dict.fromkeys(flips)]
        self.mirrored = [list(some) for count in range(len(axes) + 1) for some in combinations(axes, count)]
        self.plane = None if turns is None else [axis + 2 for axis in turns]
        self.quarters = range(1 if turns is None else 4)

    @property
    def count(self) -> int:
        """Number of views, the window as it is included."""
        return len(self.mirrored) * len(self.quarters)

    def forward(self, window: torch.Tensor, network: Forward) -> Any:
        """Return the network's output for ``window`` (B, C, ...), averaged over the views; several in a structure."""
        if self.count == 1:
            return network(window)
        totals: list[torch.Tensor] = []
        for axes in self.mirrored:
            for quarter in self.quarters:
                outputs, rebuild = flatten(network(self._turn(window, axes, quarter)))
                returned = [self._turn_back(output, axes, quarter) for output in outputs]
                if totals:
                    totals = [total.add_(output) for total, output in zip(totals, returned, strict=True)]
                else:
                    totals = [output.float().clone() for output in returned]
        return rebuild([total.div_(self.count) for total in totals])

    def _turn(self, tensor: torch.Tensor, axes: list[int], quarter: int) -> torch.Tensor:
        tensor = tensor.flip(axes) if axes else tensor
        return tensor.rot90(quarter, self.plane) if self.plane and quarter else tensor

    def _turn_back(self, tensor: torch.Tensor, axes: list[int], quarter: int) -> torch.Tensor:
        tensor = tensor.rot90(-quarter, self.plane) if self.plane and quarter else tensor
        return tensor.flip(axes) if axes else tensor
