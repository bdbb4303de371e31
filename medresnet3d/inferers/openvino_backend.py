"""Run a network with OpenVINO (optional: ``pip install medresnet3d[openvino]``)."""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from medresnet3d.errors import ConfigError

_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


def check_openvino(device: torch.device) -> None:
    """Refuse OpenVINO where it cannot be used.

    Raises:
        ConfigError: if it is not installed, or ``device`` is not the CPU.
    """
    if device.type != "cpu":
        raise ConfigError(f'backend "openvino" computes on the CPU, the device is {device}; use backend "torch" there.')
    if importlib.util.find_spec("openvino") is None:
        raise ConfigError('backend "openvino" is not installed; use "pip install medresnet3d[openvino]".')


class _Flat(nn.Module):
    """A network whose output is a plain tuple of tensors; remembers how they were arranged."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.structure: Any = None

    def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run the network on (B, C, ...) and flatten what it gives."""
        leaves, self.structure = pytree.tree_flatten(self.network(batch))
        return tuple(leaves)


class OpenVinoRunner:
    """A network compiled by OpenVINO, once for each shape of input, with as many threads as torch uses.

    Args:
        network: in eval mode, on the CPU, fp32.
        precision: ``fp32`` or ``bf16``.
    """

    def __init__(self, network: nn.Module, precision: str) -> None:
        self.network = _Flat(network)
        self.precision = precision
        self.compiled: dict[tuple[int, ...], Any] = {}

    def __call__(self, batch: torch.Tensor) -> Any:
        """Run on a batch (B, C, ...); the output has the network's own structure, in fp32."""
        shape = tuple(batch.shape)
        if shape not in self.compiled:
            self.compiled[shape] = self._compile(shape)
        request = self.compiled[shape]
        results = request.infer([batch.to("cpu", torch.float32).contiguous().numpy()])
        leaves = [torch.from_numpy(results[port].copy()) for port in request.model_outputs]
        return pytree.tree_unflatten(leaves, self.network.structure)

    def _compile(self, shape: tuple[int, ...]) -> Any:
        import openvino as ov

        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            model = ov.convert_model(
                self.network, example_input=torch.zeros(shape), input=[ov.PartialShape(list(shape))]
            )
        options = {
            "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        return ov.Core().compile_model(model, "CPU", options).create_infer_request()
