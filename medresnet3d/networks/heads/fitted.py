"""Buffers whose size is known only once something was fitted: support vectors, nodes of a tree, centres of clusters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FittedModule(nn.Module):
    """Base of what is fitted and not trained by gradients; its result lies in buffers, so in the state dict.

    A subclass names in :attr:`fitted` the buffers that take their size from the data. A state dict with other sizes
    than the module's is loaded all the same: the buffers are made anew. Where a configuration gives a *capacity*,
    unfitted module and fitted one have the same shapes, which tools need that copy tensors of equal shape only (MONAI's
    ``ckpt_export``).
    """

    fitted: ClassVar[tuple[str, ...]] = ()

    @torch.jit.unused
    def adopt_shapes(self, state: Mapping[str, Any], prefix: str = "") -> None:
        """Give the fitted buffers the shapes that they have in a state dict.

        Args:
            state: names and tensors.
            prefix: of this module's names.
        """
        for name in self.fitted:
            saved, own = state.get(f"{prefix}{name}"), getattr(self, name)
            if isinstance(saved, Tensor) and saved.shape != own.shape:
                setattr(self, name, own.new_zeros(saved.shape))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        self.adopt_shapes(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    @torch.jit.unused
    def put(self, name: str, values: Any) -> None:
        """Set a buffer to values of any shape, in its own number type and on its own device."""
        own = getattr(self, name)
        setattr(self, name, torch.as_tensor(values, dtype=own.dtype, device=own.device).clone())


def adopt_shapes(network: nn.Module, state: Mapping[str, Any]) -> None:
    """Give all fitted buffers of a network the shapes that they have in a state dict."""
    for name, module in network.named_modules():
        if isinstance(module, FittedModule):
            module.adopt_shapes(state, f"{name}." if name else "")


def full_precision_linear(values: Tensor, weights: Tensor) -> Tensor:
    """``values @ weights.T`` out of reach of mixed precision, which would round both."""
    if torch.jit.is_scripting():
        return F.linear(values, weights)
    with torch.autocast(values.device.type, enabled=False):
        return F.linear(values, weights)
