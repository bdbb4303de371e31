from __future__ import annotations

import pytest
import torch

from medresnet3d.engines import distribute, seed_everything, select_device, start_distributed, stop_distributed
from medresnet3d.engines.device import any_rank, rank
from medresnet3d.errors import ConfigError


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.usefixtures("no_cuda")
@pytest.mark.parametrize("name", ["auto", "cpu", torch.device("cpu")])
def test_without_cuda_it_is_the_cpu(name: str) -> None:
    assert select_device(name) == torch.device("cpu")


@pytest.mark.usefixtures("two_gpus")
def test_with_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    assert select_device("auto") == torch.device("cuda:0")
    assert select_device("cuda:1") == torch.device("cuda:1")
    assert select_device("cpu") == torch.device("cpu")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert select_device("auto") == torch.device("cuda:1")
    with pytest.raises(ConfigError, match="only 2 CUDA device"):
        select_device("cuda:2")


@pytest.mark.usefixtures("no_cuda")
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("cuda", "this machine has no CUDA device; use --device auto or cpu"),
        ("cuda:1", "no CUDA device"),
        ("gpu", 'Unknown device "gpu"'),
        ("mps", "not supported"),
    ],
)
def test_absent_and_unknown_devices(name: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        select_device(name)


def test_same_seed_same_numbers() -> None:
    seed_everything(5)
    first = torch.rand(3)
    seed_everything(5)
    assert torch.equal(first, torch.rand(3))


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "7", True])
def test_impossible_seeds(seed: object) -> None:
    with pytest.raises(ConfigError, match="seed is"):
        seed_everything(seed)  # type: ignore[arg-type]


def test_one_process_needs_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    start_distributed()
    network = torch.nn.Linear(2, 2)
    assert distribute(network, "cpu") is network
    assert rank() == 0
    assert any_rank(True, torch.device("cpu")) and not any_rank(False, torch.device("cpu"))
    stop_distributed()
    assert not torch.distributed.is_initialized()
