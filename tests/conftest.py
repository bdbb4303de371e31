"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from medresnet3d.cli.common import set_debug

# the same examples in every run; HYPOTHESIS_PROFILE=default looks for new ones
settings.register_profile("steady", derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


@pytest.fixture(autouse=True, scope="session")
def _one_thread_per_worker() -> None:
    """Two workers with two threads each are slower than two with one."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _private_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep remembered trust and other per-user files out of the real home folder."""
    monkeypatch.setenv("MEDRESNET3D_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture(autouse=True)
def _no_traceback_from_an_earlier_command() -> None:
    """`--debug` lasts as long as the process, which tests share."""
    set_debug(False)


@pytest.fixture
def realdata() -> Path:
    """The folder of real data sets with their manifests, or skip."""
    folder = os.environ.get("MEDRESNET3D_REALDATA")
    if not folder:
        pytest.skip("MEDRESNET3D_REALDATA is not set (make test-realdata REALDATA=...)")
    return Path(folder)
