"""One pass over an image in slabs of planes: every voxel is computed once, in memory that no length changes.

See :mod:`~medresnet3d.inferers.plane_stream` for how a network goes on from slab to slab.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.inferers.execution import PreparedNetwork, prepare
from medresnet3d.inferers.plane_steps import AXIS
from medresnet3d.inferers.plane_stream import PlaneStream
from medresnet3d.inferers.sinks import ANSWER_VOXELS, Sink
from medresnet3d.inferers.streams import Target
from medresnet3d.inferers.structure import flatten
from medresnet3d.inferers.windows import Index

#: strides of a network's coarsest grid in the image on which its two ways of computing are compared
CHECKED_STRIDES = 6
#: largest difference of the two, as a share of the largest output
TOLERANCE = 1e-3


@dataclass(frozen=True)
class SlabPlan:
    """Slabs that follow each other along one axis of an image.

    Attributes:
        image_size: voxels of the image along each spatial axis.
        padded_size: the same, made a multiple of the network's coarsest grid by padding behind.
        order: the spatial axes, that along which the slabs follow each other first.
        planes: of a slab; the last one may have fewer.
    """

    image_size: Index
    padded_size: Index
    order: Index
    planes: int

    @property
    def padding(self) -> tuple[tuple[int, int], ...]:
        """Voxels added before and after the image along each axis."""
        return tuple((0, padded - size) for padded, size in zip(self.padded_size, self.image_size, strict=True))

    def slabs(self) -> list[tuple[int, int]]:
        """Return the first plane and the one after the last of each slab."""
        length = self.padded_size[self.order[0]]
        return [(at, min(at + self.planes, length)) for at in range(0, length, self.planes)]

    @property
    def work(self) -> int:
        """Voxels that the network computes."""
        return prod(self.padded_size)


def plan_slabs(image_size: Index, lattice: Index, most_voxels: float, first_axis: int | None = None) -> SlabPlan:
    """Choose the axis and the thickness of the slabs.

    Args:
        image_size: voxels along each spatial axis.
        lattice: the network's coarsest grid, of which sizes are multiples.
        most_voxels: of a slab.
        first_axis: along which the slabs follow each other; ``None``: the longest.

    Raises:
        ConfigError: if not even the thinnest slab has so few voxels.
    """
    padded = tuple(-(-size // step) * step for size, step in zip(image_size, lattice, strict=True))
    axes = range(len(padded))
    first = max(axes, key=lambda axis: (padded[axis], -axis)) if first_axis is None else first_axis
    order = (first, *(axis for axis in axes if axis != first))
    area, step = prod(padded) // padded[first], lattice[first]
    planes = int(most_voxels // (area * step)) * step
    if not planes:
        raise ConfigError(
            f"a slab of {step} planes of {' x '.join(str(padded[axis]) for axis in order[1:])} voxels does not fit "
            'into the memory; use strategy "windows", or give more memory.'
        )
    return SlabPlan(image_size, padded, order, min(planes, padded[first]))


_checked: weakref.WeakKeyDictionary[nn.Module, dict[Any, str]] = weakref.WeakKeyDictionary()


def check_slabs(network: nn.Module, channels: int, lattice: Index, order: Index, device: torch.device) -> None:
    """Compare slabs with one pass over a small image of noise, in fp32; once for each network.

    Raises:
        ConfigError: if the network cannot be computed in slabs, with the reason.
    """
    known = _checked.setdefault(network, {})
    choice = (channels, order, str(device))
    if choice not in known:
        try:
            known[choice] = _difference(network, channels, lattice, order, device)
        except (ConfigError, RuntimeError, TypeError) as error:
            known[choice] = str(error)
    if known[choice]:
        raise ConfigError(f"{type(network).__name__} is not computed slab by slab: {known[choice]}")


@torch.no_grad()
def _difference(network: nn.Module, channels: int, lattice: Index, order: Index, device: torch.device) -> str:
    """Say how the two ways differ; nothing if they do not."""
    size = [(CHECKED_STRIDES if axis == order[0] else 2) * step for axis, step in enumerate(lattice)]
    image = torch.randn((1, channels, *size), generator=torch.Generator().manual_seed(0)).to(device)
    whole, _ = flatten(prepare(network, device=device, precision="fp32", fold=False)(image))
    turned = image.permute(0, 1, *(axis + 2 for axis in order))
    ready = prepare(network, device=device, precision="fp32", order=order)
    ready(turned)
    slabs = [flatten(output)[0] for output in PlaneStream(ready).run(turned.split(lattice[order[0]], AXIS))]
    for number, expected in enumerate(whole):
        found = in_image_order(torch.cat([slab[number] for slab in slabs], AXIS), order)
        if found.shape != expected.shape:
            return "its output has another size then."
        if not float((found - expected).abs().max()) <= TOLERANCE * float(expected.abs().max()):
            return "its output differs then."
    return ""


def in_image_order(tensor: torch.Tensor, order: Index) -> torch.Tensor:
    """Return a tensor (B, C, ...) whose spatial axes come in ``order`` as a view in the order of the image."""
    return tensor.permute(0, 1, *(order.index(axis) + 2 for axis in range(len(order))))


class SlabPass:
    """Compute the slabs of a plan and put together the outputs for the whole image.

    Args:
        plan: the slabs.
        target: where the outputs go.
        network: made ready for the plan's order of axes.
        value: of the padding, where an image is not padded yet.
        tick: called after every slab with 1.

    Attributes:
        peak_bytes: 0, as no sums are kept.
        notes: what was done after too little memory.
    """

    def __init__(
        self,
        plan: SlabPlan,
        target: Target,
        network: PreparedNetwork,
        value: float = 0.0,
        tick: Callable[[int], None] = lambda slabs: None,
    ) -> None:
        self.plan = plan
        self.target = target
        self.network = network
        self.value = value
        self.tick = tick
        self.peak_bytes = 0
        self.notes: list[str] = []
        self._sinks: list[Sink] = []
        self._written: list[int] = []
        self._rebuild: Any = None

    def run(self, image: torch.Tensor, keep: set[Any] | None = None) -> tuple[list[torch.Tensor], Any]:
        """Go through the slabs.

        Args:
            image: (1, C, ...), of the plan's ``padded_size``, or smaller: what is missing is padded slab by slab.
            keep: not used, every slab is computed.

        Returns:
            the outputs, and the function that puts them into the network's own structure.
        """
        with torch.autocast(self.network.device.type, enabled=False):
            for output in PlaneStream(self.network).run(self._slabs(image)):
                tensors, self._rebuild = flatten(output)
                self._write(tensors)
        return [sink.finish() for sink in self._sinks], self._rebuild

    def _slabs(self, image: torch.Tensor) -> Iterator[torch.Tensor]:
        first, *others = self.plan.order
        size, padded = image.shape[2:], self.plan.padded_size
        for start, stop in self.plan.slabs():
            inside = min(stop, size[first]) - start
            slab = image.narrow(first + 2, start, inside).permute(0, 1, first + 2, *(axis + 2 for axis in others))
            behind = [(stop - start) - inside, *(padded[axis] - size[axis] for axis in others)]
            pads = [side for end in reversed(behind) for side in (0, end)]
            yield F.pad(slab, pads, value=self.value) if any(behind) else slab
            self.tick(1)

    def _write(self, outputs: list[torch.Tensor]) -> None:
        if not self._sinks:
            scale = (1.0,) * len(self.plan.order)
            self._sinks = [self.target.sink(output, scale, self.plan.padding) for output in outputs]
            self._written = [0] * len(outputs)
        order = self.plan.order
        for number, (output, sink) in enumerate(zip(outputs, self._sinks, strict=True)):
            planes = max(ANSWER_VOXELS // prod(output.shape[AXIS + 1 :]), 1)
            for part in output.split(planes, AXIS) if output.shape[AXIS] else ():
                begin = [0] * len(order)
                begin[order[0]] = self._written[number]
                sink.write(tuple(begin), in_image_order(part, order))
                self._written[number] += part.shape[AXIS]
