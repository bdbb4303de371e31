from __future__ import annotations

import pytest
import torch

from medresnet3d.errors import ConfigError
from medresnet3d.inferers.structure import flatten

A, B = torch.zeros(1), torch.ones(1)


def test_structures_come_back_as_monai_gives_them() -> None:
    for output, flat, again in [
        (A, [A], "x"),
        ({"b": B, "a": A}, [A, B], {"a": "x", "b": "y"}),
        ((A, B), [A, B], ("x", "y")),
        ([A, B], [A, B], ("x", "y")),
        ([A], [A], "x"),
    ]:
        tensors, rebuild = flatten(output)
        assert all(found is expected for found, expected in zip(tensors, flat, strict=True))
        assert rebuild(["x", "y"][: len(flat)]) == again


def test_what_is_no_tensor_is_refused() -> None:
    for output in (None, {"a": 3}, [A, None]):
        with pytest.raises(ConfigError, match="where a tensor is expected"):
            flatten(output)
