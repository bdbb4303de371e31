"""Items of a data set as plain JSON and arrays, and back: tensors, MetaTensors, numbers, texts and what holds them."""

from __future__ import annotations

import binascii
import math
import re
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import monai.utils.enums as monai_enums
import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from medresnet3d.data.cache.arrays import LOGICAL
from medresnet3d.data.cache.header import DamagedEntryError

INLINE_BYTES = 256
_PLAIN = (type(None), bool, int, float, str)
_META = frozenset({"_meta", "_applied_operations", "_pending_operations", "_is_batch", "_spatial_ndim"})
"""What a MetaTensor has beside its values."""
_DTYPE = re.compile(r"[<|=]?[biufcSU]\d{1,6}|bool|u?int\d{1,2}|float\d{2}|complex\d{2,3}")
_BITS = {torch.bfloat16: torch.int16}
"""Types that numpy does not have, with those that their bits are stored as."""

Fetch = Callable[[int], NDArray[Any] | torch.Tensor]


class UncacheableError(Exception):
    """A value is of a kind that the cache does not store."""


class Encoder:
    """Turns a value into JSON; large arrays are set aside in :attr:`arrays`."""

    def __init__(self) -> None:
        self.arrays: list[NDArray[Any]] = []

    def __call__(self, value: Any, where: str = "item") -> Any:
        """Return the JSON form of ``value``.

        Raises:
            UncacheableError: if there is none; the message names the place by ``where``.
        """
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind is list:
            return [self(each, f"{where}[{i}]") for i, each in enumerate(value)]
        if kind is dict:
            pairs = [[self(key, where), self(each, f"{where}[{key!r}]")] for key, each in value.items()]
            return {"t": "dict", "v": pairs}
        if kind in (tuple, torch.Size):
            content = [self(each, f"{where}[{i}]") for i, each in enumerate(value)]
            return {"t": "size" if kind is torch.Size else "tuple", "v": content}
        if isinstance(value, (np.ndarray, np.generic, torch.Tensor)):
            return self._numbers(value, where)
        return _other(value, where)

    def _numbers(self, value: Any, where: str) -> Any:
        if type(value) is MetaTensor:
            state = value.__dict__
            if not state.keys() <= _META or value.pending_operations:
                raise UncacheableError(f"{where} has transforms that are still to be applied, or unknown attributes")
            return {**self._tensor(value.as_tensor(), where), "t": "meta", "m": self(dict(state), f"{where}.meta")}
        if type(value) is torch.Tensor:
            return self._tensor(value, where)
        if isinstance(value, np.generic):
            return {**self._array(np.asarray(value), where), "t": "scalar"}
        if type(value) is np.ndarray:
            return {**self._array(value, where), "t": "array"}
        raise UncacheableError(f"{where} is a {type(value).__name__}")

    def _tensor(self, tensor: torch.Tensor, where: str) -> dict[str, Any]:
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.requires_grad:
            raise UncacheableError(f"{where} is not a plain tensor in main memory")
        bits = _BITS.get(tensor.dtype)
        node = self._array((tensor if bits is None else tensor.view(bits)).resolve_conj().numpy(), where)
        return {**node, "t": "tensor"} if bits is None else {**node, "t": "tensor", "d": str(tensor.dtype)}

    def _array(self, array: NDArray[Any], where: str) -> dict[str, Any]:
        if array.dtype.hasobject or array.dtype.names or not array.dtype.isnative:
            raise UncacheableError(f"{where} is an array of {array.dtype}")
        if array.nbytes <= INLINE_BYTES or array.dtype.name not in LOGICAL:
            if array.dtype.kind not in "biufcSU":
                raise UncacheableError(f"{where} is an array of {array.dtype}")
            return {"k": array.dtype.str, "s": list(array.shape), "b": array.tobytes().hex()}
        self.arrays.append(array)
        return {"n": len(self.arrays) - 1}


