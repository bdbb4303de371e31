"""Where in a network the classification networks stand that it is made of: what published weights are for."""

from __future__ import annotations

from torch import nn

from medresnet3d.networks.staged_network import StagedNetwork


def trunks_of(network: nn.Module) -> dict[str, nn.Module]:
    """The networks of :func:`~medresnet3d.networks.classifier.build_classifier` that a network is made of.

    A network of several views has one for each view, or a single one for all; a regressor, one that votes over slices
    and one with a support vector machine have one; a classification network is its own.

    What a module names in ``learned_apart`` is left out: it comes with weights of its own.

    Args:
        network: any module.

    Returns:
        each trunk by the beginning of its parameters' names, ``"trunks.0."`` for instance; ``""`` is the network
        itself, also where it holds no such network.
    """
    found: dict[str, nn.Module] = {}
    apart: list[str] = []
    for name, module in network.named_modules():
        apart += [f"{name}.{part}.".lstrip(".") for part in getattr(module, "learned_apart", ())]
        inside = any(name.startswith(prefix) for prefix in (*found, *apart))
        if isinstance(module, StagedNetwork) and not inside:
            found[f"{name}." if name else ""] = module
    return found or {"": network}
