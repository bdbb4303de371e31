from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medresnet3d.bundle import binaries
from medresnet3d.bundle.binaries import inspect_binary
from tests.bundle.attacks import Payload


def _save(content: Any, **options: Any) -> io.BytesIO:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    buffer.seek(0)
    return buffer


STATES = {
    "float32": {"a.weight": torch.zeros(2, 3)},
    "half": OrderedDict(a=torch.zeros(2, dtype=torch.float16), n=torch.tensor(3)),
    "bfloat16": {"a": torch.zeros(2, dtype=torch.bfloat16)},
    "parameter": {"a": torch.nn.Parameter(torch.zeros(2))},
    "empty": {},
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", STATES)
def test_state_dicts_pass(name: str, legacy: bool) -> None:
    saved = _save(STATES[name], _use_new_zipfile_serialization=not legacy)
    assert inspect_binary("models/model.pt", saved) == []


def test_state_dict_of_a_network_passes() -> None:
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3), torch.nn.BatchNorm3d(2))
    assert inspect_binary("model.pt", _save(network.state_dict())) == []


@pytest.mark.parametrize("legacy", [False, True])
def test_whole_networks_are_named(legacy: bool) -> None:
    saved = _save(torch.nn.Linear(1, 1), _use_new_zipfile_serialization=not legacy)
    found = [str(finding) for finding in inspect_binary("model.pt", saved)]
    assert any("torch.nn.modules.linear.Linear" in line for line in found)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_are_followed_whatever_their_name(protocol: int) -> None:
    content = pickle.dumps([1, Payload("true")], protocol=protocol)
    assert inspect_binary("README", io.BytesIO(content))


def test_pickle_behind_the_first_of_the_old_format_is_found() -> None:
    saved = _save({"a": torch.zeros(1)}, _use_new_zipfile_serialization=False).getvalue()
    magic = saved[: saved.index(b".") + 1]
    hidden = magic + pickle.dumps(1, protocol=2) + pickle.dumps(Payload("true"), protocol=0)
    assert inspect_binary("model.pt", io.BytesIO(hidden))


def test_torchscript_is_a_program(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), tmp_path / "model.ts")
    with (tmp_path / "model.ts").open("rb") as handle:
        assert any("TorchScript" in finding.why for finding in inspect_binary("model.ts", handle))


def test_arrays_of_numbers_pass_and_of_objects_do_not() -> None:
    for array, clean in ((np.zeros((2, 3)), True), (np.array([{}], dtype=object), False)):
        plain, packed = io.BytesIO(), io.BytesIO()
        np.save(plain, array)
        np.savez(packed, a=array)
        for name, buffer in (("a.npy", plain), ("a.npz", packed)):
            buffer.seek(0)
            assert (inspect_binary(name, buffer) == []) == clean


@pytest.mark.parametrize("name", ["a.pt", "a.pkl", "a.npy", "a.joblib", "a.PTH"])
def test_weights_of_unknown_format_are_named(name: str) -> None:
    assert "format is unknown" in inspect_binary(name, io.BytesIO(b"cos\nsystem\n"))[0].why


def test_pictures_and_archives_pass() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as content:
        content.writestr("a.txt", "a")
    archive.seek(0)
    assert inspect_binary("docs/a.zip", archive) == []
    assert inspect_binary("docs/a.png", io.BytesIO(b"\x89PNG....")) == []
    assert inspect_binary("empty", io.BytesIO()) == []


def test_sizes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "MAX_OPCODES", 10)
    assert "more than 10" in inspect_binary("a.pt", _save({"a": torch.zeros(2)}))[0].why
    monkeypatch.setattr(binaries, "MAX_PICKLE_BYTES", 10)
    assert "larger than" in inspect_binary("a.pt", _save({"a": torch.zeros(2)}))[0].why
