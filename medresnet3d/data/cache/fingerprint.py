"""One number for all that a chain of transforms does: every parameter, every constant, every line of code."""

from __future__ import annotations

import functools
import hashlib
import logging
import struct
import sys
import threading
import types
from collections.abc import Callable, Mapping
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import TraceableTransform

import medresnet3d
from medresnet3d.errors import ConfigError

FORMAT = 1
"""Raised whenever entries are written in another form, or keys are computed in another way."""
VERSIONED = ("monai", "torch", "numpy", "scipy", "skimage", "SimpleITK", "nibabel", "itk", "pydicom", "sklearn", "PIL")
"""Packages whose code is known by their versions."""
_OWN_SOURCES = ("transforms", "io", "data/cache")


def fingerprint(value: Any) -> str:
    """Return a SHA-256, in hexadecimal, of a value and everything in it.

    Containers are entered, arrays and tensors count by type, shape and content, objects by class and attributes,
    functions and classes by name and code: their own constants, closures, defaults, and the functions, classes and
    values of their module that they refer to, however deep. Code of packages that have a version, and of the standard
    library, counts by its name; :func:`environment` has the versions.

    Args:
        value: anything; the attributes of an object may be anything again.

    Raises:
        ConfigError: if some part cannot be told from another of its kind (an open file, a generator, an object of a
            compiled class without attributes). Such a class may have a method ``cache_key()`` that returns a value
            that can.
    """
    feed = _Feed()
    feed(value, "value")
    return feed.digest.hexdigest()


