"""Which part of an image is computed, and how it is divided."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import gcd, prod
from typing import Any

from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.inferers.foreground import Foreground, widen_for_free
from medresnet3d.inferers.memory import tile_limit, values_per_voxel
from medresnet3d.inferers.receptive_field import Halo
from medresnet3d.inferers.receptive_field import halo as network_halo
from medresnet3d.inferers.runner import Runner
from medresnet3d.inferers.tiles import Box, TilePlan, plan_tiles
from medresnet3d.inferers.windows import Index, WindowPlan, covered_voxels, full_roi, per_axis, plan_windows

#: a network whose grid inside is not known gets images that are multiples of at most this
MOST_LATTICE = 32
_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


@dataclass(frozen=True)
class Layout:
    """What is computed, and how.

    Attributes:
        strategy: ``exact``, ``windows``, ``halo`` or ``whole``.
        reason: why ``auto`` chose it; empty where the caller did.
        plan: the windows or tiles.
        box: the part of the image that they cover: first voxel and the one after the last along each axis.
        image_size: voxels of the image along each axis.
        splittable: whether a tile may be cut in two without another result.
    """

    strategy: str
    reason: str
    plan: WindowPlan | TilePlan
    box: Box
    image_size: Index
    splittable: bool = False

    @property
    def cropped(self) -> bool:
        """Whether the box is only a part of the image."""
        return self.box != tuple((0, size) for size in self.image_size)

    @property
    def total(self) -> int:
        """Number of windows or tiles."""
        return self.plan.count if isinstance(self.plan, WindowPlan) else len(self.plan.tiles())

    def kept(self, foreground: Foreground) -> set[Any]:
        """Return the windows (grid indices) or tiles (boxes) in which there is something; at least one."""
        places: dict[Any, tuple[slice, ...]]
        if isinstance(self.plan, TilePlan):
            places = {tile: tuple(slice(*edge) for edge in tile) for tile in self.plan.tiles()}
        else:
            places = {index: self.plan.slices(index) for index in self.plan.indices()}
        before = [first for first, _ in self.plan.padding]
        kept = set()
        for name, place in places.items():
            shifts = [start - pad for (start, _), pad in zip(self.box, before, strict=True)]
            if foreground.holds([slice(p.start + s, p.stop + s) for p, s in zip(place, shifts, strict=True)]):
                kept.add(name)
        return kept or {next(iter(places))}

    def covered(self, kept: set[Any] | None) -> int:
        """Return how many of the image's voxels those windows or tiles (``None``: all) cover."""
        if isinstance(self.plan, WindowPlan):
            return covered_voxels(self.plan, self.plan.indices() if kept is None else kept)
        size = self.plan.image_size
        return sum(
            prod(max(min(stop, length) - start, 0) for (start, stop), length in zip(tile, size, strict=True))
            for tile in (self.plan.tiles() if kept is None else kept)
        )


@dataclass(frozen=True)
class LayoutOptions:
    """What the caller asked for; see :class:`~medresnet3d.inferers.SlidingWindowInferer`."""

    strategy: str
    roi_size: int | Sequence[int]
    overlap: float | Sequence[float]
    margin: int
    memory: int | None = None
    first_axis: int | None = None


def choose_layout(
    image_size: Index,
    channels: int,
    network: Callable[..., Any],
    runner: Runner,
    options: LayoutOptions,
    foreground: Foreground | None,
) -> Layout:
    """Choose the part of the image and the windows or tiles in it.

    Args:
        image_size: voxels along each spatial axis.
        channels: of the image.
        network: as it was given.
        runner: as it is called.
        options: what the caller asked for.
        foreground: the image is cropped to it; ``None``: it is not.

    Raises:
        ConfigError: if the network does not allow the strategy, with the reason.
    """
    whole_image = tuple((0, size) for size in image_size)
    box = whole_image if foreground is None else foreground.box(options.margin) or _middle(image_size, options)
    windows = _windows(image_size, box, options, crop=foreground is not None)
    if options.strategy in ("windows", "exact"):
        return replace(windows, strategy=options.strategy)
    if options.strategy == "whole":
        lattice = _lattice(network, channels, box, options)
        box = _to_lattice(box, image_size, lattice)
        plan = plan_tiles(_size(box), (0,) * len(box), lattice, float("inf"))
        return Layout("whole", "", plan, box, image_size)
    try:
        tiles = _tiles(image_size, box, channels, network, runner, options)
    except ConfigError as error:
        if options.strategy == "halo":
            raise
        return replace(windows, reason=str(error))
    if options.strategy == "halo":
        return tiles
    return _cheaper(tiles, windows)


