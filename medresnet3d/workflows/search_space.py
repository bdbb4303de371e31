"""The space of a search: which configuration ids may have which values.

A space is a JSON object of ids, each with its kind and range::

    {"learning_rate": {"type": "float", "low": 1e-5, "high": 0.1, "log": true},
     "batch_size": {"type": "int", "low": 4, "high": 32, "step": 4},
     "loss": {"type": "categorical", "choices": ["cross_entropy", "focal"]}}

``search_space.schema.json`` is its law.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medresnet3d.errors import ConfigError
from medresnet3d.names import did_you_mean

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError
    from optuna.distributions import BaseDistribution

_KINDS = {"number": "a number", "integer": "a whole number", "boolean": "true or false", "array": "a list"}


@dataclass(frozen=True)
class Parameter:
    """One id of the configuration and what it may be.

    Attributes:
        name: the id, for example ``learning_rate`` or ``network_def::dropout``.
        kind: ``float``, ``int`` or ``categorical``.
        low: smallest value of a number.
        high: largest value of a number, one that ``step`` reaches.
        log: whether a number is searched on a logarithmic scale.
        step: distance of neighbouring values; ``None``: any value.
        choices: values of a categorical, anything that JSON has.
    """

    name: str
    kind: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    choices: tuple[Any, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The choices as texts, which Optuna stores and reports show."""
        return tuple(label(choice) for choice in self.choices)

    def value(self, label_or_number: Any) -> Any:
        """Give the configuration's value of what Optuna stores: the choice of a label, or the number itself."""
        if self.kind == "categorical":
            return self.choices[self.labels.index(label_or_number)]
        return int(label_or_number) if self.kind == "int" else float(label_or_number)

    def at(self, position: float) -> Any:
        """Give the stored value (a number, or the label of a choice) at a position from 0 (low) to 1 (high)."""
        if self.kind == "categorical":
            return self.labels[min(int(position * len(self.choices)), len(self.choices) - 1)]
        if self.log:
            span = self._edges()
            number = math.exp(math.log(span[0]) + position * math.log(span[1] / span[0]))
        elif self.step is not None:
            number = self.low + self.step * min(int(position * (self._steps + 1)), self._steps)
        else:
            number = self.low + position * (self.high - self.low)
        number = min(max(number, self.low), self.high)
        return round(number) if self.kind == "int" else number

    def distribution(self) -> BaseDistribution:
        """The same as a distribution of Optuna."""
        from optuna import distributions

        if self.kind == "categorical":
            return distributions.CategoricalDistribution(self.labels)
        if self.kind == "int":
            step = 1 if self.step is None else int(self.step)
            return distributions.IntDistribution(int(self.low), int(self.high), self.log, step)
        return distributions.FloatDistribution(self.low, self.high, self.log, self.step)

    def __str__(self) -> str:
        """Say in a few words what it may be."""
        if self.kind == "categorical":
            return f"one of {', '.join(self.labels)}"
        step = "" if self.step in (None, 1) else f" in steps of {self.step:g}"
        return f"{self.low:g} to {self.high:g}{step}{', logarithmic' if self.log else ''}"

    @property
    def _steps(self) -> int:
        return round((self.high - self.low) / (self.step or 1))

    def _edges(self) -> tuple[float, float]:
        """The ends of a logarithmic range; a whole number gets its share of the range around it."""
        return (self.low - 0.5, self.high + 0.5) if self.kind == "int" else (self.low, self.high)


def label(choice: Any) -> str:
    """Give a choice as text: a text as it is, anything else as JSON."""
    return choice if isinstance(choice, str) else json.dumps(choice, sort_keys=True)


@functools.cache
def space_schema() -> dict[str, Any]:
    """The JSON Schema that every space must satisfy."""
    text = importlib.resources.files("medresnet3d.workflows").joinpath("search_space.schema.json").read_text("utf-8")
    return dict(json.loads(text))


