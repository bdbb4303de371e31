from __future__ import annotations

import sys
from importlib import metadata

import pytest

from medresnet3d.workflows import doctor as module
from medresnet3d.workflows.doctor import Examined, doctor


def _lines() -> dict[str, tuple[str, str]]:
    return {item.name: (item.state, item.detail) for item in doctor()}


def test_versions_are_those_installed() -> None:
    import torch

    lines = _lines()
    assert lines["torch"][1] == metadata.version("torch")
    assert lines["bf16 self-test"][0] == "ok"
    assert (lines["cuda"][0] == "ok") == torch.cuda.is_available()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the self-test, which takes seconds."""
    monkeypatch.setattr(module, "_self_test", lambda: Examined("bf16 self-test", "ok", "left out"))


@pytest.mark.usefixtures("quick")
def test_absent_optional_part_says_what_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPTIONAL", {"not-a-package": ("nothing at all", "none")})
    state, detail = _lines()["not-a-package"]
    assert state == "absent"
    assert "for nothing at all: pip install 'medresnet3d[none]'" in detail


@pytest.mark.usefixtures("quick")
def test_broken_torch_does_not_end_the_examination(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    lines = _lines()
    assert lines["cpu"][0] == lines["cuda"][0] == "broken"
    assert "torch" in lines["cuda"][1]
