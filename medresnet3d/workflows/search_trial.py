"""One trial of a search: a training with the trial's values, in a run folder of its own."""

from __future__ import annotations

import csv
import gc
import json
import math
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from medresnet3d.engines.epochs import listen_to_epochs
from medresnet3d.errors import CancelledError, DataError, MedResNetError
from medresnet3d.progress import hide_progress
from medresnet3d.workflows.run_folder import ENVIRONMENT
from medresnet3d.workflows.search_job import SearchJob
from medresnet3d.workflows.search_ledger import Ledger, TrialRecord
from medresnet3d.workflows.train import train
from medresnet3d.workflows.trial_budget import length_overrides

if TYPE_CHECKING:
    from optuna.trial import Trial

#: How often the holder of a trial gives a sign of life.
BEAT_S = 5.0
#: Share of a training in which it is not compared with others yet.
_UNTOUCHED = 0.25
#: What a finished trial has no more use for.
_LEFT_OVER = ("checkpoints", "tensorboard")
#: What is noted of a trial with the same values as an earlier one, which is not trained again.
_SHARED = ("set", "place", "epochs", "best_epoch")

#: Called with a short text on the running trial.
Status = Callable[[str], None]


class Heartbeat:
    """Signs of life of a running attempt, and of the process that started this one.

    Args:
        trial: the attempt.
        check: called with every beat.
    """

    def __init__(self, trial: Trial, check: Callable[[], None]) -> None:
        self.trial = trial
        self.check = check
        self.lost = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def _beat(self) -> None:
        from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError

        count = 0
        while not self._ended.wait(BEAT_S):
            self.check()
            count += 1
            try:
                self.trial.set_user_attr("beat", count)
            except UpdateFinishedTrialError:
                self.lost = True
                return
            except StorageInternalError:
                # a database that is away for a while costs beats, not the trial
                continue

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        self._ended.set()
        self._thread.join()


class _PrunedError(CancelledError):
    """The trial does worse than the others."""


