from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medresnet3d.errors import ConfigError
from medresnet3d.workflows.search_space import Parameter, describe, read_space

EXAMPLE: dict[str, Any] = {
    "learning_rate": {"type": "float", "low": 1e-5, "high": 0.1, "log": True},
    "batch_size": {"type": "int", "low": 4, "high": 31, "step": 4},
    "width": {"type": "int", "low": 1, "high": 64, "log": True},
    "dropout": {"type": "float", "low": 0, "high": 0.5, "step": 0.1},
    "loss": {"type": "categorical", "choices": ["cross_entropy", {"name": "cosface", "margin": 0.2}, None, 1, True]},
}


def test_a_space_is_read_from_a_file_and_from_a_mapping(tmp_path: Path) -> None:
    (tmp_path / "space.json").write_text(json.dumps(EXAMPLE))
    space = read_space(tmp_path / "space.json")
    assert space == read_space(EXAMPLE) == read_space(describe(space))
    assert [one.kind for one in space] == ["float", "int", "int", "float", "categorical"]
    assert space[1].high == 28  # the last value that the step reaches
    assert str(space[0]) == "1e-05 to 0.1, logarithmic"
    assert str(space[1]) == "4 to 28 in steps of 4"
    assert space[4].labels == ("cross_entropy", '{"margin": 0.2, "name": "cosface"}', "null", "1", "true")
    assert space[4].value('{"margin": 0.2, "name": "cosface"}') == {"name": "cosface", "margin": 0.2}
    assert space[4].value("true") is True


@pytest.mark.parametrize("parameter", read_space(EXAMPLE), ids=lambda one: one.name)
@given(place=st.floats(0, 1))
def test_every_position_is_a_value_of_the_range(parameter: Parameter, place: float) -> None:
    stored = parameter.at(place)
    distribution = parameter.distribution()
    assert distribution._contains(distribution.to_internal_repr(stored))
    value = parameter.value(stored)
    if parameter.kind == "categorical":
        assert value in parameter.choices
    else:
        assert parameter.low <= value <= parameter.high
        assert isinstance(value, int if parameter.kind == "int" else float)


def test_positions_cover_the_range_evenly() -> None:
    rate, batch, width, dropout, loss = read_space(EXAMPLE)
    places = [(i + 0.5) / 700 for i in range(700)]
    counts = {value: [batch.at(p) for p in places].count(value) for value in range(4, 29, 4)}
    assert set(counts.values()) == {100}
    assert rate.at(0.5) == pytest.approx(1e-3)
    assert [width.at(p) for p in (0.0, 1.0)] == [1, 64]
    assert width.at(0.5) in range(4, 10)
    assert {round(dropout.at(p), 6) for p in places} == {0.0, 0.1, 0.2, 0.3, 0.4, 0.5}
    assert [loss.at(p) for p in (0.0, 0.999, 1.0)] == ["cross_entropy", "true", "true"]


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({}, "the space: is empty; name at least one id"),
        ({"a": 3}, "`a` is 3 but must be an object such as"),
        ({"a": {"low": 1}}, "`a` has no `type`; add it"),
        ({"a": {"type": "double"}}, '`a` `type` is "double"; use one of float, int, categorical'),
        ({"a": {"type": "float", "low": 1}}, "`a` has no `high`; add it"),
        ({"a": {"type": "int", "low": 0.5, "high": 2}}, "`a` `low` is 0.5 but must be a whole number"),
        ({"a": {"type": "float", "low": 0, "hihg": 2, "high": 3}}, "unknown key `hihg`; did you mean 'high'?"),
        ({"a": {"type": "categorical", "choices": [1], "log": True}}, "unknown key `log`; a categorical takes choices"),
        ({"a": {"type": "categorical", "choices": []}}, "`a` `choices` is empty; name at least one value"),
        ({"a": {"type": "categorical", "choices": ["1", 1]}}, "lists the choice 1 twice"),
        ({"a": {"type": "float", "low": 2, "high": 1}}, "goes from 2 to 1; give finite numbers with `low` smaller"),
        ({"a": {"type": "float", "low": 0, "high": float("inf")}}, "give finite numbers"),
        ({"a": {"type": "float", "low": 0, "high": 1, "log": True}}, "logarithmic from 0"),
        ({"a": {"type": "float", "low": 1, "high": 2, "log": True, "step": 0.1}}, "both `log` and `step`"),
        ({"a": {"type": "float", "low": 1, "high": 2, "step": 3}}, "has the step 3, which is wider"),
        ({"a": {"type": "float", "low": 1, "high": 2, "step": 0}}, "`a` `step` is 0, which cannot be used"),
    ],
)
def test_a_breach_is_one_sentence(entry: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_space(entry)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_unreadable_files_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        read_space(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ConfigError, match="no JSON file that can be read"):
        read_space(tmp_path / "bad.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"is \[\] but must be an object"):
        read_space(tmp_path / "list.json")
