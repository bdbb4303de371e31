from __future__ import annotations

import pytest

from medresnet3d import progress
from medresnet3d.progress import Progress, hide_progress, track


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 0.0)


def test_a_plain_line_tells_count_time_and_status(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("training", 2) as display:
        display.advance(status="loss 0.3")
    assert capsys.readouterr().err.splitlines()[0] == "training: 1/2, 0 s, 0 s left, loss 0.3"


def test_hidden_displays_show_nothing_and_outer_ones_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("search", 2) as outer:
        with hide_progress():
            assert list(track(range(3), "training")) == [0, 1, 2]
            outer.advance(status="epoch 1")
        assert list(track([1], "evaluating")) == [1]
    told = capsys.readouterr().err
    assert "training" not in told
    assert "search: 1/2, 0 s, 0 s left, epoch 1" in told
    assert "evaluating: 1/1" in told
