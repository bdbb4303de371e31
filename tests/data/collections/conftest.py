"""Mimics of the official folders, each written once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from medresnet3d.data.preparation.prepare import mimic


@pytest.fixture(scope="session")
def mimic_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The mimic of a data set by name; read it, never change it."""
    there: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in there:
            there[name] = mimic(name, tmp_path_factory.mktemp("mimics") / name)
        return there[name]

    return make
