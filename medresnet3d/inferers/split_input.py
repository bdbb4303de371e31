"""The first layer in bf16 with neither the image nor its kernels rounded: both as what bf16 keeps and what it leaves.

With an image a + b and kernels v + w, where b and w are what rounding left out, the convolutions see the image as
a, b, a with the kernels v, v, w: three times as many channels. That takes no longer, as oneDNN fills up the few
channels of an image anyway, and rounding the image or the first kernels changes more labels than most layers do.
"""

from __future__ import annotations

import torch
from torch import nn

from medresnet3d.inferers.rounding import round_kernel
from medresnet3d.inferers.tracing import Call, Trace

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)


def first_convolutions(network: nn.Module, record: Trace) -> list[nn.Module]:
    """The convolutions that read the image, if nothing else reads it; else none.

    Args:
        network: what was recorded.
        record: one forward pass of it.
    """
    modules = dict(network.named_modules())
    image = {record.input}
    readers = []
    for call in record.calls:
        if image.isdisjoint(call.reads):
            continue
        if _pads_with_zeros(call):
            image.update(call.writes)
        else:
            readers.append(call)
    names = {call.module for call in readers}
    often = any(sum(call.module == name for call in record.calls) > 1 for name in names)
    if often or not image.isdisjoint(record.outputs) or not all(_is_simple(modules[name]) for name in names):
        return []
    return [modules[name] for name in sorted(names)]


def _pads_with_zeros(call: Call) -> bool:
    """Whether it does the same to each channel of an image and to the parts that add up to it."""
    given = dict(zip(("mode", "value"), call.args[2:], strict=False)) | call.kwargs
    return call.function == "pad" and given.get("mode", "constant") == "constant" and not given.get("value")


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


def split_layers(network: nn.Module, names: tuple[str, ...], dtype: torch.dtype) -> None:
    """Let those convolutions of ``network`` take what :func:`split` gives, with the same answers."""
    for name in names:
        layer = network.get_submodule(name)
        assert isinstance(layer, _CONVOLUTIONS)
        exact = layer.weight.detach()
        rounded = round_kernel(exact, dtype).to(exact.dtype)
        layer.weight = nn.Parameter(torch.cat([rounded, rounded, exact - rounded], dim=1), requires_grad=False)
        layer.in_channels *= 3


def split(image: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Map (B, C, ...) to (B, 3 C, ...) in another number format: the image rounded, what that left out, it again."""
    image = image.float()
    rounded = image.to(dtype)
    return torch.cat([rounded, (image - rounded).to(dtype), rounded], dim=1)
