"""What is recorded while a cell trains: loss, time and held-out metric over the steps, and the memory of a step."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

import torch
from ignite.engine import Engine, Events
from monai.engines import IterationEvents
from monai.utils import CommonKeys
from torch import nn

from medresnet3d.io.atomic import atomic_write_text

_COLUMNS = ("step", "loss", "seconds", "metric")
_MEMORY_STEP = 2
#: Measuring before the end stops where one measurement takes longer than this share of the training, and than a second.
_MEASURING_SHARE, _MEASURING_SECONDS = 0.1, 1.0
_MB = 1e6


class Calibration:
    """Ends a training after a few steps and tells how long one takes.

    Args:
        least: steps to time, after a first one that is not.
        seconds: go on until this long has passed; a second at most.
    """

    def __init__(self, least: int, seconds: float) -> None:
        self._least, self._seconds = least, min(seconds, 1.0)
        self._marks: list[float] = []

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, after its own handlers."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._mark)

    def _mark(self, engine: Engine) -> None:
        self._marks.append(time.perf_counter())
        if len(self._marks) > self._least and self._marks[-1] - self._marks[0] >= self._seconds:
            engine.terminate()

    @property
    def step_seconds(self) -> float:
        """Median time of a step, loading of its batch included."""
        return statistics.median(b - a for a, b in zip(self._marks, self._marks[1:], strict=False))


class Course:
    """Records a training step by step into a CSV file, and goes on with the file of a resumed one.

    Args:
        path: the CSV file.
        steps: number of steps of the whole training.
        report: called with (steps done, steps in all).
        points: steps after which to measure.
        measure: gives the metrics of the held-out part, the key metric first.
    """

    def __init__(
        self,
        path: Path,
        steps: int,
        report: Callable[[int, int], None],
        points: Sequence[int],
        measure: Callable[[], dict[str, float]],
    ) -> None:
        self._path, self._steps, self._report = path, steps, report
        self._points, self._measure = list(points), measure
        self._rows: list[dict[str, float]] = []
        self._mark = 0.0
        self._first = 0
        self._saved = _SavedTensors()
        self._open = ExitStack()
        self._hooks = ExitStack()
        self._file: TextIO | None = None

    def run(self, engine: Any) -> dict[str, float]:
        """Run a trainer to its end and give the metrics that it comes to."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_STARTED, self._start_step)
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self._complete_loss)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._complete_step)
        with self._open, self._hooks:
            engine.run()
        metrics = self._measure()
        if self._rows:
            self._rows[-1]["metric"] = _first(metrics)
        self._write()
        return metrics

    def _start(self, engine: Any) -> None:
        self._first = engine.state.iteration
        self._rows = [row for row in read_course(self._path) if row["step"] <= self._first]
        self._write()
        self._file = self._open.enter_context(self._path.open("a", encoding="utf-8", buffering=1))
        if engine.state.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(engine.state.device)
        self._mark = time.perf_counter()

    def _start_step(self, engine: Any) -> None:
        if engine.state.iteration == min(self._first + _MEMORY_STEP, self._steps):
            self._hooks.enter_context(self._saved.watch())

    def _complete_loss(self, engine: Any) -> None:
        self._hooks.close()

    def _complete_step(self, engine: Any) -> None:
        output = engine.state.output[0] if isinstance(engine.state.output, list) else engine.state.output
        loss = float(torch.as_tensor(output[CommonKeys.LOSS]).mean())
        step = engine.state.iteration
        row = {"step": step, "loss": loss, "seconds": time.perf_counter() - self._mark, "metric": math.nan}
        self._rows.append(row)
        if step in self._points:
            row["metric"] = self._measure_now()
        assert self._file is not None
        self._file.write(_line(row))
        self._report(step, self._steps)
        self._mark = time.perf_counter()

    def _measure_now(self) -> float:
        started = time.perf_counter()
        value = _first(self._measure())
        if time.perf_counter() - started > max(
            _MEASURING_SECONDS, _MEASURING_SHARE * self._steps * self._step_seconds()
        ):
            self._points.clear()
        return value

    def _write(self) -> None:
        atomic_write_text(self._path, ",".join(_COLUMNS) + "\n" + "".join(map(_line, self._rows)))

    def _step_seconds(self) -> float:
        """Median time of a step; the first ones warm up and are left out where there are others."""
        timed = [row["seconds"] for row in self._rows if row["step"] > _MEMORY_STEP]
        return statistics.median(timed or [row["seconds"] for row in self._rows] or [math.nan])

    def summary(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, float]:
        """Give the figures of the whole training: loss at the end, seconds, time and memory of a step.

        The loss is the mean over the last tenth of the steps.
        """
        last = [row["loss"] for row in self._rows[-max(1, len(self._rows) // 10) :]]
        return {
            "train_loss": statistics.fmean(last) if last else math.nan,
            "training_seconds": sum(row["seconds"] for row in self._rows),
            "step_seconds": self._step_seconds(),
            "step_memory_mb": self._memory(network, optimizer) / _MB,
        }

    def _memory(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> float:
        parameters = list(network.parameters())
        if parameters and parameters[0].is_cuda:
            return float(torch.cuda.max_memory_allocated(parameters[0].device))
        state = [each for group in optimizer.state.values() for each in group.values() if torch.is_tensor(each)]
        held = [*parameters, *network.buffers(), *state]
        gradients = sum(one.numel() * one.element_size() for one in parameters if one.requires_grad)
        return sum(one.numel() * one.element_size() for one in held) + gradients + self._saved.size(parameters)


class _SavedTensors:
    """Counts what the forward pass keeps for the backward pass, each storage once: most of a step's memory."""

    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}

    def watch(self) -> Any:
        """Give a context in which saved tensors are counted."""
        self._sizes.clear()
        return torch.autograd.graph.saved_tensors_hooks(self._count, lambda tensor: tensor)

    def _count(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        self._sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    def size(self, parameters: Sequence[torch.Tensor]) -> int:
        """Give the bytes counted, those of the parameters aside."""
        own = {parameter.untyped_storage().data_ptr() for parameter in parameters}
        return sum(size for pointer, size in self._sizes.items() if pointer not in own)


def _first(metrics: dict[str, float]) -> float:
    return next(iter(metrics.values()), math.nan)


def _line(row: dict[str, float]) -> str:
    return ",".join("" if math.isnan(row[name]) else f"{row[name]:.6g}" for name in _COLUMNS) + "\n"


def read_course(path: Path) -> list[dict[str, float]]:
    """Read a course file; the last row of a killed process may not be whole and is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[1:-1]
    cells = [line.split(",") for line in lines if line.count(",") == len(_COLUMNS) - 1]
    return [dict(zip(_COLUMNS, (float(text or "nan") for text in row), strict=True)) for row in cells]
