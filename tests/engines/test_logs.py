from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from medresnet3d.engines.logs import RunLog, scalar_metrics, write_metrics


def test_metrics_of_several_values_get_a_column_each() -> None:
    metrics = {"dice": torch.tensor([0.5, 0.25]), "loss": 1, "auc": np.float64(0.75), "one": [0.125]}
    assert scalar_metrics(metrics) == {"dice_0": 0.5, "dice_1": 0.25, "loss": 1.0, "auc": 0.75, "one": 0.125}


def test_columns_are_those_of_all_rows(tmp_path: Path) -> None:
    write_metrics([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25, "val_auc": 0.75}], tmp_path / "m.csv")
    assert (tmp_path / "m.csv").read_text() == "epoch,loss,val_auc\n1,0.5,\n2,0.25,0.75\n"


def test_progress_tells_epoch_loss_and_key_metric(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("medresnet3d.progress.PLAIN_INTERVAL_S", 0.0)
    log = RunLog(tmp_path, tensorboard=False)
    log.open(2, 6)
    log.iteration(3, 2, 3, 0.75, 0.5)
    log.epoch([{"epoch": 2, "iteration": 4, "val_auc": 0.625}], "val_auc")
    log.iteration(5, 3, 3, 0.75, 0.25)
    log.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("training: 1/4") and lines[0].endswith("epoch 2/3, loss 0.5")
    assert lines[1].endswith("epoch 3/3, loss 0.25, val_auc 0.625")
    assert not (tmp_path / "tensorboard").exists()


def test_tensorboard_has_losses_and_metrics(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = RunLog(tmp_path)
    log.open(0, 2)
    log.iteration(1, 1, 1, 0.75, 0.5)
    log.epoch([{"epoch": 1, "iteration": 2, "lr": 0.1, "val_auc": 0.625}], "val_auc")
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == {"train/iteration_loss", "epoch/lr", "epoch/val_auc"}
    assert [(each.step, each.value) for each in events.Scalars("epoch/val_auc")] == [(2, 0.625)]
