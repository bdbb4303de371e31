"""Training in stages: parts of a network one after another, by gradients or by fitting, each stage restartable.

A stage of gradients is a :class:`medresnet3d.engines.Trainer` of its own with the same checkpoints as any other
training; one that fits (an SVM, a tree, cluster centres, fusion weights) writes its result into the network's buffers.
All of them end in one state dict.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import nn

from medresnet3d.data.seeding import derive_seed, seed_global
from medresnet3d.engines.checkpoint import load_checkpoint, load_network_state, save_checkpoint
from medresnet3d.engines.device import distribute, rank, undistributed
from medresnet3d.engines.handlers import TrainHandlers, train_handlers
from medresnet3d.engines.logs import scalar_metrics
from medresnet3d.engines.trainer import Trainer
from medresnet3d.errors import ConfigError
from medresnet3d.networks.layers.batch_renorm import BatchRenorm


@dataclass(frozen=True)
class StageContext:
    """What a stage knows of the run that it belongs to.

    Args:
        network: the whole network, on its device, without a wrapper for distribution.
        device: where to compute.
        folder: where stages keep what they have done.
        seed: of the run.
        resume: go on with what is there.
        precision: number format of the run.
        checkpoint_seconds: how often a stage of gradients is saved.
        display: ``tensorboard`` and ``progress`` of the run's handlers.
    """

    network: nn.Module
    device: torch.device
    folder: Path
    seed: int
    resume: bool
    precision: str
    checkpoint_seconds: float
    display: Mapping[str, Any]

    def seed_of(self, name: str) -> int:
        """The seed of a stage, its own and always the same."""
        return derive_seed(self.seed, *name.encode())


class Stage(Protocol):
    """One stage: when :meth:`run` returns, the network is as the stage leaves it, and that is saved."""

    name: str

    def run(self, context: StageContext) -> None:
        """Run the stage, go on with it, or load what it left."""


class GradientStage:
    """A stage that trains some of the parameters, with its own data, loss, optimiser and number of epochs.

    Args:
        name: of the stage, and of its folder.
        network: the network of the run or a part of it, e.g. ``@network.members[0]`` written as an expression.
        train_data_loader: its training data.
        optimizer: over the parameters of ``network``; those that this stage does not train stay as they are.
        loss_function: as for :class:`medresnet3d.engines.Trainer`.
        max_epochs: number of epochs.
        trainable: regular expressions of parameters' names (searched from the start); all others are frozen, and norms
            whose parameters are frozen keep their statistics. ``None``: all are trained.
        lr_scheduler: see :func:`medresnet3d.engines.train_handlers`, as for the next four.
        lr_unit: ``"epoch"`` or ``"iteration"``.
        validator: engine that validates; the stage ends with the weights of the best validation.
        interval: validate every so many epochs.
        early_stopping: stop after that many validations without a better one.
        handlers: further handlers of the stage's trainer, e.g. :class:`medresnet3d.engines.norm_freezing.FreezeNorm`.
        **options: further arguments of :class:`medresnet3d.engines.Trainer` (``inferer``, ``gradient_clip``, ...).

    Raises:
        ConfigError: while running, if a pattern fits no parameter.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        train_data_loader: Iterable[Any],
        optimizer: torch.optim.Optimizer,
        loss_function: Callable[..., torch.Tensor],
        max_epochs: int = 1,
        *,
        trainable: str | Sequence[str] | None = None,
        lr_scheduler: Any = None,
        lr_unit: str = "epoch",
        validator: Any = None,
        interval: int = 1,
        early_stopping: int | None = None,
        handlers: Sequence[Any] = (),
        **options: Any,
    ) -> None:
        self.name = name
        self.network = network
        self.trainable = trainable
        self._trainer = {
            "max_epochs": max_epochs,
            "train_data_loader": train_data_loader,
            "optimizer": optimizer,
            "loss_function": loss_function,
            **options,
        }
        self.validator = validator
        self.handlers = list(handlers)
        self._handlers = {
            "validator": validator,
            "interval": interval,
            "lr_scheduler": lr_scheduler,
            "lr_unit": lr_unit,
            "early_stopping": early_stopping,
        }

    def run(self, context: StageContext) -> None:
        """Train, or load the weights of a training that is finished.

        Raises:
            TrainingInterrupted: after Ctrl-C, when the state is saved.
        """
        folder = context.folder / self.name
        network = undistributed(self.network)
        if context.resume and _is_finished(folder / "checkpoints" / "last.pt"):
            load_network_state(network, folder / "checkpoints" / "best.pt")
            return
        _forget_best(self.validator)
        with training_only(network, self.trainable):
            handlers = train_handlers(
                folder,
                resume=context.resume,
                checkpoint_seconds=context.checkpoint_seconds,
                seed=context.seed_of(self.name),
                **context.display,
                **self._handlers,
            )
            trainer = Trainer(
                context.device,
                network=distribute(network, context.device),
                precision=context.precision,
                train_handlers=[*self.handlers, handlers],
                **self._trainer,
            )
            trainer.run()


