"""The layers of a network whose planes arrive slab by slab: what each computes now, and what it keeps.

Used by :mod:`~medresnet3d.inferers.plane_stream`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch

from medresnet3d.errors import ConfigError
from medresnet3d.inferers.memory_formats import empty_planes
from medresnet3d.inferers.tracing import tensors_in

AXIS = 2
"""The tensors' axis (B, C, planes, ...) along which slabs follow each other."""


@dataclass(frozen=True)
class Planes:
    """What is known of a tensor that comes from the image.

    Attributes:
        scale: of its planes to those of the image.
        ended: whether no plane follows.
    """

    scale: Fraction
    ended: bool


def mark(value: Any, planes: Planes) -> None:
    """Note what is known of all tensors in a value that have planes."""
    for tensor in tensors_in(value):
        if tensor.dim() > AXIS:
            tensor._planes = planes  # type: ignore[attr-defined]


def is_marked(tensor: torch.Tensor) -> bool:
    """Whether a tensor comes from the image, plane by plane."""
    return hasattr(tensor, "_planes")


def planes_of(tensor: torch.Tensor) -> Planes:
    """What is known of a marked tensor."""
    planes: Planes = tensor._planes  # type: ignore[attr-defined]
    return planes


@dataclass
class Call:
    """One call of a function, and what its step needs to know."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    slab: int

    def named(self, names: str) -> dict[str, Any]:
        """All arguments by name."""
        return {**dict(zip(names.split(), self.args, strict=False)), **self.kwargs}

    def most(self, scale: Fraction) -> int:
        """Planes of that scale that one slab gives; no more are computed at once."""
        return max(math.ceil(self.slab * scale), 1)


class Step(ABC):
    """One call of a forward pass, in all slabs of an image."""

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def run(self, call: Call) -> tuple[Any, Planes]:
        """Make the call for the planes that have arrived."""


class Join(Step):
    """A function of several tensors, voxel by voxel: what one of them is ahead of the others waits."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._waiting: list[torch.Tensor | None] = []

    def run(self, call: Call) -> tuple[Any, Planes]:
        """Make the call for the planes that all have."""
        given = [tensor for tensor in tensors_in((call.args, call.kwargs)) if is_marked(tensor)]
        waiting = self._waiting or [None] * len(given)
        joined = [_after(old, new) for old, new in zip(waiting, given, strict=True)]
        scale = planes_of(given[0]).scale
        count = min(call.most(scale), *(tensor.shape[AXIS] for tensor in joined))
        ready = {id(new): tensor.narrow(AXIS, 0, count) for new, tensor in zip(given, joined, strict=True)}
        self._waiting = [_rest(tensor, count) for tensor in joined]
        ended = all(planes_of(tensor).ended for tensor in given) and not any(kept is not None for kept in self._waiting)
        result = call.function(*_replaced(call.args, ready), **_replaced(call.kwargs, ready))
        return result, Planes(scale, ended)


def _after(old: torch.Tensor | None, new: torch.Tensor) -> torch.Tensor:
    """The planes of ``old``, then those of ``new``."""
    if old is None or old.shape[AXIS] == 0:
        return new
    both = empty_planes(new, old.shape[AXIS] + new.shape[AXIS])
    both[:, :, : old.shape[AXIS]] = old
    both[:, :, old.shape[AXIS] :] = new
    return both


def _rest(tensor: torch.Tensor, start: int) -> torch.Tensor | None:
    """A copy of the planes from ``start`` on, so that nothing else is kept alive or changes them."""
    count = tensor.shape[AXIS] - start
    if count <= 0:
        return None
    return empty_planes(tensor, count).copy_(tensor.narrow(AXIS, start, count))


def _replaced(value: Any, by: dict[int, torch.Tensor]) -> Any:
    """Nested arguments with some tensors replaced, by identity."""
    if isinstance(value, torch.Tensor):
        return by.get(id(value), value)
    if isinstance(value, dict):
        return {key: _replaced(part, by) for key, part in value.items()}
    return type(value)(_replaced(part, by) for part in value) if isinstance(value, (tuple, list)) else value


