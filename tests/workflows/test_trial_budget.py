from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from medresnet3d.workflows import trial_budget
from medresnet3d.workflows.trial_budget import length_overrides
from tests.workflows.toy_bundle import write_cubes, write_toy_bundle


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    return write_toy_bundle(folder / "toy"), write_cubes(folder / "data")  # 12 cases to train on


@pytest.mark.parametrize(("batch", "epochs"), [(4, 4), (12, 10), (5, 5)])
def test_steps_become_epochs_of_the_trials_own_batches(batch: int, epochs: int, inputs: tuple[Path, Path]) -> None:
    assert length_overrides(*inputs, {"batch_size": batch}, "cpu", "10steps") == {"max_epochs": epochs}


def test_a_bundle_that_counts_steps_gets_them(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    bundle = write_toy_bundle(tmp_path / "toy")
    config = json.loads((bundle / "configs" / "train.json").read_text())
    config["steps"] = "$@max_epochs * len(@train#dataloader)"
    (bundle / "configs" / "train.json").write_text(json.dumps(config))
    assert length_overrides(bundle, inputs[1], {}, "cpu", "10steps") == {"max_epochs": 4, "steps": 10}


def test_seconds_become_epochs_by_timing_the_training(
    inputs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def timed(trainer: Any) -> float:
        began, seconds = time.monotonic(), original(trainer)
        assert 0 < seconds < time.monotonic() - began
        return 0.5

    original = trial_budget._seconds_per_step
    monkeypatch.setattr(trial_budget, "_seconds_per_step", timed)
    assert length_overrides(*inputs, {}, "cpu", "9s") == {"max_epochs": 6}  # 3 steps of half a second each
    assert length_overrides(*inputs, {}, "cpu", "1s") == {"max_epochs": 1}
    one_step = {"batch_size": 12, "max_epochs": 1}
    assert length_overrides(*inputs, one_step, "cpu", "9s") == {"max_epochs": 18}


def test_epochs_are_taken_as_they_are(inputs: tuple[Path, Path]) -> None:
    assert length_overrides(*inputs, {}, "cpu", "7epochs") == {"max_epochs": 7}
