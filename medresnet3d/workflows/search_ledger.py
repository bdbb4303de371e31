"""The trials of a search in Optuna's storage, which all its processes share.

Trial numbers of Optuna are attempts. What a search counts are slots, 0 to N - 1: each has one attempt that counts, and
further ones where a process was interrupted or died. So a search has exactly as many trials as were asked for, whoever
does them, and an attempt that was broken off is taken up again with the same values.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medresnet3d.errors import ConfigError
from medresnet3d.workflows.search_job import SearchJob
from medresnet3d.workflows.search_plan import proposals

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial, Trial

#: A running attempt whose holder gives no sign of life for so long is taken for dead.
STALE_S = 60.0
#: A slot whose holders died so often, one after the other and before the first epoch was done, is not tried again.
MAX_DEATHS = 3


@dataclass(frozen=True)
class TrialRecord:
    """What is known of one trial of a search.

    Attributes:
        slot: its number, from 0.
        state: ``complete``, ``pruned``, ``failed``, ``running`` or ``waiting``.
        stored: values as Optuna stores them, by id.
        values: values of the configuration, by id.
        value: the metric; ``None`` where there is none.
        curve: the metric by epoch.
        notes: what its process wrote down: ``error``, ``seconds``, ``epochs``, ``best_epoch``, ``set``, ``place``.
        attempts: how often it was begun.
    """

    slot: int
    state: str
    stored: dict[str, Any]
    values: dict[str, Any]
    value: float | None = None
    curve: dict[int, float] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    attempts: int = 1

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.state in ("complete", "pruned", "failed")


def load_optuna() -> Any:
    """Import Optuna, quietly.

    Raises:
        ConfigError: if it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise ConfigError(
            "A search needs Optuna, which is not installed: pip install 'medresnet3d[search]'."
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def open_storage(address: str) -> BaseStorage:
    """Open Optuna's storage.

    Args:
        address: ``journal:FILE`` (a file that machines with a common folder share), or an address of SQLAlchemy such
            as ``sqlite:///study.db`` or ``postgresql://user@host/search``.

    Raises:
        ConfigError: if it cannot be opened.
    """
    optuna = load_optuna()
    from sqlalchemy.exc import SQLAlchemyError

    try:
        if address.startswith("journal:"):
            from optuna.storages.journal import JournalFileBackend

            return optuna.storages.JournalStorage(JournalFileBackend(address.removeprefix("journal:")))
        wait = {"connect_args": {"timeout": 60}} if address.startswith("sqlite") else {}
        return optuna.storages.RDBStorage(address, engine_kwargs=wait)
    except (SQLAlchemyError, ImportError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"--storage {hide_password(address)}: it cannot be opened ({reason}); write journal:FILE, "
            "sqlite:///FILE or the address of a database."
        ) from error


def hide_password(address: str) -> str:
    """Give a storage's address without the password in it."""
    head, separator, rest = address.partition("://")
    user, at, place = rest.rpartition("@")
    return f"{head}{separator}{user.partition(':')[0]}{at}{place}" if at else address


class Ledger:
    """The trials of one search; see the module.

    Args:
        job: the search.

    Raises:
        ConfigError: if Optuna is missing or the storage cannot be opened.
    """

    def __init__(self, job: SearchJob) -> None:
        optuna = load_optuna()
        self.job = job
        direction = "maximize" if job.maximise else "minimize"
        self.study: Study = optuna.create_study(
            storage=open_storage(job.storage), study_name=job.study, direction=direction, load_if_exists=True
        )
        self.study.pruner = optuna.pruners.MedianPruner() if job.prune else optuna.pruners.NopPruner()
        self._states = optuna.trial.TrialState
        self._finished_error = optuna.exceptions.UpdateFinishedTrialError
        self._seen: dict[int, tuple[Any, float]] = {}

    # --- reading -------------------------------------------------------------------------------------------------

    def records(self) -> list[TrialRecord]:
        """Give the trials so far, in the order of their slots."""
        return [self._record(slot, attempts) for slot, attempts in sorted(self._attempts().items())]

    def _attempts(self) -> dict[int, list[FrozenTrial]]:
        found: dict[int, list[FrozenTrial]] = defaultdict(list)
        for trial in self.study.get_trials(deepcopy=False):
            slot = trial.user_attrs.get("slot")
            if slot is not None and slot < self.job.trials and not trial.user_attrs.get("surplus"):
                found[slot].append(trial)
        return found

    def _record(self, slot: int, attempts: list[FrozenTrial]) -> TrialRecord:
        counting = self._counting(attempts)
        last = counting or attempts[-1]
        notes = _notes(last)
        state = self._state(last) if counting else "waiting"
        if counting is None and _deaths(attempts) >= MAX_DEATHS:
            state = "failed"
            notes["error"] = f"Its process died {MAX_DEATHS} times before an epoch was done (killed, or out of memory)."
        stored = {**last.system_attrs.get("fixed_params", {}), **last.params}
        known = [one for one in self.job.parameters if one.name in stored]
        return TrialRecord(
            slot,
            state,
            {one.name: stored[one.name] for one in known},
            {one.name: one.value(stored[one.name]) for one in known},
            last.value if state in ("complete", "pruned") else None,
            dict(last.intermediate_values),
            notes,
            len(attempts),
        )

    def _counting(self, attempts: list[FrozenTrial]) -> FrozenTrial | None:
        """The first attempt that was not broken off, if there is one."""
        return next((one for one in attempts if not self._is_broken_off(one)), None)

    def _is_broken_off(self, trial: FrozenTrial) -> bool:
        return trial.state == self._states.FAIL and "error" not in _notes(trial)

    def _state(self, trial: FrozenTrial) -> str:
        return {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}.get(
            trial.state.name, "waiting"
        )

    def finished(self) -> bool:
        """Whether every trial of the search has come to its end."""
        records = self.records()
        return len(records) == self.job.trials and all(one.finished for one in records)

    def twin(self, record: TrialRecord) -> TrialRecord | None:
        """Give a complete trial with the same values, if there is one: its training is this one's, bit for bit."""
        complete = (one for one in self.records() if one.state == "complete" and one.slot != record.slot)
        return next((one for one in complete if one.stored == record.stored), None)

    # --- handing out ---------------------------------------------------------------------------------------------

    def claim(self) -> tuple[Trial, TrialRecord] | None:
        """Take the next trial, which is this process's from then on; ``None`` if there is none at the moment."""
        self._release_stale()
        self._offer()
        waiting = [one for one in self.study.get_trials(deepcopy=False) if one.state == self._states.WAITING]
        if not waiting:
            return None
        self.study.sampler = self._sampler(int(waiting[0].user_attrs.get("slot", 0)))
        trial = self.study.ask({one.name: one.distribution() for one in self.job.parameters})
        try:
            trial.set_user_attr("holder", this_process())
            attempts = self._attempts().get(trial.user_attrs.get("slot", -1), [])
            counting = self._counting(attempts)
            if counting is not None and counting.number == trial.number:
                return trial, self._record(trial.user_attrs["slot"], attempts)
            # two processes have offered the same slot
            trial.set_user_attr("surplus", True)
            self.study.tell(trial, state=self._states.FAIL)
        except self._finished_error:
            self._seen.pop(trial.number, None)  # this process was so slow that another has taken it for dead
        return None

    def _sampler(self, slot: int) -> Any:
        """Seed Optuna's choice by the slot, so that it does not depend on where a search was broken off."""
        import numpy as np
        from optuna.samplers import TPESampler

        return TPESampler(seed=int(np.random.SeedSequence((self.job.seed, slot)).generate_state(1)[0]))

    def _offer(self) -> None:
        """Put the first trial that is still to be done where a process can take it, if none is there already."""
        attempts = self._attempts()
        records = {slot: self._record(slot, own) for slot, own in attempts.items()}
        counting = [one for one in map(self._counting, attempts.values()) if one is not None]
        if any(one.state == self._states.WAITING for one in counting):
            return
        for slot, values in enumerate(proposals(self.job, self._fitness(records))):
            if slot in attempts and (records[slot].finished or self._counting(attempts[slot]) is not None):
                continue
            values = records[slot].stored if slot in records else values
            # with a holder from the first, so that no running attempt is without one, however early its process dies
            self.study.enqueue_trial(values, {"slot": slot, "holder": this_process()})
            return

    def _fitness(self, records: Mapping[int, TrialRecord]) -> dict[int, float]:
        sign = -1.0 if self.job.maximise else 1.0
        finished = [one for one in records.values() if one.finished]
        return {one.slot: sign * one.value if one.value is not None else float("nan") for one in finished}

    def _release_stale(self) -> None:
        """Break off the attempts of processes that are dead."""
        for trial in self.study.get_trials(deepcopy=False, states=(self._states.RUNNING,)):
            if self._is_stale(trial):
                self.study.tell(trial.number, state=self._states.FAIL, skip_if_finished=True)

    def _is_stale(self, trial: FrozenTrial) -> bool:
        holder, own = trial.user_attrs.get("holder", {}), this_process()
        # no other process has this one's id, so who had it before is dead
        is_here = holder.get("node") == own["node"] and holder != own
        if is_here and (holder["pid"] == own["pid"] or not _is_alive(holder["pid"])):
            return True
        # clocks of two machines differ, so what counts is how long this one has seen no beat
        beat, now = trial.user_attrs.get("beat"), time.monotonic()
        last, since = self._seen.setdefault(trial.number, (beat, now))
        if beat != last:
            self._seen[trial.number] = (beat, now)
            return False
        return now - since > STALE_S

    # --- handing in ----------------------------------------------------------------------------------------------

    def hand_in(self, trial: Trial, value: float | None, state: str, notes: Mapping[str, Any]) -> bool:
        """Record how an attempt ended.

        Args:
            trial: the attempt.
            value: the metric of a complete one.
            state: ``complete``, ``pruned``, ``failed`` or ``interrupted`` (to be taken up again).
            notes: what to write down; that of a failed one has ``error``.

        Returns:
            Whether the attempt still counted: another process may have taken this one for dead.
        """
        states = {"complete": self._states.COMPLETE, "pruned": self._states.PRUNED}
        try:
            trial.set_user_attr("notes", {**notes, "interrupted": state == "interrupted"})
            self.study.tell(trial, value, states.get(state, self._states.FAIL))
        except (self._finished_error, ValueError):
            return False
        return True


def _notes(trial: FrozenTrial) -> dict[str, Any]:
    return dict(trial.user_attrs.get("notes", {}))


def _deaths(attempts: list[FrozenTrial]) -> int:
    """How many of the last attempts came to nothing at all, one after the other."""
    in_vain = [not (_notes(one).get("interrupted") or one.intermediate_values) for one in attempts]
    return next((count for count, one in enumerate(reversed(in_vain)) if not one), len(in_vain))


_tokens: dict[int, str] = {}


def this_process() -> dict[str, Any]:
    """Name this process: the machine (and its space of process ids, where there are several), its id and a token."""
    space, pid = Path("/proc/self/ns/pid"), os.getpid()
    own = space.stat().st_ino if space.exists() else 0
    token = _tokens.setdefault(pid, uuid.uuid4().hex[:12])
    return {"node": f"{socket.gethostname()}:{own}", "pid": pid, "token": token}


def _is_alive(pid: int) -> bool:
    if os.name != "posix":  # elsewhere signal 0 would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
