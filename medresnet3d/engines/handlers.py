"""Everything that happens around the iterations of a training run, as one MONAI/ignite handler."""

from __future__ import annotations

import os
import time
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from monai.utils import CommonKeys
from torch.optim.lr_scheduler import ReduceLROnPlateau

from medresnet3d.data.seeding import derive_seed, seed_global
from medresnet3d.engines.checkpoint import collect, load_checkpoint, load_network_state, restore, save_checkpoint
from medresnet3d.engines.device import any_rank, rank, undistributed
from medresnet3d.engines.epochs import tell_epoch
from medresnet3d.engines.interrupt import InterruptGuard
from medresnet3d.engines.logs import RunLog, scalar_metrics
from medresnet3d.engines.metric_state import load_metric_states
from medresnet3d.engines.session import Session
from medresnet3d.errors import ConfigError

_ITERATION_STREAM, _VALIDATION_STREAM = 1, 2


class TrainHandlers:
    """Seeding, validation, learning-rate schedule, checkpoints, logs and Ctrl-C of a run; see :func:`train_handlers`.

    Every iteration and every validation draws its random numbers from a stream of its own, and a checkpoint holds all
    else that the next iteration depends on. So a run that was killed and resumed ends with the same weights, bit for
    bit on the CPU, as one that was never broken off.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        validator: Any,
        interval: int,
        lr_scheduler: Any,
        lr_unit: str,
        resume: bool,
        checkpoint_seconds: float,
        early_stopping: int | None,
        seed: int,
        tensorboard: bool,
        progress: bool,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.validator = validator
        self.interval = interval
        self.lr_scheduler = lr_scheduler
        self.lr_unit = lr_unit
        self.resume = resume
        self.checkpoint_seconds = checkpoint_seconds
        self.early_stopping = early_stopping
        self.session = Session(seed=seed)
        self.interrupt = InterruptGuard()
        self.log = RunLog(self.output_dir, tensorboard, progress)
        self.is_main = True
        self._metrics: dict[str, Any] = {}
        self._saved_at = self._counted_at = 0.0

    def checkpoint(self, name: str) -> Path:
        """Return the path of ``last`` or ``best``."""
        return self.output_dir / "checkpoints" / f"{name}.pt"

    def attach(self, engine: Engine) -> None:
        """Attach to a :class:`medresnet3d.engines.Trainer`."""
        for event, handler in (
            (Events.STARTED, self._start),
            (Events.EPOCH_STARTED, self._start_epoch),
            (Events.ITERATION_STARTED, self._seed_iteration),
            (Events.ITERATION_COMPLETED, self._complete_iteration),
            (Events.EPOCH_COMPLETED, self._complete_epoch),
            (Events.COMPLETED, self._complete),
            (Events.EXCEPTION_RAISED, self._fail),
        ):
            engine.add_event_handler(event, handler)
        if self.validator is not None:
            self.validator.add_event_handler(Events.ITERATION_COMPLETED, self._stop_validation)

    # --- the run's beginning and end -----------------------------------------------------------------------------

    def _start(self, engine: Any) -> None:
        self.is_main = rank() == 0
        resumed = self._restore(engine)
        if self.is_main:
            self._clear(resumed)
        self.interrupt.install()
        if self.is_main:
            self.log.open(engine.state.iteration, engine.total_steps)
        self._saved_at = self._counted_at = time.monotonic()
        if self.session.epoch_open:
            load_metric_states(engine.train_metrics, self._metrics)
            engine.fire_event(Events.EPOCH_COMPLETED)
        else:
            self._stop_early(engine)

    def _restore(self, engine: Any) -> bool:
        path = self.checkpoint("last")
        if not self.resume or not path.is_file():
            return False
        state = load_checkpoint(path)
        restore(engine, self.session, state, path, self.lr_scheduler)
        self._metrics = state["metrics"]
        if self.validator is not None:
            self.validator.state.best_metric = self.session.best_metric
            self.validator.state.best_metric_epoch = self.session.best_epoch
        return True

    def _clear(self, resumed: bool) -> None:
        """Remove what a killed process left half written and, in a new run, an older run's results."""
        for leftover in self.output_dir.glob("checkpoints/.*.pt"):
            leftover.unlink(missing_ok=True)
        if not resumed:
            for old in (self.checkpoint("last"), self.checkpoint("best"), self.output_dir / "metrics.csv"):
                old.unlink(missing_ok=True)

    def _complete(self, engine: Any) -> None:
        self._close()
        if engine.interrupted is not None:
            return
        self.session.finished = True
        if self.session.best_epoch < 0:
            self._save(engine, "best")
        self._save(engine, "last")
        if dist.is_initialized():
            dist.barrier()
        load_network_state(engine.network, self.checkpoint("best"))

    def _fail(self, engine: Any, error: BaseException) -> None:
        self._close()
        raise error

    def _close(self) -> None:
        self.interrupt.remove()
        self.log.close()

    # --- epochs and iterations -----------------------------------------------------------------------------------

    def _start_epoch(self, engine: Any) -> None:
        done = engine.state.iteration % engine.state.epoch_length
        self.session.finished = False
        if done == 0:
            self.session.start_epoch()
        else:
            load_metric_states(engine.train_metrics, self._metrics)
        if hasattr(engine.data_loader, "set_epoch"):
            engine.data_loader.set_epoch(engine.state.epoch, start_batch=done)

    def _seed_iteration(self, engine: Any) -> None:
        seed_global(derive_seed(self.session.seed, _ITERATION_STREAM, rank(), engine.state.iteration))

    def _complete_iteration(self, engine: Any) -> None:
        session, state = self.session, engine.state
        output = state.output[0] if isinstance(state.output, list) else state.output
        loss = float(torch.as_tensor(output[CommonKeys.LOSS]).mean())
        session.loss_sum += loss
        session.loss_count += 1
        session.epoch_open = state.iteration % state.epoch_length == 0 or state.iteration == engine.total_steps
        if self.lr_scheduler is not None and self.lr_unit == "iteration":
            self.lr_scheduler.step()
        self._count_time()
        self.log.iteration(state.iteration, state.epoch, state.max_epochs, loss, session.mean_loss)
        if any_rank(self.interrupt.requested, state.device):
            self._interrupt(engine)
        elif time.monotonic() - self._saved_at >= self.checkpoint_seconds:
            self._save(engine, "last")

    def _complete_epoch(self, engine: Any) -> None:
        if engine.interrupted is not None:
            return
        row = self._row(engine) | self._validate(engine)
        if engine.interrupted is not None:
            return
        if hasattr(self.lr_scheduler, "observe") and self._key in row:
            self.lr_scheduler.observe(row[self._key])
        if self.lr_scheduler is not None and self.lr_unit == "epoch":
            self._step_lr(row)
        self._count_time()
        self.session.history.append(row | {"seconds": round(self.session.seconds, 3)})
        self.session.epoch_open = False
        if self.is_main:
            self.log.epoch(self.session.history, self._key)
        if self.session.best_epoch == engine.state.epoch:
            self._save(engine, "best")
        self._stop_early(engine)
        if time.monotonic() - self._saved_at >= self.checkpoint_seconds:
            self._save(engine, "last")
        tell_epoch(self.session.history[-1])

    def _row(self, engine: Any) -> dict[str, float]:
        row = {
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "train_loss": self.session.mean_loss,
            "lr": float(engine.optimizer.param_groups[0]["lr"]),
        }
        return row | {f"train_{name}": value for name, value in scalar_metrics(engine.state.metrics).items()}

    def _count_time(self) -> None:
        now = time.monotonic()
        self.session.seconds += now - self._counted_at
        self._counted_at = now

    # --- validation, learning rate, early stopping ---------------------------------------------------------------

    @property
    def _key(self) -> str | None:
        name = None if self.validator is None else self.validator.state.key_metric_name
        return None if name is None else f"val_{name}"

    def _validate(self, engine: Any) -> dict[str, float]:
        """Validate if it is this epoch's turn; return the metrics as columns of metrics.csv."""
        epoch = engine.state.epoch
        if self.validator is None or (epoch % self.interval and engine.state.iteration < engine.total_steps):
            return {}
        if dist.is_initialized():
            for buffer in undistributed(engine.network).buffers():
                dist.broadcast(buffer, 0)
        seed_global(derive_seed(self.session.seed, _VALIDATION_STREAM, rank(), epoch))
        with engine.answering():
            self.validator.run(epoch)
        if any_rank(self.interrupt.requested, engine.state.device):
            self._interrupt(engine)
            return {}
        state = self.validator.state
        self.session.best_metric, self.session.best_epoch = state.best_metric, state.best_metric_epoch
        self.session.waited = 0 if state.best_metric_epoch == epoch else self.session.waited + 1
        return {f"val_{name}": value for name, value in scalar_metrics(state.metrics).items()}

    def _step_lr(self, row: dict[str, float]) -> None:
        with warnings.catch_warnings():
            # a run that goes on with a validation steps the schedule before this process's first optimizer step
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
            if not isinstance(self.lr_scheduler, ReduceLROnPlateau):
                self.lr_scheduler.step()
            elif self._key in row:
                self.lr_scheduler.step(row[self._key])

    def _stop_early(self, engine: Any) -> None:
        if self.early_stopping is not None and self.session.waited >= self.early_stopping:
            engine.terminate()

    # --- checkpoints and Ctrl-C ----------------------------------------------------------------------------------

    def _save(self, engine: Any, name: str) -> None:
        if self.is_main:
            with engine.answering() if name == "best" else nullcontext():
                save_checkpoint(collect(engine, self.session, self.lr_scheduler), self.checkpoint(name))
        if name == "last":
            self._saved_at = time.monotonic()

    def _stop_validation(self, validator: Any) -> None:
        # Several processes end the validation together, since their metrics wait for each other.
        if self.interrupt.requested and not dist.is_initialized():
            validator.terminate()

    def _interrupt(self, engine: Any) -> None:
        self._save(engine, "last")
        engine.interrupted = (
            f"Stopped after iteration {engine.state.iteration} of {engine.total_steps} (epoch {engine.state.epoch} of "
            f"{engine.state.max_epochs}); the state is saved in {self.checkpoint('last')}."
        )
        engine.terminate()


