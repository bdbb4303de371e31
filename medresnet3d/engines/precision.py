"""Mixed precision, and a guard against wrong gradients in oneDNN's convolutions.

On CPUs with AVX512_BF16 but without AMX, torch 2.13 and 2.15 compute the bf16 weight gradient of a padded 3D
convolution wrongly (NaN, infinity, plain wrong numbers; now and then the process crashes) when the input is less deep
than the kernel and the output is deeper than 1: kernel 3 at depth 2, kernel 5 at depths 2 to 4. The first spatial
axis counts, not the others; the output and the input's gradient are right; 1D and 2D, grouped and dilated
convolutions are not affected. Transposed convolutions are, with the roles of input and output exchanged.
:class:`SafeConvolutions` computes those layers in fp32; :func:`self_test` says whether the torch at hand has the
fault.

In fp32, torch 2.13 computes the weight gradient of a padded 3D convolution wrongly (it reads memory that was never
written, and crashes now and then) with large kernels, strides and shallow inputs: kernel 7 and stride 2 at depths 5 to
7, kernel 11 and stride 3 at depths 7 to 10. Where the kernel is larger than 5, the stride above 1 and the input less
deep than twice the kernel, :class:`SafeConvolutions` pads the image itself, with which the gradient is right.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from medresnet3d.networks.number_formats import check_name, check_precision, cpu_has_bf16

_CONVOLUTIONS = {torch.conv3d, F.conv3d}
_TRANSPOSED = {torch.conv_transpose3d, F.conv_transpose3d}
_PROBE = "import sys; from medresnet3d.engines.precision import weight_gradient_error; print(weight_gradient_error())"


class SafeConvolutions(TorchFunctionMode):
    """While active, compute 3D convolutions on the CPU whose gradient may be wrong another way (see the module)."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call ``func``, where its weight gradient may be wrong in fp32 or on an image that is padded before."""
        kwargs = kwargs or {}
        if func in _CONVOLUTIONS or func in _TRANSPOSED:
            return self._convolve(func, *args, **kwargs)
        return func(*args, **kwargs)

    def _convolve(
        self,
        func: Callable[..., Any],
        input: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        stride: int | tuple[int, ...] = 1,
        padding: str | int | tuple[int, ...] = 0,
        *args: Any,
        **kwargs: Any,
    ) -> torch.Tensor:
        if input.device.type != "cpu":
            return func(input, weight, bias, stride, padding, *args, **kwargs)
        if func in _CONVOLUTIONS and _is_coarse(input, weight, stride):
            input, padding = _padded(input, padding)
        low = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else input.dtype
        if low != torch.bfloat16 or not _is_shallow(func, input.shape[2], weight.shape[2], stride):
            return func(input, weight, bias, stride, padding, *args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            bias = None if bias is None else bias.float()
            return func(input.float(), weight.float(), bias, stride, padding, *args, **kwargs).to(low)


def _is_coarse(input: torch.Tensor, weight: torch.Tensor, stride: int | tuple[int, ...]) -> bool:
    """Say whether kernel and stride are large and the input is shallow."""
    kernel = max(weight.shape[2:])
    steps = (stride,) if isinstance(stride, int) else stride
    return kernel > 5 and max(steps) > 1 and min(input.shape[2:]) < 2 * kernel


def _padded(
    input: torch.Tensor, padding: str | int | tuple[int, ...]
) -> tuple[torch.Tensor, str | int | tuple[int, ...]]:
    """Pad the image with zeros, and give the padding that is left to do."""
    if isinstance(padding, str):  # "valid", since "same" goes with a stride of 1 only
        return input, padding
    sides = (padding,) * 3 if isinstance(padding, int) else padding
    return F.pad(input, [side for axis in reversed(sides) for side in (axis, axis)]), 0


def _is_shallow(func: Callable[..., Any], depth: int, kernel: int, stride: int | tuple[int, ...]) -> bool:
    """Say whether the deeper side (the input; a transposed convolution's output) is less deep than the kernel."""
    if func in _CONVOLUTIONS:
        return depth < kernel
    # A transposed one's output is (depth - 1) * stride + kernel - 2 * padding deep, with 2 * padding < kernel.
    return (depth - 1) * (stride if isinstance(stride, int) else stride[0]) < kernel


def weight_gradient_error(guard: bool = False, depth: int = 2, kernel: int = 3) -> float:
    """Return the relative error of the bf16 weight gradient of a small padded 3D convolution on the CPU.

    Args:
        guard: compute it under :class:`SafeConvolutions`.
        depth: size of the input's first spatial axis; the others are 4.
        kernel: kernel size in all axes.

    Returns:
        ``|g - g32| / |g32|``: about 0.003 when it is right; infinity when it is not finite.
    """
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, 16, depth, 4, 4, generator=generator)
    weight = torch.randn(16, 16, kernel, kernel, kernel, generator=generator)
    gradients: list[torch.Tensor] = []
    for precision in (Precision("fp32"), Precision("bf16", guard=guard)):
        w = weight.clone().requires_grad_()
        with precision.active(torch.device("cpu")):
            output = F.conv3d(image, w, padding=kernel // 2)
        gradients += torch.autograd.grad(output.float().square().mean(), w)
    exact, low = gradients
    error = float((low - exact).norm() / exact.norm())
    return float("inf") if math.isnan(error) else error


@dataclass(frozen=True)
class SelfTest:
    """What :func:`self_test` found.

    Attributes:
        torch: version of torch.
        fast_bf16: whether this CPU computes bf16 in hardware.
        affected: whether this torch's bf16 weight gradient is wrong for a shallow 3D convolution on this CPU.
        guarded: whether the gradient is right under :class:`SafeConvolutions`.
    """

    torch: str
    fast_bf16: bool
    affected: bool
    guarded: bool


def self_test() -> SelfTest:
    """Try the case that :class:`SafeConvolutions` guards against: without it (in another process) and with it."""
    process = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, check=False)
    affected = process.returncode != 0 or float(process.stdout) > 0.05
    guarded = weight_gradient_error(guard=True) < 0.05
    return SelfTest(torch=str(torch.__version__), fast_bf16=cpu_has_bf16(), affected=affected, guarded=guarded)


class Precision:
    """The number format of a network's computations.

    Args:
        name: ``"fp32"``; ``"bf16"``; ``"fp16"`` (CUDA only, with loss scaling); ``"auto"``: bf16 where the device is
            fast at it, else fp32.
        guard: compute another way what is known to be wrong on the CPU (:class:`SafeConvolutions`).

    Raises:
        ConfigError: if there is no such format.
    """

    def __init__(self, name: str = "auto", guard: bool = True) -> None:
        check_name(name)
        self.name = name
        self.guard = guard

    def resolve(self, device: torch.device) -> str:
        """Return ``fp32``, ``bf16`` or ``fp16`` for that device.

        Raises:
            ConfigError: for fp16 on a CPU.
        """
        check_precision(self.name, device)
        if self.name != "auto":
            return self.name
        fast = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else cpu_has_bf16()
        return "bf16" if fast else "fp32"

    @contextmanager
    def active(self, device: torch.device) -> Iterator[None]:
        """Compute in this format inside the block."""
        name = self.resolve(device)
        guard = SafeConvolutions() if device.type == "cpu" and self.guard else nullcontext()
        low = torch.bfloat16 if name == "bf16" else torch.float16
        with torch.autocast(device.type, dtype=low, enabled=name != "fp32"), guard:
            yield
