"""What a training run shows and writes while it runs: metrics.csv, TensorBoard and the progress bar."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medresnet3d.io.atomic import atomic_write_text
from medresnet3d.progress import Progress


def scalar_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return metrics as plain numbers; one of several values (one a class) becomes ``name_0``, ``name_1``, ..."""
    scalars: dict[str, float] = {}
    for name, value in metrics.items():
        values = np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value, dtype=float).ravel()
        if values.size == 1:
            scalars[name] = float(values[0])
        else:
            scalars |= {f"{name}_{i}": float(each) for i, each in enumerate(values)}
    return scalars


def write_metrics(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Write one line for each row to a CSV file, whole or not at all; columns are those of all rows."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write_text(path, text.getvalue())


class RunLog:
    """Shows and writes a run's progress: a progress bar, ``metrics.csv`` and ``tensorboard/``.

    Args:
        output_dir: the run's folder.
        tensorboard: write TensorBoard's event files.
        progress: show a progress bar.
    """

    def __init__(self, output_dir: Path, tensorboard: bool = True, progress: bool = True) -> None:
        self.output_dir = output_dir
        self.tensorboard = tensorboard
        self.progress = progress
        self._writer: Any = None
        self._progress: Progress | None = None
        self._last_metrics = ""

    def open(self, iteration: int, total: int) -> None:
        """Start at ``iteration`` (0 in a new run) of ``total``."""
        if self.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.output_dir / "tensorboard"), purge_step=iteration + 1)
        if self.progress:
            self._progress = Progress("training", total - iteration)
            self._progress.__enter__()

    def close(self) -> None:
        """End the display and the event files."""
        if self._progress is not None:
            self._progress.__exit__(None, None, None)
        if self._writer is not None:
            self._writer.close()
        self._progress = self._writer = None

    def iteration(self, iteration: int, epoch: int, max_epochs: int, loss: float, mean_loss: float) -> None:
        """Show and write one iteration's loss."""
        if self._writer is not None:
            self._writer.add_scalar("train/iteration_loss", loss, iteration)
        if self._progress is not None:
            self._progress.advance(status=f"epoch {epoch}/{max_epochs}, loss {mean_loss:.4g}{self._last_metrics}")

    def epoch(self, rows: Sequence[Mapping[str, float]], key: str | None) -> None:
        """Write the epochs so far; the last row is new.

        Args:
            rows: all finished epochs.
            key: name of the key metric's column, shown in the progress bar.
        """
        row = rows[-1]
        write_metrics(rows, self.output_dir / "metrics.csv")
        if self._writer is not None:
            for name, value in row.items():
                if name not in ("epoch", "iteration"):
                    self._writer.add_scalar(f"epoch/{name}", value, int(row["iteration"]))
        if key is not None and key in row:
            self._last_metrics = f", {key} {row[key]:.4g}"
