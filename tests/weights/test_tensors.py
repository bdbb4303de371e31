from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from medresnet3d.errors import WeightsError
from medresnet3d.weights.tensors import read_tensors


class _Attack:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("attacked"),)


def test_half_precision_becomes_float32_and_a_checkpoint_is_opened(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.ones(2, dtype=torch.float16), "b": torch.ones(1).long()}}, tmp_path / "w.pth")
    tensors = read_tensors(tmp_path / "w.pth")
    assert {name: tensor.dtype for name, tensor in tensors.items()} == {"a": torch.float32, "b": torch.int64}


def test_a_pickle_is_refused_and_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("attack.pth").write_bytes(pickle.dumps(_Attack()))
    with pytest.raises(WeightsError, match="not loaded"):
        read_tensors(Path("attack.pth"))
    assert not Path("attacked").exists()


def test_a_file_that_is_no_safetensors_is_told(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    (tmp_path / "w.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        read_tensors(tmp_path / "w.safetensors")
