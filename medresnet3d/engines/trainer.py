"""The training engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import IterationEvents, SupervisedTrainer
from monai.utils import CommonKeys
from torch import nn

from medresnet3d.engines.head_loss import HeadLoss
from medresnet3d.engines.inferer import PlainBatch, PrecisionInferer, main_output
from medresnet3d.engines.precision import Precision
from medresnet3d.errors import DataError
from medresnet3d.losses.margin import MarginLoss


class TrainingInterrupted(KeyboardInterrupt):
    """Training was stopped by Ctrl-C after its state was saved; the message says how to go on."""


class Trainer(SupervisedTrainer):
    """MONAI's ``SupervisedTrainer`` with mixed precision on any device, gradient clipping and auxiliary outputs.

    A network that returns several outputs in training (deep supervision) is allowed: the loss gets them as they are,
    ``postprocessing`` and metrics get the first. The loss is computed in fp32.

    Args:
        device: where to compute.
        max_epochs: number of epochs.
        train_data_loader: loader of batches with the keys ``image`` and ``label``.
        network: the network, on the device.
        optimizer: its optimizer.
        loss_function: called with (output, label); or a :class:`medresnet3d.losses.margin.MarginLoss`, which gets the
            features and weights of the network's last layer and chooses how that layer computes logits. If it is a
            module, it is moved to the device.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``; see :class:`medresnet3d.engines.Precision`.
        gradient_clip: largest norm of the gradient of all parameters together; ``None``: as it is.
        prepare_batch: as in MONAI.
        inferer: as in MONAI.
        **options: all other arguments of ``monai.engines.SupervisedTrainer`` (``postprocessing``, ``key_train_metric``,
            ``train_handlers``, ...).

    Raises:
        ConfigError: if the precision is unknown or the device does not have it, or the loss needs another network.
        DataError: while running, when the loss is no longer a finite number.
    """

    def __init__(
        self,
        device: str | torch.device,
        max_epochs: int,
        train_data_loader: Iterable[Any],
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_function: Callable[..., torch.Tensor],
        precision: str = "auto",
        gradient_clip: float | None = None,
        prepare_batch: Callable[..., Any] | None = None,
        inferer: Callable[..., Any] | None = None,
        **options: Any,
    ) -> None:
        number_format = Precision(precision)
        self.precision = number_format.resolve(torch.device(device))
        self.gradient_clip = gradient_clip
        if self.precision == "fp16":
            options |= {"amp": True, "amp_kwargs": {"dtype": torch.float16}}
        handlers = options.pop("train_handlers", None)
        infer: Any = PrecisionInferer(inferer, number_format)
        if isinstance(loss_function, nn.Module):
            loss_function.to(device)
        if isinstance(loss_function, MarginLoss):
            loss_function = HeadLoss(loss_function, network)
            infer = loss_function.capturing(infer)
        super().__init__(
            device,
            max_epochs,
            train_data_loader,
            network,
            optimizer,
            loss_function,
            prepare_batch=PlainBatch(prepare_batch),
            inferer=infer,
            optim_set_to_none=options.pop("optim_set_to_none", True),
            **options,
        )
        self.interrupted: str | None = None
        self.train_metrics = {**(options.get("key_train_metric") or {}), **(options.get("additional_metrics") or {})}
        self.add_event_handler(IterationEvents.FORWARD_COMPLETED, _check_labels)
        self.add_event_handler(IterationEvents.LOSS_COMPLETED, _check_loss)
        self.add_event_handler(IterationEvents.LOSS_COMPLETED, _keep_main_output)
        if gradient_clip is not None:
            self.add_event_handler(IterationEvents.BACKWARD_COMPLETED, _clip_gradient)
        if handlers is not None:
            self._register_handlers(handlers)
        if isinstance(loss_function, HeadLoss):
            # once more after the handlers, one of which may have loaded the weights of an ordinary network
            self.add_event_handler(Events.STARTED, loss_function.prepare)

    def run(self) -> None:  # type: ignore[override]
        """Train until ``max_epochs``, early stopping or Ctrl-C.

        Raises:
            TrainingInterrupted: after Ctrl-C, when the state is saved.
            DataError: when the loss is no longer a finite number.
        """
        super().run()
        if self.interrupted is not None:
            raise TrainingInterrupted(self.interrupted)


def _check_labels(engine: Trainer) -> None:
    """Say what is wrong before a loss function fails over a class that the network does not have."""
    label = engine.state.output[CommonKeys.LABEL]
    output = main_output(engine.state.output[CommonKeys.PRED])
    classes = output.shape[1] if output.ndim > 1 else 1
    indices = isinstance(label, torch.Tensor) and (label.ndim == 1 or label.shape[1] == 1)
    if classes == 1 or not indices or label.numel() == 0 or (label.is_floating_point() and label.ndim == 1):
        return
    largest = int(label.max())
    if largest >= classes:
        raise DataError(
            f"Class {largest} occurs among the labels of iteration {engine.state.iteration}, but the network gives "
            f"{classes} classes (0 to {classes - 1}); correct the labels or set the bundle's number of classes."
        )


def _check_loss(engine: Trainer) -> None:
    loss = engine.state.output[CommonKeys.LOSS]
    if not torch.isfinite(loss.detach()).all():
        clip = "a gradient_clip (1.0)" if engine.gradient_clip is None else "a smaller gradient_clip"
        calm = "" if engine.precision == "fp32" else ", precision fp32"
        raise DataError(
            f"The training loss became {loss.detach().mean().item()} in iteration {engine.state.iteration} (epoch "
            f"{engine.state.epoch}): try a smaller learning rate, {clip}{calm}, and check the images for NaN with "
            "`medresnet3d data check`."
        )


def _keep_main_output(engine: Trainer) -> None:
    engine.state.output[CommonKeys.PRED] = main_output(engine.state.output[CommonKeys.PRED])


def _clip_gradient(engine: Any) -> None:
    if engine.scaler is not None:
        engine.scaler.unscale_(engine.optimizer)
    nn.utils.clip_grad_norm_(engine.network.parameters(), engine.gradient_clip)
