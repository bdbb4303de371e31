"""Read a file of weights as plain tensors; nothing else in it is ever loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medresnet3d.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

_STATE_KEYS = ("model", "network", "state_dict")


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Names and tensors of a state dict, on the CPU. Half precision becomes float32.

    Args:
        file: what ``torch.save`` wrote (read with ``weights_only=True``) or ``.safetensors``; a checkpoint that holds
            the state dict under the name ``model``, ``network`` or ``state_dict`` is taken too.

    Raises:
        WeightsError: if the file is unreadable or holds anything but plain tensors.
    """
    content = _read_safetensors(file) if file.suffix == ".safetensors" else _read_torch(file)
    return {name: _to_float32(tensor) for name, tensor in _tensors(content, file).items()}


def _read_torch(file: Path) -> Any:
    import pickle

    import torch

    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, OSError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{file}: not a state dict of plain tensors ({reason}); it was not loaded.") from error


def _read_safetensors(file: Path) -> Any:
    try:
        import safetensors
        import safetensors.torch
    except ImportError as error:
        raise WeightsError(
            f"{file}: reading this needs safetensors: pip install 'medresnet3d[safetensors]'."
        ) from error
    try:
        return safetensors.torch.load_file(file)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{file}: not a readable safetensors file ({error}); it was not loaded.") from error


def _tensors(content: Any, file: Path) -> dict[str, Tensor]:
    import torch

    for key in _STATE_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{file}: holds no state dict (names and tensors); it was not loaded.")
    strange = [name for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if strange:
        raise WeightsError(f"{file}: {strange[0]!r} is not a tensor; a state dict holds tensors only.")
    return {str(name): value for name, value in content.items()}


def _to_float32(tensor: Tensor) -> Tensor:
    import torch

    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
