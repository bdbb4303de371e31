"""Checkpoints of a whole training run: written whole or not at all, and read back as plain tensors and numbers."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from medresnet3d.data.seeding import random_state, set_random_state
from medresnet3d.engines.device import undistributed
from medresnet3d.engines.metric_state import metric_states
from medresnet3d.engines.session import Session
from medresnet3d.errors import ConfigError, WeightsError
from medresnet3d.io.atomic import atomic_path

FORMAT = "medresnet3d checkpoint 1"


def plain(value: Any) -> Any:
    """Return ``value`` with numpy's numbers and arrays as python's and torch's, all the way down."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, Mapping):
        return {plain(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain(each) for each in value)
    return value


def save_checkpoint(state: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write ``state`` to ``path``, whole or not at all.

    Args:
        state: nested dictionaries and lists of tensors, numbers and strings.
        path: file to write, usually ``RUN/checkpoints/last.pt``.

    Raises:
        DataError: if the disk is full or the folder cannot be written.
    """
    # Through memory: on a full disk torch's own file writer fails with an error that does not name the reason.
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **plain(state)}, buffer)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what :func:`save_checkpoint` wrote, to the CPU, with ``weights_only=True``.

    Raises:
        WeightsError: if the file is missing, damaged or no checkpoint of a training run of this package.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path} does not exist; there is no checkpoint to continue from.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(
            f"{path} is damaged or holds more than tensors and numbers ({type(error).__name__}); "
            "continue from another checkpoint or start the run anew in another folder."
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format", "weights alone") if isinstance(state, dict) else type(state).__name__
        raise WeightsError(
            f'{path} is no checkpoint of a training run (expected "{FORMAT}", found {found}); '
            "give the checkpoints/last.pt of a run folder."
        )
    return state


def _stateful(part: Any) -> bool:
    return hasattr(part, "state_dict") and hasattr(part, "load_state_dict")


def collect(engine: Any, session: Session, lr_scheduler: Any = None) -> dict[str, Any]:
    """Return the state of a run between two iterations, for :func:`save_checkpoint`.

    Args:
        engine: the trainer.
        session: what the handlers keep.
        lr_scheduler: the learning-rate schedule, if there is one.
    """
    loss = engine.loss_function
    iteration = engine.state.iteration
    inside_epoch = session.epoch_open or (iteration % engine.state.epoch_length != 0 and iteration < engine.total_steps)
    return {
        "network": undistributed(engine.network).state_dict(),
        "optimizer": engine.optimizer.state_dict(),
        "lr_scheduler": None if lr_scheduler is None else lr_scheduler.state_dict(),
        "loss": loss.state_dict() if _stateful(loss) else None,
        "scaler": None if engine.scaler is None else engine.scaler.state_dict(),
        "average": None if engine.average is None else engine.average.state_dict(),
        "trainer": {
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "epoch_length": engine.state.epoch_length,
            "precision": engine.precision,
        },
        "metrics": metric_states(engine.train_metrics) if inside_epoch else {},
        "session": session.state_dict(),
        "random": random_state(),
        "seed": session.seed,
    }


def restore(engine: Any, session: Session, state: Mapping[str, Any], path: Any, lr_scheduler: Any = None) -> None:
    """Put a run back to where :func:`collect` found it; all processes of a run call this.

    Args:
        engine: the trainer, before its first iteration.
        session: what the handlers keep; filled.
        state: from :func:`load_checkpoint`.
        path: the file it came from, for messages.
        lr_scheduler: the learning-rate schedule, if there is one.

    Raises:
        ConfigError: if the run was started with another seed, number format or number of iterations in an epoch.
        WeightsError: if the checkpoint is of another network, optimizer or schedule.
    """
    trainer = state["trainer"]
    now = {"epoch_length": engine.state.epoch_length, "precision": engine.precision, "seed": session.seed}
    then = {**trainer, "seed": state["seed"]}
    different = [f"{key} was {then[key]} and is {now[key]}" for key in now if now[key] != then[key]]
    if different:
        raise ConfigError(
            f"{path} is of a run with other settings ({'; '.join(different)}); "
            "resume with the settings of the run, or start a new one in another folder."
        )
    try:
        undistributed(engine.network).load_state_dict(state["network"])
        engine.optimizer.load_state_dict(state["optimizer"])
        parts = {
            "lr_scheduler": lr_scheduler,
            "loss": engine.loss_function,
            "scaler": engine.scaler,
            "average": engine.average,
        }
        for saved, part in parts.items():
            if state.get(saved) is not None and _stateful(part):
                part.load_state_dict(state[saved])
        session.load_state_dict(state["session"])
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        first = str(error).strip().splitlines()[0]
        raise WeightsError(
            f"{path} does not fit the network or optimizer of this run ({first}); "
            "resume with the configuration of the run."
        ) from error
    iteration, length = trainer["iteration"], trainer["epoch_length"]
    # the last epoch of a run with max_steps may be a part of one
    at_an_end = session.epoch_open or iteration >= engine.total_steps
    engine.state.iteration = iteration
    engine.state.epoch = -(-iteration // length) if at_an_end else iteration // length
    set_random_state(state["random"])


def load_network_state(network: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load the network's weights from a checkpoint of a run.

    Raises:
        WeightsError: if the file cannot be used or is of another network.
    """
    try:
        undistributed(network).load_state_dict(load_checkpoint(path)["network"])
    except RuntimeError as error:
        raise WeightsError(f"{path} is of another network ({str(error).splitlines()[0]}).") from error
