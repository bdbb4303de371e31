"""How far around a voxel a network looks: the halo that makes a tile's answer equal to the whole volume's.

Each tensor of one traced forward pass gets, for every spatial axis, the range of input voxels that its voxel ``i`` may
depend on: ``[step * i - before, step * i + after]``. Convolutions, pooling and interpolation widen it; normalisation by
the statistics of the image, attention and the like make it unbounded and are refused with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.inferers.tracing import Call, Key, tensors_in, trace
from medresnet3d.networks.slice_wise import SliceWise


@dataclass(frozen=True)
class Halo:
    """What a tile needs around it, in voxels.

    Attributes:
        size: for each spatial axis, how many voxels around a tile can change its answer.
        stride: for each spatial axis, the lattice on which a tile (with its halo) must start, and of which its size
            should be a multiple: the coarsest grid inside the network.
    """

    size: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def margin(self) -> tuple[int, ...]:
        """:attr:`size` rounded up to a multiple of :attr:`stride`."""
        return tuple(-(-size // stride) * stride for size, stride in zip(self.size, self.stride, strict=True))


@dataclass(frozen=True)
class _Reach:
    """Along one axis: voxel ``i`` depends on input voxels from ``step * i - before`` to ``step * i + after``."""

    step: Fraction = Fraction(1)
    before: Fraction = Fraction(0)
    after: Fraction = Fraction(0)

    def wider(self, before: Fraction | int, after: Fraction | int, step: Fraction | int = 1) -> _Reach:
        """After an operation whose output ``o`` reads ``step * o - before`` to ``step * o + after`` of this tensor."""
        return _Reach(self.step * step, self.before + self.step * before, self.after + self.step * after)


_Reaches = tuple[_Reach, ...]


class _UnknownReachError(Exception):
    """An operation with a reach that is unbounded or not known; the message is the reason."""


def halo(network: nn.Module, in_channels: int, spatial_dims: int) -> Halo:
    """Work out the exact halo of a network in eval mode.

    With tiles that start on the lattice :attr:`Halo.stride` and carry :attr:`Halo.size` voxels of context (or end at
    the border of the volume), each voxel's answer equals that of one pass over the whole volume, up to rounding.

    Args:
        network: maps (B, in_channels, ...) to one or several dense outputs on the same grid.
        in_channels: channels of the input.
        spatial_dims: 2 or 3.

    Raises:
        ConfigError: if the halo is unbounded or cannot be told, with the reason: instance, group or layer
            normalisation, attention, global pooling, an output on another grid, an operation that is not known here.
    """
    if isinstance(network, SliceWise):  # its axes change places, which the rules below do not follow
        flat = halo(network.network, in_channels * (2 * network.neighbours + 1), spatial_dims - 1)
        return Halo((*flat.size, network.neighbours), (*flat.stride, 1))
    name = type(network).__name__
    record = trace(network, (1, in_channels, *[_EXAMPLE] * spatial_dims))
    reaches: dict[Key, _Reaches] = {record.input: (_Reach(),) * spatial_dims}
    steps = [{Fraction(1)} for _ in range(spatial_dims)]
    for call in record.calls:
        try:
            result = _after(call, reaches, spatial_dims)
        except _UnknownReachError as reason:
            where = f' in "{call.module}"' if call.module else ""
            raise ConfigError(
                f'{name} has no exact halo: {reason}{where}; use strategy "windows" or "whole" for it.'
            ) from None
        if result is not None:
            reaches.update((key, result) for key in call.writes)
            for axis, reach in enumerate(result):
                steps[axis].add(reach.step)
    shape = record.shape[2:]
    ends = [(reaches.get(key), tensor) for key, tensor in zip(record.outputs, record.output_tensors, strict=True)]
    if any(end is None or tuple(tensor.shape[2:]) != shape for end, tensor in ends):
        raise ConfigError(
            f'{name} has no exact halo: an output has another grid than the input; use strategy "windows".'
        )
    size = [
        max(math.ceil(max(end[axis].before, end[axis].after)) for end, _ in ends if end) for axis in range(spatial_dims)
    ]
    stride = [math.lcm(*(math.ceil(step) for step in found)) for found in steps]
    return Halo(tuple(max(0, value) for value in size), tuple(stride))


_EXAMPLE = 64
"""Size of the traced image along each axis: a multiple of what U-shaped networks usually ask for."""


def _after(call: Call, reaches: dict[Key, _Reaches], dims: int) -> _Reaches | None:
    """The reach of a call's outputs; ``None`` if they do not depend on the image."""
    known = [reaches[key] for key in call.reads if key in reaches]
    if not known:
        return None
    function = call.function.strip("_")
    if function in _REFUSED:
        raise _UnknownReachError(_REFUSED[function])
    if function in _POINTWISE or (function in _JOINING and _argument(call, 1, "dim", 0) in (0, 1)):
        return _joined(call, known, reaches, dims)
    if function not in _RULES:
        raise _UnknownReachError(f"the reach of {function} is not known")
    return _RULES[function](call, known[0], dims)


