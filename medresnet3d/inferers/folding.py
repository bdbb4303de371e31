"""A network rewritten for inference: normalisation folded, activations in place, sums of final convolutions in fp32."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from medresnet3d.inferers.split_input import first_convolutions
from medresnet3d.inferers.tracing import Call, Key, Trace, trace
from medresnet3d.networks.layers.batch_renorm import BatchRenorm

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
_INPLACE = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.ReLU6)
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
NARROW = 8
"""Output channels up to which fp32 output, and doing with fewer of oneDNN's padded channels, pays."""
_ADDITIONS = {"add", "iadd", "radd"}
_CROPS = {"narrow", "__getitem__"}


@dataclass(frozen=True)
class Folded:
    """What :func:`fold` did.

    Attributes:
        norms: batch normalisations that went into a convolution.
        norms_left: batch normalisations that stay, since something else reads the convolution's output or there is
            no convolution before them.
        in_place: activations that now overwrite their input.
        wide_sums: final convolutions whose outputs are added up in fp32.
        activated: convolutions, transposed ones too, that became one layer with the activation behind them.
        first: names of the convolutions that alone read the image.
    """

    norms: int
    norms_left: int
    in_place: int
    wide_sums: int
    activated: int = 0
    first: tuple[str, ...] = ()


class ActivatedConvolution(nn.Module):
    """A convolution and the activation of its output, which nothing else reads, as one layer.

    Args:
        layer: the convolution.
        activation: overwrites its output.
    """

    def __init__(self, layer: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.layer, self.activation = layer, activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run both."""
        return torch.as_tensor(self.activation(self.layer(x)))


class WideOutput(nn.Module):
    """A layer whose output is handed on in fp32, so that what is added to it does not round it once more.

    Args:
        layer: the layer.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the layer."""
        return self.layer(x).float()


def fold(network: nn.Module, shape: tuple[int, ...]) -> Folded:
    """Fold batch (re)normalisations into convolutions and compute activations in place, in ``network`` itself.

    A normalisation is folded when it is the only reader of the output of a convolution and both run once in a pass;
    an activation overwrites its input when nothing else reads that. Where the network's output is a sum, the
    convolutions that are summands give fp32, since sums rounded to bf16 change labels more than all else. The network's
    answers stay the same up to rounding.

    Args:
        network: in eval mode, fp32; it is changed.
        shape: of an input (B, C, ...) that the network takes.

    Returns:
        What was done.

    Raises:
        ConfigError: if the network cannot be followed on shapes alone; it is unchanged then, but for dropout layers
            (which do nothing in eval mode), batch renormalisation (which is batch normalisation then) and activations,
            which are not in place any more.
    """
    _replace_dropouts(network)
    _replace_renorms(network)
    for module in network.modules():
        if type(module) in _INPLACE:
            module.inplace = False  # type: ignore[assignment]
    record = trace(network, shape)
    pairs = _norm_pairs(network, record)
    for convolution, norm in pairs:
        _fold_pair(network, convolution, norm)
    quick = _single_slopes(network)
    in_place = _make_in_place(network, record, {norm for _, norm in pairs}, quick)
    left = sum(type(module) in _NORMS for module in network.modules())
    first = set(first_convolutions(network, record))
    activated = _activate(network, record, pairs)
    summands = _summands(network, record)
    for name in summands:
        replace_module(network, name, WideOutput(network.get_submodule(name)))
    names = tuple(name for name, module in network.named_modules() if module in first)
    return Folded(len(pairs), left, in_place, len(summands), activated, names)


def replace_module(network: nn.Module, name: str, module: nn.Module) -> None:
    """Put ``module`` where the module of the dotted ``name`` is."""
    parent, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(parent), leaf, module)


def _replace_dropouts(network: nn.Module) -> None:
    for name, module in list(network.named_modules()):
        if name and type(module) in _DROPOUTS:
            replace_module(network, name, nn.Identity())


def _replace_renorms(network: nn.Module) -> None:
    """Batch renormalisation is batch normalisation in eval mode."""
    for name, module in list(network.named_modules()):
        if name and isinstance(module, BatchRenorm) and _is_plain(module):
            replace_module(network, name, module.as_batch_norm())


def _is_plain(module: nn.Module) -> bool:
    """Whether nobody has hooked into the module, e.g. to read its output or to change its weight."""
    return not (module._forward_hooks or module._forward_pre_hooks or hasattr(module, "parametrizations"))


def _once(record: Trace) -> dict[str, Call]:
    """The call of each module that makes exactly one."""
    count = Counter(call.module for call in record.calls)
    return {call.module: call for call in record.calls if count[call.module] == 1}


def _norm_pairs(network: nn.Module, record: Trace) -> list[tuple[str, str]]:
    """Names of the convolutions and batch normalisations that can become one layer."""
    readers, single = record.readers(), _once(record)
    modules = dict(network.named_modules())
    producers: dict[Key, str] = {
        call.writes[0]: name
        for name, call in single.items()
        if type(modules[name]) in (*_CONVOLUTIONS, *_TRANSPOSED) and _is_plain(modules[name])
    }
    shared = _shared_parameters(network)
    pairs = []
    for name, call in single.items():
        norm = modules[name]
        if type(norm) not in _NORMS or norm.running_mean is None or not _is_plain(norm):
            continue
        source = call.reads[0]
        convolution = producers.get(source)
        if convolution and readers[source] == 1 and not shared & set(map(id, modules[convolution].parameters())):
            pairs.append((convolution, name))
    return pairs


def _summands(network: nn.Module, record: Trace) -> list[str]:
    """Convolutions whose output goes into the network's output through additions and crops alone."""
    makers = {key: call for call in record.calls for key in call.writes}
    single, modules = _once(record), dict(network.named_modules())
    found: set[str] = set()
    waiting = [(key, False) for key in record.outputs]
    while waiting:
        key, summed = waiting.pop()
        call = makers.get(key)
        if call is None:
            continue
        if call.function.strip("_") in _ADDITIONS:
            waiting += [(read, True) for read in call.reads]
        elif call.function in _CROPS:
            waiting.append((call.reads[0], summed))
        elif (
            summed and single.get(call.module) is call and type(modules[call.module]) in (*_CONVOLUTIONS, *_TRANSPOSED)
        ):
            found.add(call.module)
    return sorted(name for name in found if name and _is_plain(modules[name]) and _is_narrow(modules[name]))


def _is_narrow(convolution: Any) -> bool:
    """Whether fp32 output costs little."""
    return bool(convolution.out_channels <= NARROW)


def _shared_parameters(network: nn.Module) -> set[int]:
    """Parameters that several modules own."""
    count = Counter(id(value) for module in network.modules() for value in module._parameters.values())
    return {identity for identity, owners in count.items() if owners > 1}


def _fold_pair(network: nn.Module, convolution: str, norm: str) -> None:
    layer: Any = network.get_submodule(convolution)
    scale: Any = network.get_submodule(norm)
    transposed = type(layer) in _TRANSPOSED
    weight, bias = (
        _fold_grouped(layer, scale)
        if transposed and layer.groups > 1
        else fuse_conv_bn_weights(
            layer.weight,
            layer.bias,
            scale.running_mean,
            scale.running_var,
            scale.eps,
            scale.weight,
            scale.bias,
            transposed,
        )
    )
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
    replace_module(network, norm, nn.Identity())


def _fold_grouped(layer: Any, norm: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """A grouped transposed convolution keeps the output channels of one group in axis 1 and the groups in axis 0."""
    factor = torch.rsqrt(norm.running_var + norm.eps) * (1 if norm.weight is None else norm.weight)
    shift = (0 if norm.bias is None else norm.bias) - norm.running_mean * factor
    by_group = factor.reshape(layer.groups, 1, -1, *[1] * (layer.weight.dim() - 2))
    weight = layer.weight.unflatten(0, (layer.groups, -1)) * by_group
    return weight.flatten(0, 1), shift + (0 if layer.bias is None else layer.bias * factor)


def _single_slopes(network: nn.Module) -> set[str]:
    """Turn every PReLU with one slope into a leaky ReLU, which can overwrite its input; give their names."""
    names = set()
    for name, module in list(network.named_modules()):
        if name and type(module) is nn.PReLU and module.num_parameters == 1 and _is_plain(module):
            replace_module(network, name, nn.LeakyReLU(float(module.weight.detach())))
            names.add(name)
    return names


def _make_in_place(network: nn.Module, record: Trace, folded: set[str], quick: set[str]) -> int:
    """Let activations overwrite what a convolution or normalisation has made for them alone."""
    readers = record.readers()
    modules = dict(network.named_modules())
    makers = (*_CONVOLUTIONS, *_TRANSPOSED, *_NORMS, *_INSTANCE_NORMS)
    fresh = {
        call.writes[0] for call in record.calls if call.module in folded or type(modules.get(call.module)) in makers
    }
    calls: dict[str, list[Call]] = {}
    for call in record.calls:
        calls.setdefault(call.module, []).append(call)
    count = 0
    for name, own in calls.items():
        module = modules[name]
        if type(module) in _INPLACE and (name in quick or _is_plain(module)):
            module.inplace = all(call.reads[0] in fresh and readers[call.reads[0]] == 1 for call in own)
            count += module.inplace
    return count


def _activate(network: nn.Module, record: Trace, pairs: list[tuple[str, str]]) -> int:
    """Put together each convolution and the activation that overwrites its output, or that of its folded norm."""
    single, modules = _once(record), dict(network.named_modules())
    convolution_of = {norm: convolution for convolution, norm in pairs}
    makers: dict[Key, str] = {call.writes[0]: convolution_of.get(name, name) for name, call in single.items()}
    count = 0
    for name, call in single.items():
        activation = modules[name]
        if not (type(activation) in _INPLACE and activation.inplace and _is_plain(activation)):
            continue
        convolution = makers.get(call.reads[0])
        if convolution is None:
            continue
        layer = modules[convolution]
        if type(layer) in (*_CONVOLUTIONS, *_TRANSPOSED) and _is_plain(layer):
            replace_module(network, convolution, ActivatedConvolution(layer, activation))
            replace_module(network, name, nn.Identity())
            count += 1
    return count