def _pairs(value: Any, dims: int) -> list[int]:
    values = list(value) if isinstance(value, (tuple, list, torch.Size)) else [value]
    return [int(item) for item in (values * dims if len(values) == 1 else values)]


class _Window(Step):
    """A function whose plane ``o`` reads ``reach`` planes from ``stride * o - before`` on."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._kept: torch.Tensor | None = None
        self._skipped = 0
        self._begun = self._closed = False

    def take(
        self,
        call: Call,
        new: torch.Tensor,
        reach: int = 1,
        stride: int = 1,
        ends: tuple[int, int] = (0, 0),
        value: float = 0.0,
    ) -> tuple[torch.Tensor, int, Planes]:
        """Return the planes to read now, how many planes of output they give, and what is known of those."""
        known = planes_of(new)
        skipped = min(self._skipped, new.shape[AXIS])
        self._skipped -= skipped
        new = new.narrow(AXIS, skipped, new.shape[AXIS] - skipped)
        planes = self._joined(new, known.ended, ends, value)
        total, scale = planes.shape[AXIS], known.scale / stride
        possible = max((total - reach) // stride + 1, 0)
        count = min(possible, call.most(scale))
        self._kept = _rest(planes, count * stride)
        self._skipped += max(count * stride - total, 0)
        read = planes.narrow(AXIS, 0, (count - 1) * stride + reach if count else 0)
        return read, count, Planes(scale, known.ended and count == possible)

    def _joined(self, new: torch.Tensor, ended: bool, ends: tuple[int, int], value: float) -> torch.Tensor:
        """What was kept and what is new, between planes of padding where the image begins and ends."""
        before = 0 if self._begun else ends[0]
        behind = ends[1] if ended and not self._closed else 0
        self._begun, self._closed = True, ended
        old = 0 if self._kept is None else self._kept.shape[AXIS]
        if not (before or old or behind):
            return new
        planes = empty_planes(new, before + old + new.shape[AXIS] + behind)
        planes[:, :, :before] = value
        if self._kept is not None:
            planes[:, :, before : before + old] = self._kept
        planes[:, :, before + old : planes.shape[AXIS] - behind] = new
        planes[:, :, planes.shape[AXIS] - behind :] = value
        return planes


class _Convolution(_Window):
    def run(self, call: Call) -> tuple[Any, Planes]:
        """Convolve with the padding along the other axes only."""
        given = call.named("input weight bias stride padding dilation groups")
        image, weight = given.pop("input"), given["weight"]
        dims = weight.dim() - 2
        stride, dilation = (_pairs(given.get(name, 1), dims) for name in ("stride", "dilation"))
        reaches = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True)]
        padding = _padding(given.get("padding", 0), reaches)
        planes, count, known = self.take(call, image, reaches[0], stride[0], (padding[0], padding[0]))
        if count:
            return call.function(planes, **{**given, "padding": (0, *padding[1:])}), known
        sides = zip(image.shape[3:], padding[1:], reaches[1:], stride[1:], strict=True)
        size = [(side + 2 * pad - reach) // step + 1 for side, pad, reach, step in sides]
        return empty_planes(image, 0, weight.shape[0], size), known


def _padding(padding: Any, reaches: list[int]) -> list[int]:
    """Zeros before and after the image along each axis."""
    if padding == "valid":
        return [0] * len(reaches)
    if padding == "same":
        if any(reach % 2 == 0 for reach in reaches):
            raise ConfigError('a convolution with padding "same" and an even kernel cannot be computed slab by slab.')
        return [reach // 2 for reach in reaches]
    return _pairs(padding, len(reaches))


class _Pooling(_Window):
    def run(self, call: Call) -> tuple[Any, Planes]:
        """Pool without padding."""
        maximum = self.name.startswith("max")
        more = "dilation ceil_mode return_indices" if maximum else "ceil_mode count_include_pad divisor_override"
        given = call.named(f"input kernel_size stride padding {more}")
        image = given.pop("input")
        dims = image.dim() - 2
        kernel = _pairs(given["kernel_size"], dims)
        stride = _pairs(given.get("stride") or kernel, dims)
        plain = not any(_pairs(given.get("padding") or 0, dims)) and set(_pairs(given.get("dilation", 1), dims)) == {1}
        if not plain or given.get("ceil_mode") or given.get("return_indices"):
            raise ConfigError("pooling with padding, dilation, ceil_mode or indices cannot be computed slab by slab.")
        planes, count, known = self.take(call, image, kernel[0], stride[0])
        if count:
            return call.function(planes, **given), known
        sides = zip(image.shape[3:], kernel[1:], stride[1:], strict=True)
        size = [(side - k) // step + 1 for side, k, step in sides]
        return empty_planes(image, 0, image.shape[1], size), known


class _Pad(_Window):
    def run(self, call: Call) -> tuple[Any, Planes]:
        """Pad along the other axes at once, along the planes where the image begins and ends."""
        given = call.named("input pad mode value")
        image, pads = given.pop("input"), list(given.pop("pad"))
        at = 2 * (image.dim() - 1 - AXIS)
        before, after = [*pads, 0, 0][at : at + 2] if len(pads) >= at + 2 else (0, 0)
        if (before or after) and (given.get("mode", "constant") != "constant" or min(before, after) < 0):
            raise ConfigError("padding with the image's own planes, or cropping, cannot be done slab by slab.")
        others = [0 if at <= n < at + 2 else side for n, side in enumerate(pads)]
        inner = image.view_as(image)
        if any(others) and image.shape[AXIS]:
            inner = call.function(image, others, **given)
        elif any(others):
            ends = [*others, *[0] * at][:at]
            size = [side + ends[-2 * n - 2] + ends[-2 * n - 1] for n, side in enumerate(image.shape[3:])]
            inner = empty_planes(image, 0, image.shape[1], size)
        mark(inner, planes_of(image))
        planes, _, known = self.take(call, inner, ends=(before, after), value=given.get("value") or 0.0)
        return planes, known


class _Transposed(Step):
    """A transposed convolution: plane ``i`` of the input adds to ``stride * i - padding`` and those behind it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._kept: torch.Tensor | None = None
        self._first = 0  # number of the first plane that is kept
        self._made = 0

    def run(self, call: Call) -> tuple[Any, Planes]:
        """Compute the planes to which no later one adds."""
        given = call.named("input weight bias stride padding output_padding groups dilation")
        image, weight = given.pop("input"), given["weight"]
        dims = weight.dim() - 2
        stride, dilation = (_pairs(given.get(name, 1), dims) for name in ("stride", "dilation"))
        padding, extra = (_pairs(given.get(name, 0), dims) for name in ("padding", "output_padding"))
        reaches = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True)]
        step, pad, reach = stride[0], padding[0], reaches[0]
        if reach < step:
            raise ConfigError("a transposed convolution that leaves gaps between its kernels cannot go slab by slab.")
        known, planes = planes_of(image), _after(self._kept, image)
        arrived = self._first + planes.shape[AXIS]
        possible = (arrived - 1) * step + reach + extra[0] - 2 * pad  # in all, if no further plane arrives
        if not known.ended:
            possible = min(possible, arrived * step - pad)
        scale = known.scale * step
        count = min(max(possible - self._made, 0), call.most(scale))
        begin = self._made + pad - step * self._first
        known = Planes(scale, known.ended and self._made + count >= possible)
        if count:
            result = self._convolved(call, planes, given, (begin, count), (step, reach), (padding, extra))
        else:
            sides = zip(image.shape[3:], stride[1:], padding[1:], reaches[1:], extra[1:], strict=True)
            size = [(side - 1) * s - 2 * p + r + e for side, s, p, r, e in sides]
            result = empty_planes(image, 0, weight.shape[1] * given.get("groups", 1), size)
        self._made += count
        first = min(max(math.ceil((self._made + pad - reach + 1) / step), self._first), arrived)
        self._kept, self._first = _rest(planes, first - self._first), first
        return result, known

    def _convolved(
        self,
        call: Call,
        planes: torch.Tensor,
        given: dict[str, Any],
        wanted: tuple[int, int],
        axis: tuple[int, int],
        ends: tuple[list[int], list[int]],
    ) -> torch.Tensor:
        """Compute ``wanted`` planes (first and number), from no more planes than they need."""
        (begin, count), (step, reach), (padding, extra) = wanted, axis, ends
        used = min(planes.shape[AXIS], (begin + count - 1) // step + 1)
        missing = begin + count - ((used - 1) * step + reach)
        given |= {"padding": (0, *padding[1:]), "output_padding": (max(missing, 0), *extra[1:])}
        return torch.as_tensor(call.function(planes.narrow(AXIS, 0, used), **given)).narrow(AXIS, begin, count)


class _Interpolation(Step):
    """Enlargement by a whole factor, of the nearest or between the two nearest planes."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._kept: torch.Tensor | None = None
        self._closed = False

    def run(self, call: Call) -> tuple[Any, Planes]:
        """Enlarge, and leave out the planes that have a neighbour yet to come."""
        given = call.named("input size scale_factor mode align_corners")
        image, scale = given["input"], given.get("scale_factor")
        factors = [] if scale is None else _pairs(scale, image.dim() - 2)
        first = scale[0] if isinstance(scale, (list, tuple)) else scale
        if first is None or first != factors[0]:
            raise ConfigError("interpolation to a given size, or by a fraction, cannot be computed slab by slab.")
        known = planes_of(image)
        result = Planes(known.scale * factors[0], known.ended)
        if self._closed or str(given.get("mode", "nearest")).startswith("nearest"):
            return self._enlarged(call, given, image, factors), result
        self._closed = known.ended
        old = 0 if self._kept is None else self._kept.shape[AXIS]
        planes = _after(self._kept, image)
        self._kept = _rest(planes, max(planes.shape[AXIS] - 1, 0))
        before = factors[0] // 2 if old else 0
        after = 0 if known.ended else (factors[0] + 1) // 2
        large = self._enlarged(call, given, planes, factors)
        return large.narrow(AXIS, before, max(large.shape[AXIS] - before - after, 0)), result

    def _enlarged(self, call: Call, given: dict[str, Any], planes: torch.Tensor, factors: list[int]) -> torch.Tensor:
        if planes.shape[AXIS] == 0:
            size = [side * factor for side, factor in zip(planes.shape[3:], factors[1:], strict=True)]
            return empty_planes(planes, 0, planes.shape[1], size)
        return torch.as_tensor(call.function(**{**given, "input": planes}))


class _Interleaving(Step):
    def run(self, call: Call) -> tuple[Any, Planes]:
        """Turn channels into voxels between the voxels."""
        image, stride = call.args[:2]
        known = planes_of(image)
        return call.function(*call.args, **call.kwargs), Planes(known.scale * stride[0], known.ended)


ASSIGNMENTS = ("setitem", "copy")
STEPS: dict[str, type[Step]] = {
    **{f"conv{n}d": _Convolution for n in (2, 3)},
    **{f"conv_transpose{n}d": _Transposed for n in (2, 3)},
    **{f"{kind}_pool{n}d": _Pooling for kind in ("max", "avg") for n in (2, 3)},
    "pad": _Pad,
    "interpolate": _Interpolation,
    "interleaved": _Interleaving,
    "rectified_convolution": _Convolution,
    "rectified_deconvolution": _Transposed,
    "summed_convolution": _Convolution,
}
