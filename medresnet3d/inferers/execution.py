"""A network made ready to run fast: low-precision weights, channels last, normalisation folded into convolutions.

The network itself stays as it is; what runs is a copy in eval mode. On a CPU with bf16 instructions the copy holds bf16
weights and takes bf16 input, which saves autocast's conversions at every layer; kernels are rounded with error
diffusion, and batch and instance normalisation keep their statistics in fp32.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.inferers.axis_order import reorder_axes
from medresnet3d.inferers.fast_layers import NarrowConvolution, SubpixelDeconvolution, use_fast_layers
from medresnet3d.inferers.folding import fold as fold_network
from medresnet3d.inferers.fused_layers import SummedConvolution
from medresnet3d.inferers.memory_formats import FORMATS, channels_last
from medresnet3d.inferers.rounding import round_kernel
from medresnet3d.inferers.split_input import split, split_layers
from medresnet3d.inferers.tracing import plain, tensors_in
from medresnet3d.networks.number_formats import check_precision, cpu_has_bf16

BACKENDS = ("torch", "openvino")
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_CONVOLUTIONS = nn.modules.conv._ConvNd
_TRANSPOSED = nn.modules.conv._ConvTransposeNd
_STATISTICS = (nn.modules.batchnorm._NormBase,)


@dataclass(frozen=True)
class Agreement:
    """How close a prepared network's answer is to that of the network as given, in fp32.

    Attributes:
        labels: share of voxels (or cases) with the same label: the largest channel, or the sign of a single one.
        largest_difference: largest absolute difference of the output.
    """

    labels: float
    largest_difference: float


class PreparedNetwork:
    """What :func:`prepare` gives: call it with a batch.

    The copy is settled at the first call, which tells the input's shape; should the fastest form fail for this network
    (a forward pass that makes fp32 tensors, or that needs contiguous ones), the next simpler one is taken.

    Attributes:
        device: where it computes.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        backend: ``torch`` or ``openvino``.
        memory_format: ``channels_last`` or ``contiguous``.
        description: one line, e.g. ``bf16, channels last, 7 of 16 batch normalisations folded``.
        fallbacks: what could not be done for this network, with the reason; known after the first call.
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device,
        precision: str,
        fold: bool,
        backend: str,
        order: Sequence[int] | None = None,
    ) -> None:
        self.device = device
        self.precision = precision
        self.backend = backend
        self.memory_format = "channels_last"
        self.description = precision
        self.fallbacks: list[str] = []
        self._fold = fold
        self._notes: list[str] | None = None
        self._first: tuple[str, ...] = ()
        self._original = weakref.ref(network)
        self._copy: nn.Module | None = _own_copy(network).to(device)
        if order is not None:
            reorder_axes(self._copy, order)
        self._run: Callable[..., Any] | None = None

    def __call__(self, batch: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Run the network on a batch (B, C, ...) of any number type.

        Args:
            batch: the input, on any device.
            args: further arguments of the network, given as they are.
            kwargs: further arguments of the network, given as they are.

        Returns:
            The network's output in its own structure, on :attr:`device`, as plain tensors in :attr:`precision`, or
            in fp32 where they are sums.
        """
        batch = plain(batch)
        with torch.no_grad():
            if self._run is None:
                return self._settle(batch, args, kwargs)
            return plain(self._run(batch, *args, **kwargs))

    def agreement(self, example: torch.Tensor) -> Agreement:
        """Compare with the network as given, in fp32, on an example (B, C, ...).

        Raises:
            ConfigError: if that network no longer exists.
        """
        original = self._original()
        if original is None:
            raise ConfigError("the network that was prepared no longer exists; keep a reference to compare with it.")
        network = _own_copy(original).to(self.device)
        with torch.no_grad():
            exact = next(tensors_in(network(plain(example).to(self.device, torch.float32)))).float()
        fast = next(tensors_in(self(example))).float()
        same = (fast > 0) == (exact > 0) if exact.shape[1] == 1 else fast.argmax(1) == exact.argmax(1)
        return Agreement(float(same.double().mean()), float((fast - exact).abs().max()))

    def _settle(self, batch: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run for the first time, in the fastest form that works, and keep that."""
        base = self._copy
        assert base is not None  # only the first call comes here
        if self._notes is None:
            self._notes = self._folded(base, batch)
        forms = list(_forms(self.precision, self.backend, self._first))
        failed: list[str] = []  # of this call: after too little memory there is another
        for number, form in enumerate(forms, 1):
            run = form.build(base if number == len(forms) else copy.deepcopy(base), self.device, self.precision)
            try:
                result = plain(run(batch, *args, **kwargs))
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, TypeError, NotImplementedError) as error:
                if number == len(forms):
                    raise
                failed.append(f"the network does not run in {form.words.format(self.precision)}: {_reason(error)}")
                continue
            self._run, self._copy, self.memory_format = run, None, form.memory_format
            self.description = ", ".join([form.words.format(self.precision), *self._notes])
            self.fallbacks += failed
            return result
        raise AssertionError("the last form either runs or raises")

    def _folded(self, network: nn.Module, batch: torch.Tensor) -> list[str]:
        if not self._fold:
            return []
        try:
            done = fold_network(network, tuple(batch.shape))
        except ConfigError as error:
            norms = sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
            if not norms:
                return []
            self.fallbacks.append(f"batch normalisations were not folded: {_reason(error)}")
            return [f"0 of {norms} batch normalisations folded"]
        self._first = done.first
        count = done.norms + done.norms_left
        return [f"{done.norms} of {count} batch normalisations folded"] if count else []


