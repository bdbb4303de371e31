"""Which number format a device computes fast in."""

from __future__ import annotations

import torch

from medresnet3d.errors import ConfigError

PRECISIONS = ("auto", "fp32", "bf16", "fp16")


def cpu_has_bf16() -> bool:
    """Return whether this CPU multiplies bf16 numbers in hardware (AVX512_BF16 or AMX)."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not torch.backends.mkldnn.is_available():
        return False
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def check_name(name: str) -> None:
    """Refuse a number format that is not in :data:`PRECISIONS`.

    Raises:
        ConfigError: for another name.
    """
    if name not in PRECISIONS:
        raise ConfigError(f'precision is "{name}"; use one of {", ".join(PRECISIONS)}.')


def check_precision(name: str, device: torch.device) -> None:
    """Refuse a number format that does not exist or that ``device`` lacks.

    Raises:
        ConfigError: for a name that is not in :data:`PRECISIONS`, and for fp16 on anything but CUDA.
    """
    check_name(name)
    if name == "fp16" and device.type != "cuda":
        raise ConfigError('precision "fp16" needs a CUDA device; use auto, bf16 or fp32.')