def _cheaper(tiles: Layout, windows: Layout) -> Layout:
    """Choose between tiles and windows by the voxels that the network has to compute."""
    assert isinstance(tiles.plan, TilePlan)
    assert isinstance(windows.plan, WindowPlan)
    by_windows = windows.plan.count * prod(windows.plan.roi_size)
    share = tiles.plan.work / by_windows
    if share > 1:
        return replace(windows, reason=f"tiles with a halo would be {share:.1f} times the work")
    strategy = "whole" if tiles.total == 1 else "halo"
    times = tiles.plan.work / prod(tiles.plan.image_size)
    reason = f"{share:.2f} of the work of windows ({times:.2f} times the voxels, with halos), and it fits into memory"
    return replace(tiles, strategy=strategy, reason=reason)


def _traced(network: nn.Module, channels: int, dims: int) -> tuple[Halo, float]:
    """Return a network's halo and the numbers it keeps for each voxel, worked out once for each network.

    Raises:
        ConfigError: if it has no exact halo.
    """
    known = _known.setdefault(network, {})
    if (channels, dims) not in known:
        try:
            known[channels, dims] = network_halo(network, channels, dims), values_per_voxel(network, channels, dims)
        except ConfigError as error:
            known[channels, dims] = error
    found = known[channels, dims]
    if isinstance(found, ConfigError):
        raise ConfigError(str(found))
    return found


_known: weakref.WeakKeyDictionary[nn.Module, dict[tuple[int, int], tuple[Halo, float] | ConfigError]]
_known = weakref.WeakKeyDictionary()


def _size(box: Box) -> Index:
    return tuple(stop - start for start, stop in box)


def _middle(image_size: Index, options: LayoutOptions) -> Box:
    """One window in the middle of an image that has nothing in it."""
    roi = [min(pair) for pair in zip(full_roi(options.roi_size, image_size), image_size, strict=True)]
    return tuple(
        ((size - length) // 2, (size - length) // 2 + length) for size, length in zip(image_size, roi, strict=True)
    )


def _to_lattice(box: Box, image_size: Index, lattice: Index) -> Box:
    """Widen a box to multiples of the lattice where the image has the voxels for it."""
    widened = []
    for (start, stop), size, step in zip(box, image_size, lattice, strict=True):
        length = min(-(-(stop - start) // step) * step, size)
        first = min(start, size - length)
        widened.append((first, first + length))
    return tuple(widened)


def _windows(image_size: Index, box: Box, options: LayoutOptions, crop: bool) -> Layout:
    if crop:
        roi = full_roi(options.roi_size, image_size)
        shares = per_axis(options.overlap, len(roi), "overlap")
        steps = [max(int(length * (1 - share)), 1) for length, share in zip(roi, shares, strict=True)]
        box = widen_for_free(box, image_size, roi, steps)
    plan = plan_windows(_size(box), options.roi_size, options.overlap, options.first_axis)
    return Layout("windows", "", plan, box, image_size)


def _tiles(
    image_size: Index,
    box: Box,
    channels: int,
    network: Callable[..., Any],
    runner: Runner,
    options: LayoutOptions,
) -> Layout:
    if not isinstance(network, nn.Module) or runner.extras.any or runner.backend != "torch":
        raise ConfigError(
            'strategy "halo" needs a torch.nn.Module of one argument on the torch backend, whose reach can be told; '
            'use strategy "windows".'
        )
    reach, voxel_bytes = _traced(network, channels, len(image_size))
    box = _to_lattice(box, image_size, reach.stride)
    limit = options.memory or tile_limit(image_size, runner.device, asked_for=options.strategy == "halo")
    voxels = limit / (voxel_bytes * _BYTES[runner.precision])
    plan = plan_tiles(_size(box), reach.margin, reach.stride, voxels)
    if plan.largest > voxels:
        raise ConfigError(
            f"the network looks {' x '.join(map(str, reach.size))} voxels around each voxel, and no tile with so much "
            f'around it fits into {limit >> 20} MiB; use strategy "windows", or give more memory.'
        )
    return Layout("halo", "", plan, box, image_size, splittable=True)


def _lattice(network: Callable[..., Any], channels: int, box: Box, options: LayoutOptions) -> Index:
    """Return of what the image's size has to be a multiple for the network.

    Where the network cannot be followed: of the largest power of two that divides the window's size, which is known to
    work.
    """
    if isinstance(network, nn.Module):
        with suppress(ConfigError):
            return _traced(network, channels, len(box))[0].stride
    return tuple(gcd(size, MOST_LATTICE) for size in full_roi(options.roi_size, _size(box)))
