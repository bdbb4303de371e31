from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from medresnet3d.engines.epochs import listen_to_epochs, tell_epoch
from medresnet3d.errors import CancelledError
from tests.engines.toy import make_trainer


def test_a_listener_hears_the_rows_of_metrics_csv(tmp_path: Path) -> None:
    heard: list[Mapping[str, float]] = []
    with listen_to_epochs(heard.append):
        make_trainer(tmp_path, epochs=3).run()
    assert [row["epoch"] for row in heard] == [1, 2, 3]
    assert all("val_auc" in row and "train_loss" in row for row in heard)
    tell_epoch({"epoch": 4})
    assert len(heard) == 3  # nobody listens any more


def test_a_listener_may_end_the_training(tmp_path: Path) -> None:
    def stop(row: Mapping[str, float]) -> None:
        if row["epoch"] == 2:
            assert (tmp_path / "metrics.csv").exists()
            raise CancelledError("enough")

    with pytest.raises(CancelledError, match="enough"), listen_to_epochs(stop):
        make_trainer(tmp_path, epochs=5).run()
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 3
