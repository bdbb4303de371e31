from __future__ import annotations

import subprocess
import threading
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

AFFINE = torch.tensor([[0.0, -2.0, 0, 10], [1.5, 0, 0, -7], [0, 0, 3.0, 2], [0, 0, 0, 1]], dtype=torch.float64)


def scan(shape: tuple[int, ...] = (1, 40, 36, 50), seed: int = 0, dtype: Any = torch.float32) -> MetaTensor:
    """Whole numbers as in CT, with an oblique affine and some metadata."""
    values = np.random.default_rng(seed).integers(-1000, 2000, shape)
    affine = AFFINE if len(shape) == 4 else AFFINE[[0, 1, 3]][:, [0, 1, 3]]
    meta = {"filename_or_obj": f"scan{seed}.nii.gz", "spatial_shape": np.array(shape[1:]), "quality": float("nan")}
    return MetaTensor(torch.as_tensor(values).to(dtype), affine=affine, meta=meta)


def labels(shape: tuple[int, ...] = (1, 40, 36, 50), seed: int = 0, classes: int = 3, dtype: Any = torch.uint8) -> Any:
    """A label map with a few boxes of each class."""
    rng = np.random.default_rng(seed)
    values = np.zeros(shape, np.int64)
    for number in range(1, classes):
        for _ in range(3):
            low = [int(rng.integers(0, size)) for size in shape[1:]]
            values[(0, *(slice(start, start + 6) for start in low))] = number
    affine = AFFINE if len(shape) == 4 else AFFINE[[0, 1, 3]][:, [0, 1, 3]]
    return MetaTensor(torch.as_tensor(values).to(dtype), affine=affine)


def items(count: int = 2, shape: tuple[int, ...] = (1, 40, 36, 50)) -> list[dict[str, Any]]:
    return [{"image": scan(shape, i), "label": labels(shape, i), "case": f"case {i}"} for i in range(count)]


def same(one: Any, other: Any) -> bool:
    """Equal in type and in every bit, metadata and recorded transforms (their object numbers aside) included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        plain = [each.as_subclass(torch.Tensor) for each in (one, other)]
        alike = plain[0].dtype == plain[1].dtype and plain[0].shape == plain[1].shape
        bits = [each.contiguous().numpy().tobytes() if each.dtype != torch.bfloat16 else each for each in plain]
        if not alike or (not torch.equal(*plain) if plain[0].dtype == torch.bfloat16 else bits[0] != bits[1]):
            return False
        return not isinstance(one, MetaTensor) or same(dict(vars(one)), dict(vars(other)))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one if key != "id")
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) or (isinstance(one, float) and one != one and other != other)


def first_line(process: subprocess.Popen[str], seconds: float = 100) -> str:
    """The first line that a process writes; it is killed if there is none in time."""
    assert process.stdout is not None
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        return process.stdout.readline().strip()
    finally:
        timer.cancel()
