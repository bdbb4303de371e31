"""Tiles with a halo: every voxel is computed once, from all the context that can change it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

from medresnet3d.errors import ConfigError
from medresnet3d.inferers.sinks import ANSWER_VOXELS, Sink
from medresnet3d.inferers.streams import Target
from medresnet3d.inferers.structure import flatten
from medresnet3d.inferers.transfer import gather
from medresnet3d.inferers.window_pass import Forward
from medresnet3d.inferers.windows import Index

Box = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class TilePlan:
    """Tiles that divide an image.

    Attributes:
        image_size: voxels of the image along each spatial axis.
        padded_size: the same, made a multiple of the lattice by padding behind.
        tile_size: voxels of a tile along each axis, a multiple of the lattice; those at the end may be smaller.
        halo: voxels of context on each side, a multiple of the lattice.
        lattice: tiles start and end at multiples of it.
    """

    image_size: Index
    padded_size: Index
    tile_size: Index
    halo: Index
    lattice: Index

    @property
    def padding(self) -> tuple[tuple[int, int], ...]:
        """Voxels added before and after the image along each axis."""
        return tuple((0, padded - size) for padded, size in zip(self.padded_size, self.image_size, strict=True))

    def tiles(self) -> list[Box]:
        """Return the tiles, without their halo."""
        edges = [
            [(at, min(at + tile, size)) for at in range(0, size, tile)]
            for tile, size in zip(self.tile_size, self.padded_size, strict=True)
        ]
        return list(itertools.product(*edges))

    def region(self, tile: Box) -> Box:
        """Return a tile with its halo, inside the padded image."""
        return tuple(
            (max(start - halo, 0), min(stop + halo, size))
            for (start, stop), halo, size in zip(tile, self.halo, self.padded_size, strict=True)
        )

    @property
    def largest(self) -> int:
        """Voxels of the largest tile with its halo."""
        sizes = zip(self.tile_size, self.halo, self.padded_size, strict=True)
        return prod(min(tile + 2 * halo, size) for tile, halo, size in sizes)

    @property
    def work(self) -> int:
        """Voxels that the network computes, halos included."""
        return sum(volume(self.region(tile)) for tile in self.tiles())

    def split(self, tile: Box) -> list[Box]:
        """Cut a tile in two across its longest axis; the same tile if it cannot be cut."""
        axis = max(range(len(tile)), key=lambda axis: tile[axis][1] - tile[axis][0])
        start, stop = tile[axis]
        middle = start + (stop - start) // 2 // self.lattice[axis] * self.lattice[axis]
        if middle == start:
            return [tile]
        return [(*tile[:axis], part, *tile[axis + 1 :]) for part in ((start, middle), (middle, stop))]


def plan_tiles(image_size: Sequence[int], halo: Index, lattice: Index, most_voxels: float) -> TilePlan:
    """Choose the largest tiles that fit, halo included, into ``most_voxels``; one tile where the image fits.

    Args:
        image_size: voxels along each axis.
        halo: voxels of context on each side, a multiple of ``lattice``.
        lattice: tiles start and end at multiples of it.
        most_voxels: of a tile with its halo.
    """
    padded = tuple(-(-size // step) * step for size, step in zip(image_size, lattice, strict=True))
    tile = list(padded)
    plan = TilePlan(tuple(image_size), padded, tuple(tile), halo, lattice)
    while plan.largest > most_voxels:
        # Cutting the longest region adds the least halo.
        axes = [axis for axis in range(len(tile)) if tile[axis] > lattice[axis]]
        if not axes:
            break
        axis = max(axes, key=lambda axis: tile[axis])
        pieces = -(-padded[axis] // tile[axis]) + 1
        size = -(-padded[axis] // pieces // lattice[axis]) * lattice[axis]
        tile[axis] = max(min(size, tile[axis] - lattice[axis]), lattice[axis])
        plan = TilePlan(tuple(image_size), padded, tuple(tile), halo, lattice)
    return plan


class TilePass:
    """Compute the tiles of a plan and put together the outputs for the whole image.

    Args:
        plan: the tiles.
        target: where the outputs go.
        forward: the network.
        device: where the network computes.
        splittable: whether a tile that does not fit into the device's memory may be cut in two.
        tick: called after every tile with the number of tiles it was.

    Attributes:
        peak_bytes: 0, as no sums are kept.
        notes: what was done after too little memory.
    """

    def __init__(
        self,
        plan: TilePlan,
        target: Target,
        forward: Forward,
        device: torch.device,
        splittable: bool,
        tick: Callable[[int], None] = lambda tiles: None,
    ) -> None:
        self.plan = plan
        self.target = target
        self.forward = forward
        self.device = device
        self.splittable = splittable
        self.tick = tick
        self.notes: list[str] = []
        self.peak_bytes = 0
        self._sinks: list[Sink] = []
        self._rebuild: Any = None

    def run(self, image: torch.Tensor, keep: set[Box] | None = None) -> tuple[list[torch.Tensor], Any]:
        """Go through the tiles.

        Args:
            image: (1, C, ...), padded to the plan's ``padded_size``.
            keep: the tiles to compute, at least one; ``None``: all.

        Returns:
            the outputs, and the function that puts them into the network's own structure.
        """
        for tile in self.plan.tiles():
            if keep is None or tile in keep:
                self._compute(image, tile)
            self.tick(1)
        return [sink.finish() for sink in self._sinks], self._rebuild

    def _compute(self, image: torch.Tensor, tile: Box) -> None:
        """Compute a tile, in pieces where the memory does not suffice for all of it."""
        region = tuple(slice(*edge) for edge in self.plan.region(tile))
        parts = self.plan.split(tile) if self.splittable else [tile]
        try:
            window = gather(image, [region]).to(self.device)
            outputs, self._rebuild = flatten(self.forward(window, [region]))
        except torch.OutOfMemoryError as error:
            if len(parts) == 1:
                size = " x ".join(str(part.stop - part.start) for part in region)
                raise ConfigError(
                    f"{size} voxels do not fit into the memory of {self.device} in one pass; use strategy "
                    '"windows", or "cpu" as sw_device.'
                ) from error
            outputs = []
        if outputs:
            self._write(tile, outputs)
            return
        self.notes.append("too little device memory: tiles were cut in two")
        for part in parts:
            self._compute(image, part)

    def _write(self, tile: Box, outputs: list[torch.Tensor]) -> None:
        region = self.plan.region(tile)
        scales = [
            tuple(length / (stop - start) for length, (start, stop) in zip(output.shape[2:], region, strict=True))
            for output in outputs
        ]
        if region != tuple((0, size) for size in self.plan.padded_size) and any(
            set(scale) != {1.0} for scale in scales
        ):
            raise ConfigError('the network\'s output is on another grid than its input; use strategy "windows".')
        if not self._sinks:
            self._sinks = [
                self.target.sink(output, scale, self.plan.padding)
                for output, scale in zip(outputs, scales, strict=True)
            ]
        for output, scale, sink in zip(outputs, scales, self._sinks, strict=True):
            inner = [
                slice(round((start - first) * ratio), round((stop - first) * ratio))
                for (start, stop), (first, _), ratio in zip(tile, region, scale, strict=True)
            ]
            begin = tuple(round(start * ratio) for (start, _), ratio in zip(tile, scale, strict=True))
            _answer(sink, begin, output[(slice(None), slice(None), *inner)])


def _answer(sink: Sink, begin: Index, values: torch.Tensor) -> None:
    """Write a block in pieces, so that no second copy of all its logits is made."""
    planes = max(ANSWER_VOXELS // prod(values.shape[3:]), 1)
    for at in range(0, values.shape[2], planes):
        sink.write((begin[0] + at, *begin[1:]), values[:, :, at : at + planes])


def volume(box: Box) -> int:
    """Return the number of voxels of a box."""
    return prod(stop - start for start, stop in box)
