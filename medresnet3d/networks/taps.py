"""Outputs of layers inside a network, taken while it runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from medresnet3d.names import require_name


@contextmanager
def captured(network: nn.Module, layers: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """Give a dictionary that has the outputs of layers after each forward pass inside the block.

    Args:
        network: any module.
        layers: names as in ``network.named_modules()``.

    Raises:
        ConfigError: for a name that the network does not have.
    """
    modules = dict(network.named_modules())
    outputs: dict[str, Tensor] = {}
    hooks = []
    try:
        for layer in layers:
            module = modules[require_name("Layer", layer, modules)]
            hooks.append(module.register_forward_hook(_keeper(outputs, layer)))
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def _keeper(outputs: dict[str, Tensor], layer: str):  # type: ignore[no-untyped-def]
    def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
        outputs[layer] = output

    return keep


def pooled(output: Tensor) -> Tensor:
    """The mean of feature maps (B, F, ...) over space: (B, F); features without space as they are."""
    return output.flatten(2).mean(2) if output.ndim > 2 else output


def layer_widths(network: nn.Module, layers: Iterable[str], image: Tensor) -> dict[str, int]:
    """Number of channels that each layer gives for an image (B, C, ...); mode and statistics are left as they were."""
    layers = list(layers)
    mode = network.training
    network.eval()
    with captured(network, layers) as outputs, torch.no_grad():
        network(image)
    network.train(mode)
    return {layer: outputs[layer].shape[1] for layer in layers}
