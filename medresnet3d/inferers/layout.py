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
from medresnet3d.inferers.slabs import SlabPlan, check_slabs, plan_slabs
from medresnet3d.inferers.tiles import Box, TilePlan, plan_tiles
from medresnet3d.inferers.windows import Index, WindowPlan, covered_voxels, full_roi, per_axis, plan_windows

#: a network whose grid inside is not known gets images that are multiples of at most this
MOST_LATTICE = 32
_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


@dataclass(frozen=True)
class Layout:
    """What is computed, and how.

    Attributes:
        strategy: ``exact``, ``windows``, ``halo``, ``slabs`` or ``whole``.
        reason: why ``auto`` chose it; empty where the caller did.
        plan: the windows, tiles or slabs.
        box: the part of the image that they cover: first voxel and the one after the last along each axis.
        image_size: voxels of the image along each axis.
        splittable: whether a tile may be cut in two without another result.
    """

    strategy: str
    reason: str
    plan: WindowPlan | TilePlan | SlabPlan
    box: Box
    image_size: Index
    splittable: bool = False

    @property
    def cropped(self) -> bool:
        """Whether the box is only a part of the image."""
        return self.box != tuple((0, size) for size in self.image_size)

    @property
    def total(self) -> int:
        """Number of windows, tiles or slabs."""
        if isinstance(self.plan, WindowPlan):
            return self.plan.count
        return len(self.plan.tiles() if isinstance(self.plan, TilePlan) else self.plan.slabs())

    def kept(self, foreground: Foreground) -> set[Any] | None:
        """Return the windows (grid indices) or tiles (boxes) in which there is something; at least one.

        ``None`` for slabs, all of which are computed.
        """
        if isinstance(self.plan, SlabPlan):
            return None
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
        if isinstance(self.plan, SlabPlan):
            return prod(self.plan.image_size)
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
    if options.strategy == "slabs":
        return _slabs(image_size, box, channels, network, runner, options)
    try:
        tiles = _tiles(image_size, box, channels, network, runner, options)
    except ConfigError as error:
        if options.strategy == "halo":
            raise
        tiles, reason = None, str(error)
    if options.strategy == "halo":
        assert tiles is not None
        return tiles
    if tiles is not None and tiles.total == 1:
        return _cheaper(tiles, windows)
    with suppress(ConfigError):
        return _cheaper(_slabs(image_size, box, channels, network, runner, options), windows)
    return replace(windows, reason=reason) if tiles is None else _cheaper(tiles, windows)


def _cheaper(pass_once: Layout, windows: Layout) -> Layout:
    """Choose between tiles or slabs and windows by the voxels that the network has to compute."""
    plan = pass_once.plan
    assert not isinstance(plan, WindowPlan)
    assert isinstance(windows.plan, WindowPlan)
    by_windows = windows.plan.count * prod(windows.plan.roi_size)
    share = plan.work / by_windows
    if share > 1:
        what = "slabs" if isinstance(plan, SlabPlan) else "tiles with a halo"
        return replace(windows, reason=f"{what} would be {share:.1f} times the work")
    times = plan.work / prod(plan.image_size)
    reason = f"{share:.2f} of the work of windows ({times:.2f} times the voxels, with halos), and it fits into memory"
    whole = isinstance(plan, TilePlan) and pass_once.total == 1
    return replace(pass_once, strategy="whole" if whole else pass_once.strategy, reason=reason)


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
    reach, voxels = _reach_and_room(image_size, channels, network, runner, options, "halo")
    box = _to_lattice(box, image_size, reach.stride)
    plan = plan_tiles(_size(box), reach.margin, reach.stride, voxels)
    if plan.largest > voxels:
        raise ConfigError(
            f"the network looks {' x '.join(map(str, reach.size))} voxels around each voxel, and no tile with so much "
            f'around it fits into the memory; use strategy "windows", or give more memory.'
        )
    return Layout("halo", "", plan, box, image_size, splittable=True)


def _reach_and_room(
    image_size: Index,
    channels: int,
    network: Callable[..., Any],
    runner: Runner,
    options: LayoutOptions,
    strategy: str,
) -> tuple[Halo, float]:
    """Return how far a network looks, and how many voxels may be computed at once."""
    if not isinstance(network, nn.Module) or runner.extras.any or runner.backend != "torch":
        raise ConfigError(
            f'strategy "{strategy}" needs a torch.nn.Module of one argument on the torch backend, whose reach can be '
            'told; use strategy "windows".'
        )
    reach, voxel_values = _traced(network, channels, len(image_size))
    limit = options.memory or tile_limit(image_size, runner.device, asked_for=options.strategy == strategy)
    return reach, limit / (voxel_values * _BYTES[runner.precision])


def _slabs(
    image_size: Index,
    box: Box,
    channels: int,
    network: Callable[..., Any],
    runner: Runner,
    options: LayoutOptions,
) -> Layout:
    reach, voxels = _reach_and_room(image_size, channels, network, runner, options, "slabs")
    if runner.views.count > 1:
        raise ConfigError('strategy "slabs" does not mirror or turn; use strategy "windows" for that.')
    box = _to_lattice(box, image_size, reach.stride)
    plan = plan_slabs(_size(box), reach.stride, voxels, options.first_axis)
    assert isinstance(network, nn.Module)
    check_slabs(network, channels, reach.stride, plan.order, runner.device)
    return Layout("slabs", "", plan, box, image_size)


def _lattice(network: Callable[..., Any], channels: int, box: Box, options: LayoutOptions) -> Index:
    """Return of what the image's size has to be a multiple for the network.

    Where the network cannot be followed: of the largest power of two that divides the window's size, which is known to
    work.
    """
    if isinstance(network, nn.Module):
        with suppress(ConfigError):
            return _traced(network, channels, len(box))[0].stride
    return tuple(gcd(size, MOST_LATTICE) for size in full_roi(options.roi_size, _size(box)))
