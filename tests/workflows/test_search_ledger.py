from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from medresnet3d.errors import ConfigError
from medresnet3d.workflows import search_ledger
from medresnet3d.workflows.search_ledger import MAX_DEATHS, Ledger, hide_password, load_optuna, open_storage
from tests.engines.toy import run_in_child
from tests.workflows.searching import make_job


def finish(ledger: Ledger, claimed: Any, value: float = 0.5) -> None:
    assert ledger.hand_in(claimed[0], value, "complete", {"seconds": 1.0})


def claim(ledger: Ledger) -> Any:
    claimed = ledger.claim()
    assert claimed is not None
    return claimed


@pytest.mark.parametrize("storage", ["sqlite", "journal"])
def test_trials_are_handed_out_once_and_counted_exactly(storage: str, tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 's.db'}" if storage == "sqlite" else f"journal:{tmp_path / 's.log'}"
    one, two = (Ledger(make_job(tmp_path, trials=5, storage=address)) for _ in range(2))
    for number in range(5):
        ledger = (one, two)[number % 2]
        claimed = claim(ledger)
        assert claimed[1].slot == number
        assert set(claimed[1].values) == {"learning_rate", "features", "batch_size"}
        assert not one.finished()
        finish(ledger, claimed, 0.1 * number)
    assert one.finished() and two.finished()
    assert one.claim() is None and two.claim() is None
    records = two.records()
    assert [record.value for record in records] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert {record.state for record in records} == {"complete"}
    more = Ledger(make_job(tmp_path, trials=7, storage=address))
    assert not more.finished()
    assert claim(more)[1].slot == 5


def test_two_processes_that_offer_the_same_slot_do_it_once(tmp_path: Path) -> None:
    ledger = Ledger(make_job(tmp_path, trials=2))
    for slot in (0, 0, 1):
        ledger.study.enqueue_trial({}, {"slot": slot})
    claimed = claim(ledger)
    assert claimed[1].slot == 0
    finish(ledger, claimed)
    assert ledger.claim() is None  # the second offer of slot 0 is put aside
    claimed = claim(ledger)
    assert claimed[1].slot == 1
    finish(ledger, claimed)
    assert ledger.finished()
    assert [record.attempts for record in ledger.records()] == [1, 1]


def test_proposals_of_optuna_do_not_depend_on_where_it_was_broken_off(tmp_path: Path) -> None:
    def values(folder: Path, breaks: tuple[int, ...]) -> list[dict[str, Any]]:
        ledger = Ledger(make_job(folder, trials=13))
        for number in range(13):
            ledger = Ledger(ledger.job) if number in breaks else ledger
            claimed = claim(ledger)
            finish(ledger, claimed, claimed[1].values["learning_rate"])
        return [record.values for record in ledger.records()]

    whole = values(tmp_path / "whole", ())
    assert whole == values(tmp_path / "broken", (3, 12))
    rates = [one["learning_rate"] for one in whole]
    assert len(set(rates)) == 13
    assert sorted(rates[10:])[0] > sorted(rates[:10])[4]  # after ten at random, it has learned where to look


def test_an_interrupted_trial_is_taken_up_again_with_its_values(tmp_path: Path) -> None:
    ledger = Ledger(make_job(tmp_path, trials=1))
    for _ in range(MAX_DEATHS + 1):
        trial, record = claim(ledger)
        assert ledger.hand_in(trial, None, "interrupted", {})
        assert ledger.records()[0].state == "waiting"
    again = claim(ledger)
    assert again[1].values == record.values
    assert again[1].attempts == MAX_DEATHS + 2
    finish(ledger, again)
    assert ledger.finished()


def test_the_trial_of_a_dead_process_is_taken_up_at_once_but_not_for_ever(tmp_path: Path) -> None:
    job = make_job(tmp_path, trials=1)
    ledger = Ledger(job)
    for death in range(MAX_DEATHS):
        child = run_in_child(lambda: claim(Ledger(job)))
        child.join()
        assert child.exitcode == 0
        assert ledger.records()[0].attempts == death + 1
        assert ledger.records()[0].state == "running"
    assert ledger.claim() is None
    (record,) = ledger.records()
    assert record.state == "failed" and "died 3 times" in record.notes["error"]
    assert ledger.finished()