def _other(value: Any, where: str) -> Any:
    if isinstance(value, Enum) and getattr(monai_enums, type(value).__name__, None) is type(value):
        return {"t": "enum", "v": [type(value).__name__, value.name]}
    if isinstance(value, slice):
        return {"t": "slice", "v": [value.start, value.stop, value.step]}
    if isinstance(value, Path):
        return {"t": "path", "v": str(value)}
    if isinstance(value, bytes):
        return {"t": "bytes", "v": value.hex()}
    if isinstance(value, torch.dtype):
        return {"t": "dtype", "v": str(value)}
    raise UncacheableError(f"{where} is a {type(value).__module__}.{type(value).__name__}")


def decode(node: Any, fetch: Fetch) -> Any:
    """Build the value of a JSON form.

    Args:
        node: what :class:`Encoder` returned.
        fetch: gives the array of a number, or a tensor instead of it.

    Raises:
        DamagedEntryError: if ``node`` is no such form. Nothing but the types of this module is ever built.
    """
    try:
        return _decode(node, fetch)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError, RuntimeError) as error:
        raise DamagedEntryError("its description of the item cannot be read") from error


def _decode(node: Any, fetch: Fetch) -> Any:
    if isinstance(node, list):
        return [_decode(each, fetch) for each in node]
    if not isinstance(node, dict):
        return node
    return _BUILDERS[node["t"]](node, fetch)


def _numbers(node: dict[str, Any], fetch: Fetch) -> NDArray[Any] | torch.Tensor:
    if "n" in node:
        return fetch(node["n"])
    if _DTYPE.fullmatch(node["k"]) is None:
        raise DamagedEntryError("an array is of an unknown type")
    raw = binascii.unhexlify(node["b"])
    shape = [int(size) for size in node["s"]]
    if len(raw) != math.prod(shape) * np.dtype(node["k"]).itemsize:
        raise DamagedEntryError("an array has the wrong size")
    return np.frombuffer(bytearray(raw), node["k"]).reshape(shape) if raw else np.empty(shape, node["k"])


def _tensor(node: dict[str, Any], fetch: Fetch) -> torch.Tensor:
    numbers = _numbers(node, fetch)
    tensor = torch.from_numpy(numbers) if isinstance(numbers, np.ndarray) else numbers
    return tensor.view(_torch_dtype(node["d"])) if "d" in node else tensor


def _meta(node: dict[str, Any], fetch: Fetch) -> MetaTensor:
    state = _decode(node["m"], fetch)
    if not state.keys() <= _META:
        raise DamagedEntryError("a MetaTensor has unknown attributes")
    tensor: MetaTensor = _tensor(node, fetch).as_subclass(MetaTensor)  # type: ignore[arg-type]
    tensor.__dict__.update(state)
    return tensor


def _torch_dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name.removeprefix("torch."))
    if not isinstance(dtype, torch.dtype):
        raise DamagedEntryError("a tensor is of an unknown type")
    return dtype


def _enum(node: dict[str, Any], fetch: Fetch) -> Enum:
    kind = getattr(monai_enums, node["v"][0])
    if not (isinstance(kind, type) and issubclass(kind, Enum)):
        raise DamagedEntryError("a constant is unknown")
    return kind[node["v"][1]]


_BUILDERS: dict[str, Callable[[dict[str, Any], Fetch], Any]] = {
    "dict": lambda node, fetch: {_decode(key, fetch): _decode(each, fetch) for key, each in node["v"]},
    "tuple": lambda node, fetch: tuple(_decode(each, fetch) for each in node["v"]),
    "size": lambda node, fetch: torch.Size(node["v"]),
    "array": _numbers,
    "scalar": lambda node, fetch: _numbers(node, fetch)[()],
    "tensor": _tensor,
    "meta": _meta,
    "enum": _enum,
    "slice": lambda node, fetch: slice(*node["v"]),
    "path": lambda node, fetch: Path(node["v"]),
    "bytes": lambda node, fetch: binascii.unhexlify(node["v"]),
    "dtype": lambda node, fetch: _torch_dtype(node["v"]),
}
