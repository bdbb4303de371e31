from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medresnet3d.data.manifest import Manifest
from medresnet3d.errors import ExitCode
from medresnet3d.workflows.search_ledger import TrialRecord
from medresnet3d.workflows.search_outcome import Call, _importance, best_of, write_outcome
from tests.workflows.searching import make_job, quality


def records(folder: Path, count: int = 12) -> list[TrialRecord]:
    found = []
    for slot in range(count):
        values: dict[str, Any] = {
            "learning_rate": 10 ** (-4 + 4 * slot / count),
            "features": 2 + 2 * (slot * 7 % 4),
            "batch_size": 4,
        }
        notes = {"set": {**values, "max_epochs": 3}, "seconds": 2.0, "epochs": 3, "place": str(folder / f"{slot:04d}")}
        stored = {**values, "batch_size": "4"}
        found.append(TrialRecord(slot, "complete", stored, values, quality(values), {1: 0.1, 2: 0.2}, notes))
    return found


@pytest.fixture
def call() -> Call:
    sections: dict[str, list[dict[str, Any]]] = {"training": [{}], "test": [{"image": "a"}]}
    return Call("toy", Manifest("cubes", "classification", ("a", "b"), sections), "medresnet3d search toy")


def test_the_outcome_is_written_whole(call: Call, tmp_path: Path) -> None:
    (tmp_path / "trials" / "0006").mkdir(parents=True)
    job = make_job(tmp_path, trials=12, method="improved_whale", population=4)
    result = write_outcome(job, records(tmp_path / "trials"), call)
    assert result.best is not None and result.exit_code == ExitCode.OK
    assert result.best.slot == 6
    assert json.loads((tmp_path / "best.json").read_text()) == result.values == result.best.notes["set"]
    rows = list(csv.DictReader((tmp_path / "trials.csv").open()))
    assert [row["trial"] for row in rows] == [str(slot) for slot in range(12)]
    assert float(rows[6]["val_auc"]) == result.best.value
    page = result.report.read_text()
    assert "improved_whale (levy, inferred)" in page
    assert "measures it on the test cases of the manifest" in page
    assert result.evaluate_command == (
        f"medresnet3d evaluate {tmp_path}/trials/0006 --data /data/manifest.json -o {tmp_path}/test --section test"
    )


def test_a_best_trial_on_another_machine_is_trained_again_before_it_is_measured(call: Call, tmp_path: Path) -> None:
    result = write_outcome(make_job(tmp_path / "out", trials=12), records(Path("/elsewhere")), call)
    again = str(tmp_path / "out-best")
    assert f"-o {again}" in result.train_command
    assert result.evaluate_command.startswith(f"medresnet3d evaluate {again} ")


def test_of_equals_the_earlier_one_is_the_best(tmp_path: Path) -> None:
    same = [TrialRecord(slot, "complete", {}, {}, 0.5) for slot in (2, 0, 1)]
    for maximise in (True, False):
        best = best_of(make_job(tmp_path, maximise=maximise), same)
        assert best is not None and best.slot == 0
    pruned = [TrialRecord(0, "pruned", {}, {}, 0.9), *same]
    best = best_of(make_job(tmp_path), pruned)
    assert best is not None and best.state == "complete"


def test_importance_finds_the_id_that_decides_and_is_silent_with_few_trials(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    known = [
        replace(one, value=1 / (1 + (math.log10(one.values["learning_rate"]) + 2) ** 2))
        for one in records(tmp_path, 40)
    ]
    shares = _importance(job, known)
    assert sum(shares.values()) == pytest.approx(1)
    assert max(shares, key=lambda name: shares[name]) == "learning_rate"
    assert _importance(job, records(tmp_path, 9)) == {}