def train_handlers(
    output_dir: str | os.PathLike[str],
    validator: Any = None,
    interval: int = 1,
    lr_scheduler: Any = None,
    lr_unit: str = "epoch",
    resume: bool = False,
    checkpoint_seconds: float = 60.0,
    early_stopping: int | None = None,
    seed: int = 0,
    tensorboard: bool = True,
    progress: bool = True,
) -> TrainHandlers:
    """Make the one handler that a training run needs, for ``train_handlers`` of :class:`medresnet3d.engines.Trainer`.

    In a bundle's ``train.json`` it is the element of a list, since MONAI's property check wants one::

        "handlers": [{"_target_": "medresnet3d.engines.train_handlers", "output_dir": "@output_dir",
                      "validator": "@validate#evaluator", "interval": "@val_interval", "lr_scheduler": "@lr_scheduler",
                      "seed": "@seed"}]

    The folder gets ``metrics.csv`` (a line an epoch), ``tensorboard/`` and ``checkpoints/last.pt`` and ``best.pt``.
    When training ends, the network has the weights of the best validation.

    Args:
        output_dir: the run's folder.
        validator: engine that validates, with a key metric; ``None``: no validation, and the last weights are the best.
        interval: validate every so many epochs, and after the last.
        lr_scheduler: a schedule of ``torch.optim.lr_scheduler`` (``ReduceLROnPlateau`` gets the key metric) or of
            :func:`medresnet3d.optimizers.build_lr_scheduler` (``adaptive_cosine`` observes the key metric).
        lr_unit: step the schedule after every ``"epoch"`` or ``"iteration"``.
        resume: go on from ``checkpoints/last.pt``, if there is one, instead of starting anew.
        checkpoint_seconds: save ``last.pt`` when the last one is that old; 0: after every iteration.
        early_stopping: stop after that many validations without a better key metric; ``None``: never.
        seed: seed of all random streams, the same as that of data set and loader.
        tensorboard: write TensorBoard's event files.
        progress: show the progress of the training.

    Raises:
        ConfigError: if ``interval``, ``lr_unit`` or ``early_stopping`` make no sense.
        WeightsError: while starting, if the checkpoint to resume from is damaged or of another network.
    """
    if interval < 1:
        raise ConfigError(f"interval is {interval}; validate every 1 or more epochs.")
    if lr_unit not in ("epoch", "iteration"):
        raise ConfigError(f'lr_unit is "{lr_unit}"; use "epoch" or "iteration".')
    if early_stopping is not None and (early_stopping < 1 or validator is None):
        raise ConfigError(f"early_stopping is {early_stopping}; it needs a validator and a number of 1 or more.")
    return TrainHandlers(
        output_dir,
        validator,
        interval,
        lr_scheduler,
        lr_unit,
        resume,
        checkpoint_seconds,
        early_stopping,
        seed,
        tensorboard,
        progress,
    )