def test_a_trial_of_an_earlier_process_with_the_same_id_is_taken_up_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(make_job(tmp_path, trials=2))
    before = search_ledger.this_process()
    claim(ledger)
    monkeypatch.setattr(search_ledger, "_tokens", {})  # a container that was started again counts from 1, too
    assert search_ledger.this_process() != before
    assert claim(ledger)[1].attempts == 2


def test_an_offer_that_another_process_has_just_taken_is_left_to_it(tmp_path: Path) -> None:
    ledger = Ledger(make_job(tmp_path, trials=2))
    ledger._offer()
    taken = Ledger(ledger.job).study.ask()  # its process has not yet put its own name on it
    assert taken.user_attrs["holder"] == search_ledger.this_process()
    assert claim(ledger)[1].slot == 1
    assert [one.state for one in ledger.records()] == ["running", "running"]


def test_who_is_slower_than_the_others_patience_gets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(make_job(tmp_path, trials=1))
    ask = ledger.study.ask

    def slow(distributions: Any) -> Any:
        trial = ask(distributions)
        ledger.study.tell(trial.number, state=ledger._states.FAIL)
        return trial

    with monkeypatch.context() as patch:
        patch.setattr(ledger.study, "ask", slow)
        assert ledger.claim() is None
    assert claim(ledger)[1].attempts == 2


def test_a_silent_process_on_another_machine_is_given_up_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, clock = make_job(tmp_path, trials=1), [1000.0]
    elsewhere, here = Ledger(job), Ledger(job)
    with monkeypatch.context() as patch:
        patch.setattr(search_ledger, "this_process", lambda: {"node": "elsewhere:1", "pid": 1, "token": "x"})
        trial, _ = claim(elsewhere)
    monkeypatch.setattr(search_ledger.time, "monotonic", lambda: clock[0])
    assert here.claim() is None
    for beat in range(3):  # as long as it gives signs of life, it keeps its trial
        clock[0] += search_ledger.STALE_S - 1
        trial.set_user_attr("beat", beat)
        assert here.claim() is None
    clock[0] += search_ledger.STALE_S + 1
    taken = claim(here)
    assert taken[1].attempts == 2
    assert not elsewhere.hand_in(trial, 0.9, "complete", {"seconds": 1.0})  # too late
    finish(here, taken, 0.4)
    assert here.records()[0].value == 0.4


def test_failed_trials_are_finished_and_pruned_ones_keep_their_last_value(tmp_path: Path) -> None:
    ledger = Ledger(make_job(tmp_path, trials=2))
    trial, _ = claim(ledger)
    ledger.hand_in(trial, None, "failed", {"error": "The loss became nan."})
    trial, _ = claim(ledger)
    trial.report(0.25, 1)
    ledger.hand_in(trial, None, "pruned", {})
    failed, pruned = ledger.records()
    assert (failed.state, failed.value, failed.notes["error"]) == ("failed", None, "The loss became nan.")
    assert (pruned.state, pruned.value, pruned.curve) == ("pruned", 0.25, {1: 0.25})
    assert ledger.finished()


def test_only_complete_trials_with_the_same_values_are_twins(tmp_path: Path) -> None:
    space = {"features": {"type": "int", "low": 1, "high": 2}}
    ledger = Ledger(make_job(tmp_path, trials=8, space=space, method="random"))
    seen: dict[int, int] = {}
    for _ in range(8):
        claimed = claim(ledger)
        twin = ledger.twin(claimed[1])
        assert (twin.slot if twin else None) == seen.get(claimed[1].values["features"])
        finish(ledger, claimed)
        seen.setdefault(claimed[1].values["features"], claimed[1].slot)
    assert len(seen) == 2


@pytest.mark.parametrize(
    "address", ["nonsense", "sqlite:////nowhere/at/all.db", "mysql://host/db", "journal:/nowhere/x"]
)
def test_a_storage_that_cannot_be_opened_is_one_sentence(address: str) -> None:
    with pytest.raises(ConfigError, match="it cannot be opened") as error:
        open_storage(address)
    assert "\n" not in str(error.value)


def test_passwords_are_not_shown() -> None:
    assert hide_password("postgresql://me:secret@host/db") == "postgresql://me@host/db"
    assert hide_password("sqlite:////tmp/a@b.db") == "sqlite:////tmp/a@b.db"
    assert hide_password("journal:/tmp/x") == "journal:/tmp/x"


def test_without_optuna_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install 'medresnet3d\[search\]'"):
        load_optuna()
