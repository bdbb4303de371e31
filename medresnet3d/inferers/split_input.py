"""An image in bf16 without its rounding: as what bf16 keeps of it and what it leaves, in twice as many channels.

The first convolutions get their weights twice, so that they see the sum of the two. That takes no longer, as oneDNN
fills up the few channels of an image anyway, and rounding the image changes more labels than most layers do.
"""

from __future__ import annotations

import torch
from torch import nn

from medresnet3d.inferers.tracing import Trace

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)


def first_convolutions(network: nn.Module, record: Trace) -> list[nn.Module]:
    """The convolutions that read the image, if nothing else reads it; else none.

    Args:
        network: what was recorded.
        record: one forward pass of it.
    """
    modules = dict(network.named_modules())
    calls = [call for call in record.calls if record.input in call.reads]
    names = {call.module for call in calls}
    often = any(sum(call.module == name for call in record.calls) > 1 for name in names)
    if often or record.input in record.outputs or not all(_is_simple(modules[name]) for name in names):
        return []
    return [modules[name] for name in sorted(names)]


def _is_simple(module: nn.Module) -> bool:
    """Whether it is a convolution of all channels, between zeros, that nobody has hooked into."""
    hooked = module._forward_hooks or module._forward_pre_hooks or hasattr(module, "parametrizations")
    return (
        isinstance(module, _CONVOLUTIONS)
        and type(module) in _CONVOLUTIONS
        and not hooked
        and module.groups == 1
        and module.padding_mode == "zeros"
    )


def double_input(network: nn.Module, names: tuple[str, ...]) -> None:
    """Let those convolutions of ``network`` take what :func:`split` gives, with the same answers."""
    for name in names:
        layer = network.get_submodule(name)
        assert isinstance(layer, _CONVOLUTIONS)
        layer.weight = nn.Parameter(torch.cat([layer.weight.detach()] * 2, dim=1), requires_grad=False)
        layer.in_channels *= 2


def split(image: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Map (B, C, ...) to (B, 2 C, ...) in another number format: the image rounded, and what that left out."""
    image = image.float()
    rounded = image.to(dtype)
    return torch.cat([rounded, (image - rounded).to(dtype)], dim=1)
