"""What a network computes, as the list of torch functions that one forward pass calls, without computing it.

The pass runs on torch's meta device: shapes only, no memory, no arithmetic. Control flow that depends on voxel values
cannot be followed; such a network is refused.
"""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from medresnet3d.errors import ConfigError

Key = tuple[int, int]
"""A tensor's value: which tensor, and how many times it has been changed in place."""


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """All tensors in nested tuples, lists and mappings."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from tensors_in(part)
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors_in(part)


def plain(value: Any) -> Any:
    """The same with every tensor as plain :class:`torch.Tensor`, without MONAI's metadata."""
    if isinstance(value, torch.Tensor):
        return value.as_subclass(torch.Tensor) if type(value) is not torch.Tensor else value  # type: ignore[arg-type]
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(plain(part) for part in value))
    if isinstance(value, (tuple, list)):
        return type(value)(plain(part) for part in value)
    return value


@dataclass
class Call:
    """One call of a torch function that gave tensors.

    Attributes:
        function: name, e.g. ``conv3d``.
        module: dotted name of the module it was called in; empty for the network itself.
        args: positional arguments.
        kwargs: keyword arguments.
        outputs: the tensors that it gave.
        reads: keys of the tensors that it was given.
        writes: keys of ``outputs``.
    """

    function: str
    module: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: list[torch.Tensor]
    reads: list[Key]
    writes: list[Key]


@dataclass
class Trace:
    """The calls of one forward pass.

    Attributes:
        input: key of the input.
        shape: shape of the input (B, C, ...).
        calls: in the order of execution.
        outputs: keys of the tensors that the network returned.
        output_tensors: these tensors, on the meta device.
        state: keys of the network's parameters and buffers.
        kept: every tensor that a key names; while they live, no other tensor can get the same key.
    """

    input: Key
    shape: tuple[int, ...]
    calls: list[Call]
    outputs: list[Key] = field(default_factory=list)
    output_tensors: list[torch.Tensor] = field(default_factory=list)
    state: set[Key] = field(default_factory=set)
    kept: list[torch.Tensor] = field(default_factory=list, repr=False)

    def readers(self) -> Counter[Key]:
        """How many times each tensor is read; being returned counts as once."""
        count = Counter(key for call in self.calls for key in call.reads)
        count.update(self.outputs)
        return count


class _Recorder(TorchFunctionMode):
    """Keep every call that gives tensors, and the tensors themselves, so that their identities stay unique."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.stack: list[str] = [""]
        self.versions: dict[int, int] = {}
        self.kept: list[torch.Tensor] = []

    def key(self, tensor: torch.Tensor) -> Key:
        return id(tensor), self.versions.get(id(tensor), 0)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call ``func`` and note it."""
        kwargs = kwargs or {}
        given = list(tensors_in((args, kwargs)))
        reads = [self.key(tensor) for tensor in given]
        result = func(*args, **kwargs)
        outputs = list(tensors_in(result))
        if not outputs or getattr(func, "__name__", "") == "__get__":
            return result
        self.kept += given + outputs
        for tensor in outputs:
            if any(tensor is other for other in given):
                self.versions[id(tensor)] = self.versions.get(id(tensor), 0) + 1
        name = getattr(func, "__name__", repr(func))
        self.calls.append(
            Call(name, self.stack[-1], args, kwargs, outputs, reads, [self.key(tensor) for tensor in outputs])
        )
        return result


def trace(network: nn.Module, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Trace:
    """Record what ``network`` calls for an input of ``shape``; the network itself stays as it is.

    Args:
        network: any module; it is traced in eval mode.
        shape: of the input (B, C, ...).
        dtype: number format of the input.

    Raises:
        ConfigError: if the network cannot run on shapes alone, with the reason.
    """
    recorder = _Recorder()
    try:
        shadow = copy.deepcopy(network).to("meta").eval()
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise ConfigError(f"{type(network).__name__} cannot be copied: {_first_line(error)}") from error
    for name, module in shadow.named_modules():
        module.register_forward_pre_hook(lambda _module, _args, name=name: recorder.stack.append(name))
        module.register_forward_hook(lambda _module, _args, _output: _pop(recorder.stack))
    image = torch.empty(shape, dtype=dtype, device="meta")
    record = Trace(recorder.key(image), tuple(shape), recorder.calls)
    record.state = {(id(tensor), 0) for tensor in [*shadow.parameters(), *shadow.buffers()]}
    recorder.kept += [image, *shadow.parameters(), *shadow.buffers()]
    try:
        with warnings.catch_warnings(), torch.no_grad(), recorder:
            warnings.simplefilter("ignore")
            result = shadow(image)
    except Exception as error:  # whatever somebody else's forward raises is the reason
        raise ConfigError(f"{type(network).__name__} cannot be followed: {_first_line(error)}") from error
    record.output_tensors = list(tensors_in(result))
    record.outputs = [recorder.key(tensor) for tensor in record.output_tensors]
    recorder.kept += record.output_tensors
    record.kept = recorder.kept
    return record


def _pop(stack: list[str]) -> None:
    stack.pop()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