def _joined(call: Call, known: list[_Reaches], reaches: dict[Key, _Reaches], dims: int) -> _Reaches:
    """Voxel by voxel from several tensors on one grid."""
    if any(tensor.dim() != dims + 2 for tensor in call.outputs):
        raise _UnknownReachError(f"{call.function} changes the number of axes")
    for key, tensor in zip(call.reads, tensors_in((call.args, call.kwargs)), strict=True):
        if key not in reaches and any(count > 1 for count in tensor.shape[-dims:]) and tensor.dim() >= dims:
            raise _UnknownReachError("a table of values by position")
    joined = []
    for axis in range(dims):
        parts = [reach[axis] for reach in known]
        if len({part.step for part in parts}) > 1:
            raise _UnknownReachError(f"{call.function} joins images of different resolution")
        joined.append(_Reach(parts[0].step, max(p.before for p in parts), max(p.after for p in parts)))
    return tuple(joined)


def _argument(call: Call, position: int, name: str, default: Any) -> Any:
    if name in call.kwargs:
        return call.kwargs[name]
    return call.args[position] if len(call.args) > position else default


def _each(value: Any, dims: int) -> list[int]:
    values = list(value) if isinstance(value, (tuple, list, torch.Size)) else [value]
    return [int(item) for item in (values * dims if len(values) == 1 else values)]


