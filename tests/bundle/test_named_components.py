from __future__ import annotations

from typing import Any

import pytest

from medresnet3d.bundle.named_components import is_named, overridden

LOSS = {"_target_": "build_loss", "_requires_": "@x", "name": "focal", "gamma": 2.0, "auxiliary_steps": "@steps"}


def test_what_is_a_named_component() -> None:
    assert is_named(LOSS)
    for other in ({"name": "focal"}, {"_target_": "build_loss"}, "focal", None, ["_target_", "name"]):
        assert not is_named(other)


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ("cosface", {"_target_": "build_loss", "_requires_": "@x", "name": "cosface", "auxiliary_steps": "@steps"}),
        ("focal", LOSS),
        ({"gamma": 3}, {**LOSS, "gamma": 3}),
        ({"name": "focal", "alpha": 1}, {**LOSS, "alpha": 1}),
        (
            {"name": "cosface", "margin": 0.2, "auxiliary_steps": None},
            {
                "_target_": "build_loss",
                "_requires_": "@x",
                "name": "cosface",
                "margin": 0.2,
                "auxiliary_steps": None,
            },
        ),
        ({"_target_": "torch.nn.MSELoss"}, {"_target_": "torch.nn.MSELoss"}),
        ("$torch.nn.MSELoss()", "$torch.nn.MSELoss()"),
        ("@other", "@other"),
        (None, None),
        (3, 3),
    ],
)
def test_override_of_a_named_component(value: Any, result: Any) -> None:
    before = dict(LOSS)
    found = overridden(LOSS, value)
    assert found == result
    assert before == LOSS, "the entry itself is left alone"
    if isinstance(found, dict) and "name" in found:
        assert list(found)[:2] == ["_target_", "_requires_"]


@pytest.mark.parametrize("entry", [1, "relu", {"_target_": "a", "arch": "b"}, None, [1]])
def test_anything_else_is_replaced(entry: Any) -> None:
    assert overridden(entry, "new") == "new"
    assert overridden(entry, {"name": "new"}) == {"name": "new"}