class FitStage:
    """A stage without gradients: something is fitted, and the result lies in the network's buffers.

    Args:
        name: of the stage, and of its file.
        fit: called with the network (in eval mode) and a folder for what may be kept in between
            (:func:`medresnet3d.engines.out_of_fold.out_of_fold`); changes the network. Random numbers that it draws
            from the global generators repeat with the run's seed.
    """

    def __init__(self, name: str, fit: Callable[[nn.Module, Path], None]) -> None:
        self.name = name
        self.fit = fit

    def run(self, context: StageContext) -> None:
        """Fit, or load what was fitted."""
        result = context.folder / f"{self.name}.pt"
        fitted_before = context.resume and result.is_file()
        _wait()  # until all processes have looked
        if not fitted_before:
            seed_global(context.seed_of(self.name))
            context.network.eval()
            self.fit(context.network, context.folder / self.name)
            if rank() == 0:
                save_checkpoint({"network": context.network.state_dict()}, result)
            _wait()
        load_network_state(context.network, result)


class StagedTrainer(Trainer):
    """A :class:`medresnet3d.engines.Trainer` with stages before and after it.

    The trainer itself is the main stage: MONAI finds its ids where it looks for them, and its checkpoints, figures and
    resuming are those of any run. Its one :func:`medresnet3d.engines.train_handlers` says where the run is kept and
    whether it is resumed; the stages lie beside its checkpoints in ``stages/``. When all are done, ``best.pt`` has the
    final network and ``final_metrics``, what the validator measures of it.

    Args:
        before: stages before the main one, in their order.
        after: stages after it.
        trainable: see :class:`GradientStage`, for the main stage; or a function of the network that gives the patterns
            when that stage begins, for what an earlier stage decides.
        **options: as for :class:`medresnet3d.engines.Trainer`.

    Raises:
        ConfigError: if two stages have one name, or the handler is missing.
    """

    def __init__(
        self,
        *,
        before: Sequence[Stage] = (),
        after: Sequence[Stage] = (),
        trainable: str | Sequence[str] | Callable[[nn.Module], Sequence[str]] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        names = [stage.name for stage in (*before, *after)]
        if len(set(names)) < len(names) or not all(re.fullmatch(r"\w[\w-]*", name) for name in names):
            raise ConfigError(f"The stages are called {', '.join(names)}; give each a name of its own, of letters.")
        found = [each for each in options.get("train_handlers") or () if isinstance(each, TrainHandlers)]
        self.run_handlers = found[0] if found else None
        if names and not found:
            raise ConfigError("Training in stages needs medresnet3d.engines.train_handlers among its train_handlers.")
        self.before, self.after, self.trainable = list(before), list(after), trainable

    def run(self) -> None:  # type: ignore[override]
        """Run all stages, or what is left of them.

        Raises:
            TrainingInterrupted: after Ctrl-C, when the state is saved.
            DataError: when the loss is no longer a finite number, or something cannot be fitted.
        """
        context = self._context()
        if context is not None and not context.resume:
            _clear(context.folder)
        for stage in self.before:
            stage.run(context)  # type: ignore[arg-type]
        _forget_best(self.run_handlers.validator if self.run_handlers else None)
        whole = undistributed(self.network)
        trainable = self.trainable(whole) if callable(self.trainable) else self.trainable
        with training_only(whole, trainable) as frozen:
            if frozen and dist.is_initialized():
                self.network = distribute(whole, self.state.device)
            super().run()
        for stage in self.after:
            stage.run(context)  # type: ignore[arg-type]
        if self.after:
            self._publish()

    def _context(self) -> StageContext | None:
        handlers = self.run_handlers
        if handlers is None:
            return None
        return StageContext(
            network=undistributed(self.network),
            device=torch.device(self.state.device),
            folder=handlers.output_dir / "stages",
            seed=handlers.session.seed,
            resume=handlers.resume,
            precision=self.precision,
            checkpoint_seconds=handlers.checkpoint_seconds,
            display={"tensorboard": handlers.log.tensorboard, "progress": handlers.log.progress},
        )

    def _publish(self) -> None:
        """Measure the final network and make it the run's result."""
        handlers = self.run_handlers
        assert handlers is not None  # __init__ asks for it
        metrics: dict[str, float] = {}
        if handlers.validator is not None:
            seed_global(derive_seed(handlers.session.seed, *b"final"))
            handlers.validator.run(self.state.epoch)
            metrics = scalar_metrics(handlers.validator.state.metrics)
        if rank() == 0:
            final = undistributed(self.network).state_dict()
            for name in ("last", "best"):
                state = load_checkpoint(handlers.checkpoint(name))
                state |= {"final_metrics": metrics} | ({"network": final} if name == "best" else {})
                save_checkpoint(state, handlers.checkpoint(name))
        _wait()


@contextmanager
def training_only(network: nn.Module, trainable: str | Sequence[str] | None) -> Iterator[bool]:
    """Freeze all parameters but those whose names begin with one of the patterns, inside the block.

    What was frozen before stays so. Norms whose parameters are all frozen neither change their statistics nor use those
    of a batch.

    Args:
        network: without a wrapper for distribution.
        trainable: regular expressions; ``None``: nothing is frozen.

    Yields:
        whether anything is frozen.

    Raises:
        ConfigError: if a pattern fits no parameter.
    """
    if trainable is None:
        yield False
        return
    patterns = [trainable] if isinstance(trainable, str) else list(trainable)
    before = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
    for pattern in patterns:
        if not any(re.match(pattern, name) for name in before):
            raise ConfigError(
                f"No parameter's name begins with {pattern!r}; names are {', '.join(list(before)[:3])}, ..."
            )
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(before[name] and any(re.match(pattern, name) for pattern in patterns))
    norms = [module for module in network.modules() if isinstance(module, _NORMS) and _is_frozen(module)]

    def keep_statistics(module: nn.Module, inputs: Any) -> None:
        for norm in norms:
            norm.eval()

    hook = network.register_forward_pre_hook(keep_statistics)
    try:
        yield True
    finally:
        hook.remove()
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(before[name])


_NORMS = (nn.modules.batchnorm._NormBase, BatchRenorm)


def _is_frozen(module: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in module.parameters())


def _is_finished(checkpoint: Path) -> bool:
    return checkpoint.is_file() and bool(load_checkpoint(checkpoint)["session"]["finished"])


def _forget_best(validator: Any) -> None:
    """Let a validator that another stage used begin anew."""
    if validator is not None:
        validator.state.best_metric = validator.state.best_metric_epoch = -1


def _clear(folder: Path) -> None:
    """Remove what an older run left."""
    if rank() == 0:
        shutil.rmtree(folder, ignore_errors=True)
    _wait()


def _wait() -> None:
    if dist.is_initialized():
        dist.barrier()