def _window(
    reach: _Reaches, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> _Reaches:
    return tuple(
        part.wider(p, d * (k - 1) - p, s)
        for part, k, s, p, d in zip(reach, kernel, stride, padding, dilation, strict=True)
    )


def _convolution(call: Call, reach: _Reaches, dims: int) -> _Reaches:
    kernel = list(call.args[1].shape[2:]) if len(call.args) > 1 else list(call.kwargs["weight"].shape[2:])
    stride = _each(_argument(call, 3, "stride", 1), dims)
    dilation = _each(_argument(call, 5, "dilation", 1), dims)
    padding = _argument(call, 4, "padding", 0)
    if isinstance(padding, str):
        same = [d * (k - 1) // 2 for k, d in zip(kernel, dilation, strict=True)]
        padding = same if padding == "same" else 0
    return _window(reach, kernel, stride, _each(padding, dims), dilation)


def _transposed(call: Call, reach: _Reaches, dims: int) -> _Reaches:
    kernel = call.args[1].shape[2:]
    stride, padding = (_each(_argument(call, n, name, v), dims) for n, name, v in ((3, "stride", 1), (4, "padding", 0)))
    dilation = _each(_argument(call, 7, "dilation", 1), dims)
    return tuple(
        part.wider(Fraction(d * (k - 1) - p, s), Fraction(p, s), Fraction(1, s))
        for part, k, s, p, d in zip(reach, kernel, stride, padding, dilation, strict=True)
    )


def _pooling(call: Call, reach: _Reaches, dims: int) -> _Reaches:
    kernel = _each(_argument(call, 1, "kernel_size", None), dims)
    stride = _argument(call, 2, "stride", None)
    padding = _each(_argument(call, 3, "padding", 0), dims)
    dilation = [1] * dims
    if call.function.startswith(("max_pool", "_max_pool")):
        dilation = _each(_argument(call, 4, "dilation", 1), dims)
    return _window(reach, kernel, _each(stride, dims) if stride else kernel, padding, dilation)


def _interpolation(call: Call, reach: _Reaches, dims: int) -> _Reaches:
    mode = _argument(call, 3, "mode", "nearest")
    if _argument(call, 4, "align_corners", None):
        raise _UnknownReachError("interpolation with align_corners depends on the size of the whole image")
    if mode not in ("nearest", "nearest-exact", "linear", "bilinear", "trilinear"):
        raise _UnknownReachError(f"the reach of {mode} interpolation is not known")
    factors = [Fraction(o, i) for o, i in zip(call.outputs[0].shape[2:], call.args[0].shape[2:], strict=True)]
    if any(factor.denominator > 1 and factor.numerator > 1 for factor in factors):
        raise _UnknownReachError("interpolation by a factor that is not whole")
    if mode.startswith("nearest"):
        # An enlarged voxel reads the one it came from; a reduced one reads one of those it covers.
        return tuple(
            part.wider(max(1 - 1 / f, Fraction(0)), 1 / f / 2 if f < 1 else 0, 1 / f)
            for part, f in zip(reach, factors, strict=True)
        )
    shifts = [(1 / factor - 1) / 2 for factor in factors]
    return tuple(
        part if f == 1 else part.wider(1 - s, 1 + s, 1 / f) for part, s, f in zip(reach, shifts, factors, strict=True)
    )


def _padding(call: Call, reach: _Reaches, dims: int) -> _Reaches:
    pads = list(_argument(call, 1, "pad", ()))
    if _argument(call, 2, "mode", "constant") == "circular":
        raise _UnknownReachError("circular padding joins opposite borders")
    begins = [0] * dims
    for number in range(len(pads) // 2):
        if number < dims:
            begins[dims - 1 - number] = pads[2 * number]
    return tuple(part.wider(begin, -begin) for part, begin in zip(reach, begins, strict=True))


def _narrowing(call: Call, reach: _Reaches, dims: int) -> _Reaches:
    axis, start = _argument(call, 1, "dim", 0), _argument(call, 2, "start", 0)
    axis = axis % (dims + 2) - 2
    return tuple(part.wider(-start, start) if n == axis else part for n, part in enumerate(reach))


def _indexing(call: Call, reach: _Reaches, dims: int) -> _Reaches:
    index = call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],)
    if Ellipsis in index:
        place = index.index(Ellipsis)
        index = (*index[:place], *[slice(None)] * (dims + 3 - len(index)), *index[place + 1 :])
    if call.outputs[0].dim() != dims + 2 or not all(
        isinstance(part, slice) and part.step in (None, 1) for part in index
    ):
        raise _UnknownReachError("indexing that is more than cropping")
    sizes = call.args[0].shape
    starts = [0] * dims
    for n, part in enumerate(index[2:]):
        starts[n] = part.indices(sizes[n + 2])[0]
    return tuple(part.wider(-start, start) for part, start in zip(reach, starts, strict=True))


def _batch_norm(call: Call, reach: _Reaches, dims: int) -> _Reaches:
    if _argument(call, 5, "training", False):
        raise _UnknownReachError("batch normalisation by the statistics of the batch")
    return reach


def _instance_norm(call: Call, reach: _Reaches, dims: int) -> _Reaches:
    if _argument(call, 5, "use_input_stats", True):
        raise _UnknownReachError("instance normalisation takes its statistics from the whole image")
    return reach


def _over_channels(call: Call, reach: _Reaches, dims: int) -> _Reaches:
    axis = _argument(call, 1, "dim", None)
    if axis is None or axis % (dims + 2) != 1:
        raise _UnknownReachError(f"{call.function} over an axis of the image")
    return reach


def _over_split(call: Call, reach: _Reaches, dims: int) -> _Reaches:
    if _argument(call, 2, "dim", 0) % (dims + 2) > 1:
        raise _UnknownReachError(f"{call.function} along an axis of the image")
    return reach


def _splitting_channels(call: Call, reach: _Reaches, dims: int) -> _Reaches:
    if call.args[0].dim() != dims + 2 or _argument(call, 1, "dim", None) != 1:
        raise _UnknownReachError(f"{call.function} of another axis than the channels")
    return reach


def _over_pieces(call: Call, reach: _Reaches, dims: int) -> _Reaches:
    """The maximum over the pieces of maxout, which stand behind the channels."""
    if call.args[0].dim() != dims + 3 or _argument(call, 1, "dim", None) != 2:
        raise _UnknownReachError(f"{call.function} over an axis of the image")
    return reach


def _unchanged(call: Call, reach: _Reaches, dims: int) -> _Reaches:
    return reach


_STATISTICS = "statistics of the whole image"
_REFUSED = {
    "group_norm": f"group normalisation takes {_STATISTICS}",
    "layer_norm": f"layer normalisation takes {_STATISTICS} or position by position features",
    "rms_norm": "normalisation of position by position features",
    "scaled_dot_product_attention": "attention looks at the whole image",
    "multi_head_attention_forward": "attention looks at the whole image",
    "matmul": "a matrix product, as in attention, may look at the whole image",
    "bmm": "a matrix product, as in attention, may look at the whole image",
    "einsum": "a sum over axes, as in attention, may look at the whole image",
    "mean": "a mean looks at the whole image",
    **{
        f"adaptive_{kind}_pool{n}d": "global pooling looks at the whole image"
        for kind in ("avg", "max")
        for n in (1, 2, 3)
    },
}
_POINTWISE_NAMES = """
    add radd iadd sub rsub isub mul rmul imul div truediv rtruediv itruediv neg pow abs exp log sqrt rsqrt square
    relu relu6 leaky_relu rrelu elu selu celu gelu silu mish hardswish hardsigmoid hardtanh sigmoid tanh softplus
    softsign logsigmoid clamp clamp_min clamp_max maximum minimum lerp addcmul where lt dropout dropout2d dropout3d
    alpha_dropout feature_alpha_dropout as_tensor to float half bfloat16 double type type_as contiguous clone detach
    alias requires_grad
"""
_POINTWISE = frozenset(_POINTWISE_NAMES.split())
_JOINING = frozenset({"cat", "concat", "concatenate"})
_RULES: dict[str, Callable[[Call, _Reaches, int], _Reaches]] = {
    **{f"conv{n}d": _convolution for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": _transposed for n in (1, 2, 3)},
    **{f"{kind}_pool{n}d": _pooling for kind in ("max", "avg") for n in (1, 2, 3)},
    "interpolate": _interpolation,
    "upsample": _interpolation,
    "pad": _padding,
    "narrow": _narrowing,
    "getitem": _indexing,
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "softmax": _over_channels,
    "log_softmax": _over_channels,
    "chunk": _over_split,
    "split": _over_split,
    "prelu": _unchanged,
    "unflatten": _splitting_channels,
    "amax": _over_pieces,
}