def environment() -> dict[str, str]:
    """Return what counts besides the transforms: versions, and the code of this package's own transforms."""
    found = {"format": str(FORMAT), "python": ".".join(map(str, sys.version_info[:2]))}
    for name in ("monai", "torch", "numpy", "medresnet3d", "scipy", "scikit-image", "SimpleITK", "nibabel"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    found["medresnet3d"] = medresnet3d.__version__
    return {**found, "sources": _own_code()}


@functools.cache
def _own_code() -> str:
    """Digest of the sources of what prepares data in this package, since a checkout changes between versions."""
    digest = hashlib.sha256()
    root = Path(medresnet3d.__file__).parent
    for folder in _OWN_SOURCES:
        for file in sorted((root / folder).rglob("*.py")):
            digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _is_versioned(module: str) -> bool:
    top = module.partition(".")[0]
    return top in (*VERSIONED, "medresnet3d") or (top in sys.stdlib_module_names and top != "__main__")


class _Feed:
    """Writes values into a digest so that different ones never give the same bytes."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        # what is one object in every process, and so may count once; other values may be shared in one process and
        # copied in another
        self._seen: dict[int, int] = {}
        self._kept: list[Any] = []  # so that no number of `_seen` is given to another object
        self._open: list[int] = []

    def __call__(self, value: Any, where: str) -> None:
        writer = _PLAIN.get(type(value))
        if writer is not None:
            self._tag(type(value).__name__, writer(value))
            return
        if isinstance(value, (type, types.FunctionType, types.ModuleType)):
            if id(value) in self._seen:
                self._tag("again", self._seen[id(value)].to_bytes(8, "little"))
                return
            self._seen[id(value)] = len(self._seen)
            self._kept.append(value)
            self._write(value, where)
        elif id(value) in self._open:
            self._tag("inside", self._open.index(id(value)).to_bytes(8, "little"))
        else:
            self._open.append(id(value))
            self._write(value, where)
            self._open.pop()

    def _write(self, value: Any, where: str) -> None:
        exact = _CONTAINERS.get(type(value))
        if exact is not None:
            exact(self, value, where)
            return
        for kinds, method in _WRITERS:
            if isinstance(value, kinds):
                method(self, value, where)
                return
        self._object(value, where)

    def _tag(self, kind: str, content: bytes = b"") -> None:
        self.digest.update(struct.pack("<II", len(kind), len(content)) + kind.encode() + content)

    def _named(self, kind: str, value: Any) -> None:
        self._tag(kind, f"{value.__module__}.{value.__qualname__}".encode())

    def _sequence(self, value: Any, where: str) -> None:
        self._tag(type(value).__name__, len(value).to_bytes(8, "little"))
        for i, each in enumerate(value):
            self(each, f"{where}[{i}]")

    def _mapping(self, value: Mapping[Any, Any], where: str) -> None:
        self._tag(type(value).__name__, len(value).to_bytes(8, "little"))
        for key, each in value.items():
            self(key, where)
            self(each, f"{where}[{key!r}]")

    def _set(self, value: Any, where: str) -> None:
        self._tag(type(value).__name__)
        self._sequence(sorted(fingerprint(each) for each in value), where)

    def _array(self, value: Any, where: str) -> None:
        array = np.asarray(value)
        if array.dtype.hasobject:
            self._sequence(array.reshape(-1).tolist(), where)
            return
        self._tag(type(value).__name__, f"{array.dtype.str}{array.shape}".encode())
        self.digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)

    def _tensor(self, value: torch.Tensor, where: str) -> None:
        plain = value.detach().as_subclass(torch.Tensor).cpu()
        self._tag(type(value).__name__, f"{plain.dtype}{tuple(plain.shape)}".encode())
        self.digest.update(plain.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        if type(value) is not torch.Tensor:
            self(dict(vars(value)), f"{where}.meta")

    def _partial(self, value: functools.partial[Any], where: str) -> None:
        self._tag("partial")
        self([value.func, value.args, value.keywords], where)

    def _bound(self, value: types.MethodType, where: str) -> None:
        self._tag("method")
        self(value.__func__, where)
        self(value.__self__, f"{where}.__self__")

    def _enum(self, value: Enum, where: str) -> None:
        self._named("enum", type(value))
        self(value.name, where)

    def _module(self, value: types.ModuleType, where: str) -> None:
        self._tag("module", f"{value.__name__} {getattr(value, '__version__', '')}".encode())

    def _logger(self, value: logging.Logger, where: str) -> None:
        self._tag("logger")  # it says something and changes nothing

    def _random(self, value: np.random.RandomState, where: str) -> None:
        self._tag("RandomState")  # nothing that is cached draws from it

    def _function(self, value: types.FunctionType, where: str) -> None:
        self._named("function", value)
        if _is_versioned(value.__module__ or ""):
            return
        self([value.__defaults__, value.__kwdefaults__], where)
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            self(cell.cell_contents, f"{where}.{name}")
        self._code(value.__code__, value.__globals__, where)

    def _code(self, code: types.CodeType, scope: Mapping[str, Any], where: str) -> None:
        self._tag("code", code.co_code)
        self([code.co_names, code.co_varnames, code.co_freevars], where)
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self._code(constant, scope, where)
            else:
                self(constant, where)
        for name in code.co_names:
            if name in scope:
                self(name, where)
                self(scope[name], f"{where}.{name}")

    def _builtin(self, value: Any, where: str) -> None:
        self._tag("builtin", f"{getattr(value, '__module__', '')}.{value.__qualname__}".encode())
        owner = getattr(value, "__self__", None)
        if owner is not None and not isinstance(owner, types.ModuleType):
            self(owner, f"{where}.__self__")

    def _class(self, value: type, where: str) -> None:
        self._named("class", value)
        if _is_versioned(value.__module__):
            return
        for base in value.__bases__:
            self(base, where)
        for name, each in sorted(vars(value).items()):
            if isinstance(each, (staticmethod, classmethod)):
                each = each.__func__
            elif isinstance(each, property):
                each = [each.fget, each.fset]
            skipped = name in _CLASS_NOISE or isinstance(each, (types.GetSetDescriptorType, types.MemberDescriptorType))
            if not skipped:
                self(name, where)
                self(each, f"{where}.{name}")

    def _object(self, value: Any, where: str) -> None:
        kind = type(value)
        key: Callable[[], Any] | None = getattr(value, "cache_key", None)
        state = key() if callable(key) else _state(value)
        if state is None:
            raise ConfigError(
                f"A cache cannot tell one {kind.__module__}.{kind.__qualname__} ({where}) from another; give its class "
                "a method `cache_key()` that returns numbers or texts, or choose another cache than disk."
            )
        self._tag("object")
        self(kind, where)
        if isinstance(value, TraceableTransform):
            self(["tracing", value.tracing], where)
        for name, each in sorted(state.items()) if isinstance(state, dict) else [("cache_key", state)]:
            if not isinstance(each, threading.local):  # MONAI keeps `tracing` in one, from the first call on
                self(name, where)
                self(each, f"{where}.{name}")


_CLASS_NOISE = {
    *("__doc__", "__module__", "__qualname__", "__dict__", "__weakref__", "__annotations__", "__annotate_func__"),
    *("__annotations_cache__", "__abstractmethods__", "_abc_impl", "__firstlineno__", "__static_attributes__"),
    *("__parameters__", "__orig_bases__"),
}
_PLAIN: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda value: b"",
    type(Ellipsis): lambda value: b"",
    bool: lambda value: bytes([value]),
    int: lambda value: str(value).encode(),
    float: lambda value: struct.pack("<d", value),
    complex: lambda value: struct.pack("<dd", value.real, value.imag),
    str: lambda value: value.encode(errors="surrogatepass"),
    bytes: bytes,
    slice: lambda value: repr(value).encode(),
    range: lambda value: repr(value).encode(),
    torch.dtype: lambda value: str(value).encode(),
    torch.device: lambda value: str(value).encode(),
}
_CONTAINERS: dict[type, Callable[[_Feed, Any, str], None]] = {
    list: _Feed._sequence,
    tuple: _Feed._sequence,
    torch.Size: _Feed._sequence,
    dict: _Feed._mapping,
    types.MappingProxyType: _Feed._mapping,
}
_WRITERS: list[tuple[Any, Callable[[_Feed, Any, str], None]]] = [
    (Enum, _Feed._enum),
    (type, _Feed._class),
    (types.ModuleType, _Feed._module),
    (types.FunctionType, _Feed._function),
    (types.MethodType, _Feed._bound),
    (functools.partial, _Feed._partial),
    ((types.BuiltinFunctionType, np.ufunc, types.MethodDescriptorType, types.WrapperDescriptorType), _Feed._builtin),
    (torch.Tensor, _Feed._tensor),
    ((np.ndarray, np.generic), _Feed._array),
    (np.random.RandomState, _Feed._random),
    (logging.Logger, _Feed._logger),
    ((set, frozenset), _Feed._set),
    (types.CodeType, lambda feed, value, where: feed._code(value, {}, where)),
]


def _state(value: Any) -> dict[str, Any] | None:
    """The attributes of an object; ``None`` for one whose content cannot be seen."""
    if isinstance(value, Path):
        return {"path": str(value)}
    if isinstance(value, np.dtype):
        return {"dtype": value.str}
    state: dict[str, Any] = {}
    if isinstance(value, (list, tuple)):
        state["items"] = list(value)
    elif isinstance(value, Mapping):
        state["items"] = [[key, each] for key, each in value.items()]
    elif isinstance(value, (str, bytes, int, float)):
        state["plain"] = repr(value)
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name) and name not in ("__dict__", "__weakref__"):
                state[name] = getattr(value, name)
    if hasattr(value, "__dict__"):
        return {**state, **vars(value)}
    visible = state or any("__slots__" in vars(kind) for kind in type(value).__mro__[:-1])
    return state if visible else None
