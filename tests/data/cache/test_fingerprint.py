from __future__ import annotations

import functools
import logging
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import (
    Compose,
    CropForegroundd,
    Lambda,
    LoadImaged,
    MapTransform,
    NormalizeIntensityd,
    Orientationd,
    ScaleIntensityRanged,
    Spacingd,
    Transform,
)

from medresnet3d.data.cache.fingerprint import environment, fingerprint
from medresnet3d.errors import ConfigError
from medresnet3d.transforms.ct import CropAtPositiond
from medresnet3d.transforms.load import LoadVolumed

logger = logging.getLogger(__name__)
FACTOR = 2


def scaled(value: Any) -> Any:
    logger.debug("scaled")
    return helper(value) * FACTOR


def helper(value: Any) -> Any:
    return value + 1


class Plain(Transform):
    offset = 1

    def __init__(self, parameter: Any = None) -> None:
        self.parameter = parameter

    def __call__(self, data: Any) -> Any:
        return data


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value: int) -> None:
        self.value = value


class Keyed:
    def __init__(self, value: int) -> None:
        self.value, self.lock = value, threading.Lock()

    def cache_key(self) -> int:
        return self.value


PAIRS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "number": (lambda: 1, lambda: 2),
    "number type": (lambda: 1, lambda: 1.0),
    "bool": (lambda: 1, lambda: True),
    "zero": (lambda: 0.0, lambda: -0.0),
    "nesting": (lambda: [[1], 2], lambda: [[1, 2]]),
    "tuple": (lambda: [1], lambda: (1,)),
    "text": (lambda: ["a", "bc"], lambda: ["ab", "c"]),
    "key": (lambda: {"a": 1}, lambda: {"b": 1}),
    "array": (lambda: np.zeros(3), lambda: np.ones(3)),
    "array shape": (lambda: np.zeros((2, 3)), lambda: np.zeros((3, 2))),
    "array type": (lambda: np.zeros(2, np.float32), lambda: np.zeros(2, np.int32)),
    "tensor": (lambda: torch.zeros(3), lambda: torch.zeros(3, dtype=torch.float64)),
    "dtype": (lambda: np.dtype("float32"), lambda: np.dtype("float16")),
    "type": (lambda: np.float32, lambda: np.float16),
    "set": (lambda: {1, 2}, lambda: {1, 3}),
    "parameter": (lambda: Plain(1), lambda: Plain(2)),
    "deep parameter": (
        lambda: Compose([Compose([Plain({"a": [1]})])]),
        lambda: Compose([Compose([Plain({"a": [2]})])]),
    ),
    "slots": (lambda: Slotted(1), lambda: Slotted(2)),
    "cache_key": (lambda: Keyed(1), lambda: Keyed(2)),
    "lambda": (lambda: Lambda(lambda x: x + 1), lambda: Lambda(lambda x: x + 2)),
    "lambda operator": (lambda: Lambda(lambda x: x + 1), lambda: Lambda(lambda x: x - 1)),
    "closure": (lambda: closed(1), lambda: closed(2)),
    "default": (lambda: defaulted(1), lambda: defaulted(2)),
    "partial": (lambda: functools.partial(scaled, value=1), lambda: functools.partial(scaled, value=2)),
    "method": (lambda: Plain(1).__call__, lambda: Plain(2).__call__),
    "function": (lambda: scaled, lambda: helper),
    "builtin": (lambda: np.exp, lambda: np.log),
    "window": (
        lambda: ScaleIntensityRanged("image", 0, 400, 0, 1),
        lambda: ScaleIntensityRanged("image", 0, 401, 0, 1),
    ),
    "spacing": (lambda: Spacingd("image", (1, 1, 1)), lambda: Spacingd("image", (1, 1, 1.5))),
    "mode": (lambda: Spacingd("image", 1.0, mode="nearest"), lambda: Spacingd("image", 1.0, mode="bilinear")),
    "keys": (lambda: NormalizeIntensityd("image"), lambda: NormalizeIntensityd("label")),
    "axes": (lambda: Orientationd("image", "RAS", labels=None), lambda: Orientationd("image", "LPS", labels=None)),
    "reader": (lambda: LoadImaged("image", "NibabelReader"), lambda: LoadImaged("image", "ITKReader")),
    "margin": (lambda: CropForegroundd("image", "image"), lambda: CropForegroundd("image", "image", margin=1)),
    "own loader": (lambda: LoadVolumed("image"), lambda: LoadVolumed("image", dtype=np.float64)),
    "own crop": (lambda: CropAtPositiond("image", 32), lambda: CropAtPositiond("image", 33)),
}


def nested(number: int) -> Compose:
    return Compose([Compose([Plain({"a": [number]})])])


def closed(number: int) -> Callable[[Any], Any]:
    return lambda value: value + number


def defaulted(number: int) -> Callable[..., Any]:
    def add(value: Any, other: int = number) -> Any:
        return value + other

    return add


@pytest.mark.parametrize("name", PAIRS)
def test_different_parameters_have_different_fingerprints_and_equal_ones_the_same(name: str) -> None:
    one, other = PAIRS[name]
    assert fingerprint(one()) == fingerprint(one())
    assert fingerprint(other()) == fingerprint(other())
    assert fingerprint(one()) != fingerprint(other())


def test_what_a_function_refers_to_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(scaled)
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", 3)
    constant = fingerprint(scaled)
    monkeypatch.setattr(sys.modules[__name__], "helper", lambda value: value + 7)
    assert len({before, constant, fingerprint(scaled)}) == 3


def test_the_code_of_a_class_and_of_its_bases_counts() -> None:
    def kind(source: str) -> Any:
        scope: dict[str, Any] = {"MapTransform": MapTransform, "__name__": "somewhere"}
        exec(textwrap.dedent(source), scope)
        return scope["B"]("image")

    one = "class A(MapTransform):\n def __call__(self, data): return 1\nclass B(A):\n pass"
    assert fingerprint(kind(one)) == fingerprint(kind(one))
    assert fingerprint(kind(one)) != fingerprint(kind(one.replace("return 1", "return 2")))
    assert fingerprint(kind(one)) != fingerprint(kind(one.replace("pass", "offset = 3")))


def test_what_cannot_be_told_apart_is_refused_with_its_place() -> None:
    with pytest.raises(ConfigError, match=r"lock \(value\.parameter\[1\]\).*cache_key"):
        fingerprint(Plain([1, threading.Lock()]))
    with pytest.raises(ConfigError, match="generator"):
        fingerprint(i for i in range(3))


def test_cycles_end() -> None:
    def ring(value: int) -> list[Any]:
        first: list[Any] = [value]
        first.append([first])
        return first

    assert fingerprint(ring(1)) == fingerprint(ring(1))
    assert fingerprint(ring(1)) != fingerprint(ring(2))


def test_shared_and_copied_values_are_the_same() -> None:
    shared = [1, 2]
    assert fingerprint([shared, shared]) == fingerprint([[1, 2], [1, 2]])


def test_every_version_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = environment()
    monkeypatch.setattr("medresnet3d.__version__", "99")
    assert environment() != before
    assert {"monai", "torch", "numpy", "medresnet3d", "sources"} <= before.keys()


def test_another_process_finds_the_same() -> None:
    code = "from tests.data.cache.test_fingerprint import PAIRS, fingerprint\n"
    code += "print(fingerprint([one() for one, _ in PAIRS.values()]))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    assert run.stdout.split()[-1] == fingerprint([one() for one, _ in PAIRS.values()])
