from __future__ import annotations

import pickle
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medresnet3d.engines.checkpoint import FORMAT, load_checkpoint, load_network_state, save_checkpoint
from medresnet3d.errors import WeightsError


def test_numbers_of_numpy_come_back_as_plain_ones(tmp_path: Path) -> None:
    state = {
        "a": np.float64(0.5),
        "b": [np.int32(3), (np.bool_(True), None, "text")],
        "c": {np.int64(1): np.arange(3.0)},
        "d": torch.ones(2),
    }
    save_checkpoint(state, tmp_path / "last.pt")
    back = load_checkpoint(tmp_path / "last.pt")
    assert (back["a"], back["b"]) == (0.5, [3, (True, None, "text")])
    assert type(back["a"]) is float and type(back["b"][0]) is int
    assert torch.equal(back["c"][1], torch.arange(3.0, dtype=torch.float64))
    assert torch.equal(back["d"], torch.ones(2))


@pytest.mark.parametrize(
    "schedule",
    [
        lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [2, 2, 3]),
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=9),
        lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o),
        lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda step: 0.9**step),
        lambda o: torch.optim.lr_scheduler.SequentialLR(
            o, [torch.optim.lr_scheduler.LinearLR(o), torch.optim.lr_scheduler.CosineAnnealingLR(o, 5)], [2]
        ),
    ],
)
def test_states_of_schedules_are_plain(tmp_path: Path, schedule: Any) -> None:
    def make() -> Any:
        return schedule(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1))

    first = make()
    for _ in range(2):
        first.optimizer.step()
        first.step(*([0.3] if isinstance(first, torch.optim.lr_scheduler.ReduceLROnPlateau) else []))
    save_checkpoint({"lr_scheduler": first.state_dict()}, tmp_path / "last.pt")
    second = make()
    second.load_state_dict(load_checkpoint(tmp_path / "last.pt")["lr_scheduler"])
    assert second.last_epoch == first.last_epoch
    if isinstance(first, torch.optim.lr_scheduler.MultiStepLR):
        assert second.milestones == Counter([2, 2, 3])


@pytest.mark.parametrize("cut", [0, 10, 0.5, 0.99])
def test_a_damaged_file_is_named(tmp_path: Path, cut: float) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint({"network": {"weight": torch.rand(1000)}}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(cut if cut > 1 else cut * len(content))])
    with pytest.raises(WeightsError, match=r"last\.pt is damaged"):
        load_checkpoint(path)


def test_objects_are_never_loaded(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    for writer in (torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))):
        writer({"format": FORMAT, "network": Attack()}, tmp_path / "last.pt")
        with pytest.raises(WeightsError, match="more than tensors and numbers"):
            load_checkpoint(tmp_path / "last.pt")
    assert not (tmp_path / "ran").exists()


def test_foreign_and_missing_files_are_named(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "model.pt")
    with pytest.raises(WeightsError, match=r"no checkpoint of a training run .*found weights alone"):
        load_checkpoint(tmp_path / "model.pt")
    torch.save(torch.ones(3), tmp_path / "tensor.pt")
    with pytest.raises(WeightsError, match="found Tensor"):
        load_checkpoint(tmp_path / "tensor.pt")
    with pytest.raises(WeightsError, match="does not exist"):
        load_checkpoint(tmp_path / "none.pt")


def test_weights_of_another_network_are_named(tmp_path: Path) -> None:
    save_checkpoint({"network": OrderedDict(torch.nn.Linear(2, 2).state_dict())}, tmp_path / "best.pt")
    network = torch.nn.Linear(2, 2)
    load_network_state(network, tmp_path / "best.pt")
    with pytest.raises(WeightsError, match=r"best\.pt is of another network"):
        load_network_state(torch.nn.Linear(3, 2), tmp_path / "best.pt")
