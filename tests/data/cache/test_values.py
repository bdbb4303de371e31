from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Flip, RandSpatialCrop
from monai.utils import SpaceKeys

from medresnet3d.data.cache.header import DamagedEntryError
from medresnet3d.data.cache.values import Encoder, UncacheableError, decode
from tests.data.cache.samples import same, scan


def back(value: Any) -> Any:
    encoder = Encoder()
    node = json.loads(json.dumps(encoder(value)))
    return decode(node, lambda number: encoder.arrays[number].copy())


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        2**70,
        0.1,
        float("nan"),
        float("-inf"),
        "a",
        "ü\ud800",
        b"\0a",
        [1, (2, [3.5])],
        {"a": {1: "b", None: (1,)}},
        torch.Size([2, 3]),
        slice(1, None, 2),
        Path("a/b"),
        torch.float16,
        SpaceKeys.RAS,
        np.float64(0.1),
        np.int16(-3),
        np.bool_(True),
        np.array(["a", "bcd"]),
        np.array([b"x"]),
        np.array(5),
        np.empty((0, 3), np.float32),
        np.arange(1000.0).reshape(10, 100),
        torch.tensor(3),
        torch.arange(500),
        torch.rand(20, 20).to(torch.bfloat16),
        torch.rand(3).to(torch.bfloat16),
        torch.zeros(3, dtype=torch.bool),
        torch.rand(4, 40).T,
        scan((1, 8, 8, 8)),
        scan((3, 9, 9)),
        Flip(0)(scan((1, 8, 8, 8))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_come_back_as_they_were(value: Any) -> None:
    assert same(back(value), value)


def test_recorded_transforms_can_be_inverted() -> None:
    crop = RandSpatialCrop((4, 4, 4))
    crop.set_random_state(0)
    assert same(back(crop(scan((1, 8, 8, 8)))), crop.set_random_state(0)(scan((1, 8, 8, 8))))


class Unknown:
    pass


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"a": [Unknown()]}, r"item\['a'\]\[0\]"),
        (np.array([Unknown()]), "object"),
        (np.zeros(2, ">f4"), ">f4"),
        (torch.zeros(2, requires_grad=True), "plain tensor"),
        (torch.zeros(2).to_sparse(), "plain tensor"),
        (torch.nn.Parameter(torch.zeros(2)), "Parameter"),
        (len, "builtin_function"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_cannot_be_stored_is_named(value: Any, where: str) -> None:
    with pytest.raises(UncacheableError, match=where):
        Encoder()(value)


@pytest.mark.parametrize(
    "node",
    [
        {"t": "object"},
        {"t": "pickle", "v": "x"},
        {"v": 1},
        {"t": "array", "k": "|O8", "s": [1], "b": "00" * 8},
        {"t": "array", "k": "<f4", "s": [10**12], "b": "00"},
        {"t": "array", "k": "<f4", "s": ["a"], "b": "00"},
        {"t": "array", "n": 99},
        {"t": "array", "n": "x"},
        {"t": "tensor", "k": "<f4", "s": [1], "b": "00000000", "d": "torch.load"},
        {"t": "dtype", "v": "os"},
        {"t": "enum", "v": ["os", "system"]},
        {"t": "enum", "v": ["Enum", "x"]},
        {"t": "meta", "k": "<f4", "s": [1], "b": "00000000", "m": {"t": "dict", "v": [["as_tensor", 1]]}},
        {"t": "dict", "v": [[[1], 2]]},
        {"t": "bytes", "v": "zz"},
    ],
    ids=str,
)
def test_hostile_descriptions_are_damage(node: Any) -> None:
    with pytest.raises(DamagedEntryError):
        decode(node, lambda number: [np.zeros(3)][number])


def test_deep_nesting_is_damage() -> None:
    node: Any = 1
    for _ in range(5000):
        node = [node]
    with pytest.raises(DamagedEntryError):
        decode(node, lambda number: np.zeros(1))


def test_tensors_are_new_each_time() -> None:
    encoder = Encoder()
    node = encoder({"x": MetaTensor(torch.zeros(2))})
    first, second = (decode(node, lambda number: encoder.arrays[number]) for _ in range(2))
    first["x"] += 1
    first["x"].meta["new"] = 1
    assert torch.equal(second["x"], torch.zeros(2))
    assert "new" not in second["x"].meta