def read_space(space: str | os.PathLike[str] | Mapping[str, Any]) -> tuple[Parameter, ...]:
    """Read a space and check it.

    Args:
        space: the JSON file, or what is in it.

    Raises:
        ConfigError: in one sentence, if it cannot be read or breaks a rule.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    where = "the space" if isinstance(space, Mapping) else os.fspath(space)
    raw = dict(space) if isinstance(space, Mapping) else _read(Path(space))
    error = best_match(Draft202012Validator(space_schema()).iter_errors(raw))
    if error is not None:
        raise ConfigError(f"{where}: {_schema_sentence(error)}")
    return tuple(_parameter(name, entry, f"{where}: `{name}`") for name, entry in raw.items())


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: there is no such file; write a space as `medresnet3d search --help` says."
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: this is no JSON file that can be read ({error}).") from error


def _schema_sentence(error: ValidationError) -> str:
    """Say in one sentence what the schema found."""
    path = [str(part) for part in error.absolute_path]
    place = f"`{path[0]}`" if path else ""
    key = f" `{path[1]}`" if len(path) > 1 else ""
    value = json.dumps(error.instance)
    shown = value if len(value) <= 60 else f"{value[:57]}..."
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        return f"{place} has no `{missing}`; add it."
    if error.validator == "additionalProperties":
        known = [name for name in error.schema["properties"] if name != "type"]
        extra = next(name for name in error.instance if name not in error.schema["properties"])
        hint = did_you_mean(extra, known, f"a {error.instance['type']} takes {', '.join(known)}.")
        return f"{place} has the unknown key `{extra}`; {hint}"
    if error.validator == "enum":
        return f"{place}{key} is {shown}; use one of {', '.join(error.validator_value)}."
    if error.validator == "type":
        wanted = _KINDS.get(error.validator_value, 'an object such as {"type": "float", "low": 0, "high": 1}')
        return f"{place}{key} is {shown} but must be {wanted}.".lstrip()
    if error.validator in ("minProperties", "minItems"):
        return f"{place}{key} is empty; name at least one {'value' if path else 'id'}.".lstrip()
    return f"{place}{key} is {shown}, which cannot be used ({error.message})."


def _parameter(name: str, entry: Mapping[str, Any], where: str) -> Parameter:
    if entry["type"] == "categorical":
        return _categorical(name, entry["choices"], where)
    low, high, log, step = entry["low"], entry["high"], entry.get("log", False), entry.get("step")
    if not (low < high and math.isfinite(high - low)):
        raise ConfigError(f"{where} goes from {low:g} to {high:g}; give finite numbers with `low` smaller than `high`.")
    if log and low <= 0:
        raise ConfigError(f"{where} is logarithmic from {low:g}; a logarithmic range must begin above 0.")
    if log and step not in (None, 1 if entry["type"] == "int" else None):
        raise ConfigError(f"{where} has both `log` and `step`; leave one of them out.")
    if step is not None and step > high - low:
        raise ConfigError(f"{where} has the step {step:g}, which is wider than its range {low:g} to {high:g}.")
    if step is not None:
        high = low + math.floor((high - low) / step + 1e-9) * step
    if entry["type"] == "int":
        return Parameter(name, "int", int(low), int(high), log, step)
    return Parameter(name, "float", float(low), float(high), log, None if step is None else float(step))


def _categorical(name: str, choices: Sequence[Any], where: str) -> Parameter:
    parameter = Parameter(name, "categorical", choices=tuple(choices))
    twice = [text for index, text in enumerate(parameter.labels) if text in parameter.labels[:index]]
    if twice:
        raise ConfigError(f"{where} lists the choice {twice[0]} twice; name each value once.")
    return parameter


def describe(space: Sequence[Parameter]) -> dict[str, Any]:
    """Give a space as the JSON object that :func:`read_space` reads, in a form that is the same for the same space."""
    content: dict[str, Any] = {}
    for one in space:
        if one.kind == "categorical":
            content[one.name] = {"type": one.kind, "choices": list(one.choices)}
            continue
        content[one.name] = {"type": one.kind, "low": one.low, "high": one.high, "log": one.log}
        if one.step is not None:
            content[one.name]["step"] = one.step
    return content