def _reason(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@dataclass(frozen=True)
class _Form:
    """One way to run a network."""

    words: str
    memory_format: str
    build: Callable[[nn.Module, torch.device, str], Callable[..., Any]]


def _forms(precision: str, backend: str, first: tuple[str, ...]) -> Iterator[_Form]:
    """Ways to run a network, the fastest first; ``first`` names the convolutions that alone read the image."""
    if backend == "openvino":
        from medresnet3d.inferers.openvino_backend import OpenVinoRunner

        yield _Form("OpenVINO {}", "contiguous", lambda network, _device, name: OpenVinoRunner(network, name))
        return
    yield _Form("{}, channels last", "channels_last", partial(_cast_runner, last=True, first=first))
    if precision == "fp32":
        yield _Form("{}", "contiguous", partial(_cast_runner, last=False))
    else:
        yield _Form("{} by autocast", "contiguous", _autocast_runner)


def _cast_runner(
    network: nn.Module, device: torch.device, precision: str, last: bool, first: tuple[str, ...] = ()
) -> Callable[..., Any]:
    """Weights and input in the number format, channels last where asked for; in bf16 the first layer is not rounded."""
    dtype = _DTYPES[precision]
    halved = bool(first) and precision == "bf16"
    if halved:
        split_layers(network, first, dtype)
    if last and device.type == "cpu" and precision == "bf16":
        use_fast_layers(network)
    _cast(network, dtype, last)

    def run(batch: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        batch = split(batch.to(device), dtype) if halved else batch.to(device, dtype, non_blocking=True)
        if last and batch.dim() in FORMATS:
            batch = channels_last(batch)
        return network(batch, *args, **kwargs)

    return run


def _autocast_runner(network: nn.Module, device: torch.device, precision: str) -> Callable[..., Any]:
    """Weights in fp32, each layer in the number format that autocast chooses."""

    def run(batch: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        with torch.autocast(device.type, dtype=_DTYPES[precision]):
            return network(batch.to(device, torch.float32), *args, **kwargs)

    return run


def _cast(network: nn.Module, dtype: torch.dtype, last: bool) -> None:
    """Cast floating-point parameters and buffers, but statistics and wide sums; kernels channels last."""
    wide: set[nn.Module] = set()
    for module in network.modules():
        if isinstance(module, (SummedConvolution, NarrowConvolution)) and module.wide:
            wide.add(module.layer if isinstance(module, SummedConvolution) else module)
    for module in network.modules():
        kernel = _kernel(module)
        if module in wide:
            kernel.data = channels_last(kernel.data)  # type: ignore[union-attr]
            continue
        if kernel is not None and dtype != torch.float32:
            phases = module.stride if isinstance(module, _TRANSPOSED) else None
            kernel.data = round_kernel(kernel.data, dtype, phases)  # type: ignore[arg-type]
        for tensor in [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
            if tensor.dtype == torch.float32 and not isinstance(module, _STATISTICS):
                tensor.data = tensor.data.to(dtype)
        if last and kernel is not None:
            kernel.data = channels_last(kernel.data)


def _kernel(module: nn.Module) -> torch.Tensor | None:
    """The weight (C, C', ...) of a 2D or 3D convolution in fp32."""
    if not isinstance(module, (_CONVOLUTIONS, NarrowConvolution, SubpixelDeconvolution)):
        return None
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    return weight if weight.dim() in FORMATS and weight.dtype == torch.float32 else None


def _own_copy(network: nn.Module) -> nn.Module:
    """A copy in eval mode that needs no gradient.

    Raises:
        ConfigError: if the network cannot be copied.
    """
    try:
        return copy.deepcopy(network).eval().requires_grad_(False)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f'{type(network).__name__} cannot be copied ({error}); use strategy "exact".') from error


_Fingerprint = tuple[Any, ...]
_prepared: weakref.WeakKeyDictionary[nn.Module, dict[Any, tuple[_Fingerprint, PreparedNetwork]]]
_prepared = weakref.WeakKeyDictionary()


def _fingerprint(network: nn.Module) -> _Fingerprint:
    """Changes when a parameter or buffer does, by way of ``.data`` too."""
    tensors = [*network.parameters(), *network.buffers()]
    versions = tuple((id(t), -1 if t.is_inference() else t._version) for t in tensors)
    with torch.no_grad():
        sums = torch.stack([t.detach().double().sum().cpu() for t in tensors]).tolist() if tensors else []
    return versions, tuple(sums)


def resolve_precision(precision: str, device: torch.device) -> str:
    """Choose the number format for ``auto``: bf16 where a CPU has it in hardware, fp16 on CUDA, else fp32.

    Raises:
        ConfigError: for an unknown name, and for fp16 on a CPU.
    """
    check_precision(precision, device)
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "fp16"
    return "bf16" if device.type == "cpu" and cpu_has_bf16() else "fp32"


def prepare(
    network: nn.Module,
    *,
    device: torch.device | str,
    precision: str = "auto",
    fold: bool = True,
    backend: str = "torch",
    example: torch.Tensor | None = None,
    order: Sequence[int] | None = None,
) -> PreparedNetwork:
    """Make a fast copy of a network for inference; the network itself stays as it is.

    The copy is kept as long as the network lives, so that calling this again costs nothing until the weights change.

    Args:
        network: any module; it may be in training mode, the copy is in eval mode.
        device: where to compute.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16`` (CUDA only); see :func:`resolve_precision`.
        fold: rewrite the copy: see :func:`~medresnet3d.inferers.folding.fold`.
        backend: ``torch``, or ``openvino`` (CPU only; the extra ``medresnet3d[openvino]``).
        example: an input to settle the copy with at once; ``None``: the first call does.
        order: in which the spatial axes of what the copy is given come; ``None``: as the network has them. See
            :func:`~medresnet3d.inferers.axis_order.reorder_axes`.

    Raises:
        ConfigError: for an unknown precision or backend, fp16 on a CPU, OpenVINO on another device or not installed, a
            network that cannot be copied.
    """
    device = torch.device(device)
    precision = resolve_precision(precision, device)
    if backend not in BACKENDS:
        raise ConfigError(f'backend is "{backend}"; use one of {", ".join(BACKENDS)}.')
    if backend == "openvino":
        from medresnet3d.inferers.openvino_backend import check_openvino

        check_openvino(device)
    choice = (str(device), precision, fold, backend, None if order is None else tuple(order))
    fingerprint = _fingerprint(network)
    kept = _prepared.setdefault(network, {})
    if choice not in kept or kept[choice][0] != fingerprint:
        kept[choice] = (fingerprint, PreparedNetwork(network, device, precision, fold, backend, order))
    prepared = kept[choice][1]
    if example is not None:
        prepared(example)
    return prepared
