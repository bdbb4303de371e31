"""Which parameters weight decay and L1 act on: the weights of layers, not norms, biases or slopes of activations."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

# _NormBase is the base of batch and instance normalisation, synchronised, lazy and of every dimension
EXEMPT_LAYERS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.PReLU)


def regularised_parameters(network: nn.Module) -> list[nn.Parameter]:
    """The parameters that weight decay and L1 shrink, each once, in the network's order.

    Left out, since shrinking them changes what is computed and not how complex it is: all parameters of normalisation
    layers, biases, and the slopes of PReLU (He et al., "Delving deep into rectifiers", ICCV 2015, section 2.1, trains
    them without decay), all told by the type of their layer. Any other parameter with fewer than two axes is the scale,
    shift or slope of a layer that is not known here, and is left out too.

    Args:
        network: any module; wrapping it (``DistributedDataParallel``) changes nothing.
    """
    exempt = {
        id(parameter)
        for module in network.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if isinstance(module, EXEMPT_LAYERS) or name.startswith("bias") or parameter.ndim < 2
    }
    return [parameter for parameter in network.parameters() if id(parameter) not in exempt]


def group_parameters(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups for a ``torch.optim`` optimizer: weights with decay, all else without.

    Args:
        network: its parameters, frozen ones too, each once.
        weight_decay: of the :func:`regularised_parameters`.

    Returns:
        one or two dictionaries with ``params`` and ``weight_decay``; empty groups are left out.

    Example:
        >>> [len(group["params"]) for group in group_parameters(nn.Sequential(nn.Linear(2, 2), nn.PReLU()), 0.1)]
        [1, 2]
    """
    decayed = regularised_parameters(network)
    known = {id(parameter) for parameter in decayed}
    spared: list[torch.nn.Parameter] = [each for each in network.parameters() if id(each) not in known]
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
