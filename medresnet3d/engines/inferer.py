"""The step from batch to prediction that training and evaluation share: number format and plain tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.data import MetaTensor
from monai.engines import default_prepare_batch
from monai.inferers import Inferer, SimpleInferer
from monai.utils import CommonKeys

from medresnet3d.engines.precision import Precision


def main_output(output: Any) -> Any:
    """Return the main one of a network's outputs: the first, where there are auxiliary ones."""
    return output[0] if isinstance(output, list | tuple) else output


def to_float(output: Any) -> Any:
    """Return a network's output (a tensor, or a list or tuple of them) in fp32."""
    if isinstance(output, list | tuple):
        return type(output)(to_float(each) for each in output)
    return output.float() if output.is_floating_point() else output


class PrecisionInferer(Inferer):
    """Runs another inferer in a number format, on plain tensors, and returns fp32.

    MONAI's ``MetaTensor`` costs time in every layer, so the network sees a plain tensor; the meta data are put back on
    a single output.

    Args:
        inferer: what to run; ``None``: call the network once.
        precision: the number format.
    """

    def __init__(self, inferer: Callable[..., Any] | None, precision: Precision) -> None:
        self.inferer = SimpleInferer() if inferer is None else inferer
        self.precision = precision

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return the network's output for ``inputs`` of shape (N, C, ...)."""
        plain = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        with self.precision.active(plain.device):
            output = self.inferer(plain, network, *args, **kwargs)
        output = to_float(output)
        if isinstance(inputs, MetaTensor) and isinstance(output, torch.Tensor):
            output = MetaTensor(output).copy_meta_from(inputs)
            output.is_batch = inputs.is_batch
        return output


class PlainBatch:
    """Wraps a ``prepare_batch`` so that the loss sees plain tensors, which is faster, and no double precision."""

    def __init__(self, prepare_batch: Callable[..., Any] | None) -> None:
        self.prepare_batch = default_prepare_batch if prepare_batch is None else prepare_batch

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Return what the wrapped function returns, without meta data."""
        batch = self.prepare_batch(*args, **kwargs)
        return tuple(_plain(each) for each in batch)


def _plain(value: Any) -> Any:
    tensor = value.as_tensor() if isinstance(value, MetaTensor) else value
    return tensor.float() if isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float64 else tensor


def bring_labels_to_predictions(engine: Any) -> None:
    """Put each case's label onto the device of its prediction, for metrics that compute there.

    A class that is taken out of a batch on a GPU becomes a plain number, and one-hot coding makes a tensor in main
    memory of it.
    """
    output = engine.state.output
    for item in output if isinstance(output, list) else [output]:
        label, prediction = item.get(CommonKeys.LABEL), item.get(CommonKeys.PRED)
        if isinstance(label, torch.Tensor) and isinstance(prediction, torch.Tensor):
            item[CommonKeys.LABEL] = label.to(prediction.device)