@dataclass
class TrialRun:
    """Runs one attempt at a trial and hands it in.

    Args:
        job: the search.
        ledger: where to hand in.
        trial: the attempt.
        record: its slot and values.
        status: called after each epoch.
        check: called now and then, from another thread.
    """

    job: SearchJob
    ledger: Ledger
    trial: Trial
    record: TrialRecord
    status: Status
    check: Callable[[], None]
    _notes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Prepare the signs of life."""
        self._heart = Heartbeat(self.trial, self.check)

    @property
    def folder(self) -> Path:
        """The trial's run folder."""
        return trial_folder(self.job.folder, self.record.slot)

    def run(self) -> None:
        """Train and hand in; values that a complete trial had before are not trained with again.

        Raises:
            KeyboardInterrupt: after Ctrl-C; the attempt is handed in as interrupted, and its state is saved.
        """
        twin = self.ledger.twin(self.record)
        if twin is not None:
            known = {name: twin.notes[name] for name in _SHARED if name in twin.notes}
            notes = {**known, "same_as": twin.notes.get("same_as", twin.slot), "seconds": 0.0}
            self.ledger.hand_in(self.trial, twin.value, "complete", notes)
            return
        started = time.monotonic()
        value, state = None, "complete"
        try:
            with self._heart, hide_progress():
                self._train()
            value = self._value()
        except KeyboardInterrupt:
            self.ledger.hand_in(self.trial, None, "interrupted", {})
            raise
        except _PrunedError:
            state = "pruned"
        except Exception as error:  # a trial that fails in whatever way is recorded and does not end the search
            state = "failed"
            self._notes["error"] = _sentence(error)
        self._notes["seconds"] = round(time.monotonic() - started, 1)
        self._notes |= {"place": str(self.folder), **self._course()}
        if self.ledger.hand_in(self.trial, value, state, self._notes):
            self._clear()

    def _train(self) -> None:
        settings = {**self.job.overrides, **self.record.values}
        before = _settings_of(self.folder)
        resume = before is not None and settings.items() <= before.items()
        if resume:
            self._notes["set"] = before
            self._call_train(resume=True)
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.job.budget:
            files = (Path(self.job.bundle), Path(self.job.data))
            settings |= length_overrides(*files, settings, self.job.device, self.job.budget)
        self._notes["set"] = settings
        self._call_train(set=settings)

    def _call_train(self, **options: Any) -> None:
        job = self.job
        with listen_to_epochs(self._listen):  # and not to those of the timing of a budget
            train(job.bundle, job.data, self.folder, device=job.device, trust=job.trust, rivals=False, **options)

    def _listen(self, row: Mapping[str, float]) -> None:
        """Report an epoch, and end the training where that is called for."""
        if self._heart.lost:
            raise CancelledError(f"Trial {self.record.slot} was taken over by another process.")
        epoch, value = int(row["epoch"]), row.get(self.job.metric)
        if value is None:
            return
        self.status(f"trial {self.record.slot}, epoch {epoch}: {value:.4g}")
        if not math.isfinite(value):
            return
        self.trial.report(value, epoch)
        epochs = self._notes["set"].get("max_epochs", self.job.epochs)
        untouched = _UNTOUCHED * epochs if isinstance(epochs, int) else 0
        if epoch > untouched and self.trial.should_prune():
            raise _PrunedError(f"Trial {self.record.slot} is worse than the median after epoch {epoch}.")

    def _rows(self) -> list[tuple[int, float]]:
        """Epoch and metric of every validation so far."""
        table = self.folder / "metrics.csv"
        if not table.is_file():
            return []
        with table.open(encoding="utf-8", newline="") as handle:
            rows = list(csv.DictReader(handle))
        return [(int(row["epoch"]), float(row[self.job.metric])) for row in rows if row.get(self.job.metric)]

    def _best(self, rows: list[tuple[int, float]]) -> tuple[int, float] | None:
        finite = [row for row in rows if math.isfinite(row[1])]
        return max(finite, key=lambda row: row[1] if self.job.maximise else -row[1], default=None)

    def _value(self) -> float:
        rows = self._rows()
        if not rows:
            raise DataError(f"{self.folder}: metrics.csv has no column {self.job.metric}, the metric of the search.")
        chosen = self._best(rows) if self.job.objective == "best" else rows[-1]
        if chosen is None or not math.isfinite(chosen[1]):
            raise DataError(f"The metric {self.job.metric} is no finite number after epoch {rows[-1][0]}.")
        return chosen[1]

    def _course(self) -> dict[str, Any]:
        rows = self._rows()
        best = self._best(rows)
        return {"epochs": rows[-1][0], "best_epoch": best[0]} if best else {}

    def _clear(self) -> None:
        """Free the disk and the memory of the device."""
        import torch

        for name in _LEFT_OVER:
            shutil.rmtree(self.folder / name, ignore_errors=True)
        if torch.cuda.is_available():
            gc.collect()
            torch.cuda.empty_cache()


def trial_folder(search: Path, slot: int) -> Path:
    """The run folder of a trial."""
    return search / "trials" / f"{slot:04d}"


def _settings_of(folder: Path) -> dict[str, Any] | None:
    """What a run that was begun here was started with."""
    environment = folder / ENVIRONMENT
    if not environment.is_file() or not (folder / "config.json").is_file():
        return None
    return dict(json.loads(environment.read_text(encoding="utf-8")).get("overrides", {}))


def _sentence(error: Exception) -> str:
    """Give the error that lies at the bottom of what MONAI wrapped, in one line."""
    cause: BaseException = error
    while not isinstance(error, MedResNetError) and cause.__cause__ is not None:
        cause = cause.__cause__
    lines = str(cause).strip().splitlines()
    text = lines[0] if lines else "no message"
    return text if isinstance(cause, MedResNetError) else f"{type(cause).__name__}: {text}"
