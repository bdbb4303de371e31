"""Outputs of networks that return several tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from medresnet3d.errors import ConfigError


def flatten(output: Any) -> tuple[list[torch.Tensor], Callable[[Sequence[Any]], Any]]:
    """Return the tensors of a network's output, and a function that puts as many results into the same structure.

    As MONAI does it: a dictionary comes back with its keys sorted, any other sequence as a tuple, a sequence of one
    tensor as that tensor.

    Raises:
        ConfigError: if the output holds something that is no tensor.
    """
    if isinstance(output, torch.Tensor):
        return [output], lambda results: results[0]
    if isinstance(output, Mapping):
        keys = sorted(output)
        tensors = [output[key] for key in keys]
        rebuild: Callable[[Sequence[Any]], Any] = lambda results: dict(zip(keys, results, strict=True))  # noqa: E731
    else:
        tensors = list(output) if isinstance(output, Sequence) else [output]
        rebuild = lambda results: results[0] if len(results) == 1 else tuple(results)  # noqa: E731
    for tensor in tensors:
        if not isinstance(tensor, torch.Tensor):
            raise ConfigError(
                f"the network returned {type(tensor).__name__} where a tensor is expected; a sliding window takes "
                "networks that return a tensor, or a dictionary, list or tuple of tensors."
            )
    return tensors, rebuild
