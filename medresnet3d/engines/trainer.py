"""The training engine."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import IterationEvents, SupervisedTrainer
from monai.utils import CommonKeys
from torch import nn

from medresnet3d.engines.averaging import WeightAverage
from medresnet3d.engines.head_loss import HeadLoss
from medresnet3d.engines.inferer import PlainBatch, PrecisionInferer, bring_labels_to_predictions, main_output
from medresnet3d.engines.l1 import L1Regulariser
from medresnet3d.engines.mixing import MixedLoss, Mixing
from medresnet3d.engines.precision import Precision
from medresnet3d.errors import ConfigError, DataError
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
        max_steps: end after that many iterations, in the middle of an epoch too, with the validation and the
            checkpoints that belong to the end of an epoch; ``max_epochs`` still holds. ``None``: no such limit.
        l1: factor of the sum of absolute weights; 0: no L1. It acts on the weights of layers, not on norms, biases and
            slopes of PReLU.
        l1_mode: ``penalty`` (part of the loss that is logged) or ``proximal`` (exact zeros); see
            :mod:`medresnet3d.optimizers.l1`.
        average_weights: decay of a :class:`medresnet3d.engines.averaging.WeightAverage`, which is what is validated
            and what the run ends with; ``None``: the weights themselves.
        mixing: mixes images and labels of a batch (:class:`medresnet3d.engines.mixing.Mixing`); ``None``: as they are.
        prepare_batch: as in MONAI.
        inferer: as in MONAI.
        **options: all other arguments of ``monai.engines.SupervisedTrainer`` (``postprocessing``, ``key_train_metric``,
            ``train_handlers``, ...).

    Raises:
        ConfigError: if the precision is unknown or the device does not have it, the loss needs another network, or an
            option is out of range.
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
        max_steps: int | None = None,
        l1: float = 0.0,
        l1_mode: str = "penalty",
        average_weights: float | None = None,
        mixing: Mixing | None = None,
        prepare_batch: Callable[..., Any] | None = None,
        inferer: Callable[..., Any] | None = None,
        **options: Any,
    ) -> None:
        if max_steps is not None and max_steps < 1:
            raise ConfigError(f"max_steps is {max_steps}; give 1 or more iterations, or none to train by epochs.")
        number_format = Precision(precision)
        self.precision = number_format.resolve(torch.device(device))
        self.gradient_clip = gradient_clip
        self.max_steps = max_steps
        if self.precision == "fp16":
            options |= {"amp": True, "amp_kwargs": {"dtype": torch.float16}}
        handlers = options.pop("train_handlers", None)
        infer: Any = PrecisionInferer(inferer, number_format)
        if isinstance(loss_function, nn.Module):
            loss_function.to(device)
        prepare: Callable[..., Any] = PlainBatch(prepare_batch)
        if mixing is not None and mixing.name != "none":
            prepare, loss_function = mixing.prepares(prepare), _mixed(loss_function, mixing)
        head_loss = HeadLoss(loss_function, network) if isinstance(loss_function, MarginLoss) else None
        if head_loss is not None:
            infer = head_loss.capturing(infer)
        super().__init__(
            device,
            max_epochs,
            train_data_loader,
            network,
            optimizer,
            loss_function if head_loss is None else head_loss,
            prepare_batch=prepare,
            inferer=infer,
            optim_set_to_none=options.pop("optim_set_to_none", True),
            **options,
        )
        self.interrupted: str | None = None
        self.average = None if average_weights is None else WeightAverage(network, average_weights)
        self.train_metrics = {**(options.get("key_train_metric") or {}), **(options.get("additional_metrics") or {})}
        self._attach(L1Regulariser(l1, l1_mode), handlers, head_loss)

    def _attach(self, l1: L1Regulariser, handlers: Any, head_loss: HeadLoss | None) -> None:
        """Add everything that happens around an iteration, in its order."""
        self.add_event_handler(IterationEvents.FORWARD_COMPLETED, _check_labels)
        self.add_event_handler(IterationEvents.LOSS_COMPLETED, _check_loss)
        l1.attach(self)
        self.add_event_handler(IterationEvents.LOSS_COMPLETED, _keep_main_output)
        self.add_event_handler(IterationEvents.MODEL_COMPLETED, bring_labels_to_predictions)
        if self.gradient_clip is not None:
            self.add_event_handler(IterationEvents.BACKWARD_COMPLETED, _clip_gradient)
        if self.average is not None:
            # before the handlers, which restore, validate and save
            self.add_event_handler(Events.STARTED, self.average.begin)
            self.add_event_handler(Events.ITERATION_COMPLETED, self.average.update)
        if handlers is not None:
            self._register_handlers(handlers)
        if head_loss is not None:
            # once more after the handlers, one of which may have loaded the weights of an ordinary network
            self.add_event_handler(Events.STARTED, head_loss.prepare)
        if self.max_steps is not None:
            # after the handlers, which count the iteration and restore a run that may have come to its end before
            self.add_event_handler(Events.STARTED, _start_with_max_steps)
            self.add_event_handler(Events.ITERATION_COMPLETED, _stop_at_max_steps)

    @property
    def total_steps(self) -> int:
        """Iterations until the run's end, from its beginning: all epochs, or ``max_steps`` where that is less."""
        by_epochs = self._steps_by_epochs
        return by_epochs if self.max_steps is None else min(by_epochs, self.max_steps)

    @property
    def _steps_by_epochs(self) -> int:
        return (self.state.max_epochs or 0) * (self.state.epoch_length or 0)

    def answering(self) -> AbstractContextManager[None]:
        """Let the network have the weights that answer (the averaged ones, if there are any) inside a block."""
        return nullcontext() if self.average is None else self.average.applied()

    def run(self) -> None:  # type: ignore[override]
        """Train until ``max_epochs``, ``max_steps``, early stopping or Ctrl-C.

        Raises:
            TrainingInterrupted: after Ctrl-C, when the state is saved.
            DataError: when the loss is no longer a finite number.
        """
        super().run()
        if self.interrupted is not None:
            raise TrainingInterrupted(self.interrupted)


def _mixed(loss: Callable[..., torch.Tensor], mixing: Mixing) -> MixedLoss:
    if isinstance(loss, MarginLoss):
        raise ConfigError(
            f"{type(loss).__name__} works on features of one class each, so images cannot be mixed; set mixing to none "
            "or choose another loss (cross_entropy, focal, hinge, ...)."
        )
    return MixedLoss(loss, mixing)


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


def _start_with_max_steps(engine: Trainer) -> None:
    if engine.max_steps is not None and engine.total_steps < engine.max_steps:
        warnings.warn(
            f"max_steps is {engine.max_steps}, but {engine.state.max_epochs} epochs of {engine.state.epoch_length} "
            f"iterations end after {engine.total_steps}; raise max_epochs to train longer.",
            stacklevel=2,
        )
    if engine.state.iteration >= engine.total_steps:
        engine.terminate()


def _stop_at_max_steps(engine: Trainer) -> None:
    """End the epoch here, and with it the run."""
    at_limit = engine.state.iteration == engine.max_steps
    if at_limit and engine.state.iteration < engine._steps_by_epochs and engine.interrupted is None:
        engine.fire_event(Events.EPOCH_COMPLETED)
        engine.terminate()
