"""The grid of a comparison: factors and their levels, arms (one combination of levels each), and the budget."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from medresnet3d.errors import ConfigError
from medresnet3d.names import require_name

#: What people call a factor, and the id of the configuration that it is.
ALIASES = {
    "schedule": "lr_scheduler",
    "optimiser": "optimizer",
    "norm": "normalisation",
    "normalization": "normalisation",
}
ALIASES |= {"regularization": "regularisation", "lr": "learning_rate"}
#: The id that a learning curve varies.
FRACTION = "training_fraction"
_VARIANTS = Path(__file__).with_name("comparison_variants.json")

Overrides = dict[str, Any]
Vary = Mapping[str, Sequence[Any] | Mapping[str, Mapping[str, Any]]] | Iterable[str]


@dataclass(frozen=True)
class Factor:
    """Something that is varied.

    Attributes:
        name: as the user wrote it, e.g. "schedule".
        levels: the configuration ids that each level sets, by the level's name.
        baseline: the level that the others are compared with.
    """

    name: str
    levels: Mapping[str, Overrides]
    baseline: str


@dataclass(frozen=True)
class Arm:
    """One combination of levels.

    Attributes:
        name: e.g. "elu" or "elu, cosine".
        levels: the level of each factor.
        overrides: the configuration ids that it sets.
    """

    name: str
    levels: Mapping[str, str]
    overrides: Overrides


@cache
def named_variants() -> dict[str, dict[str, Overrides]]:
    """Give the levels that set several ids at once, by factor and name (``comparison_variants.json``)."""
    return dict(json.loads(_VARIANTS.read_text(encoding="utf-8")))


def parse_factors(vary: Vary, baseline: Iterable[str] = ()) -> list[Factor]:
    """Read what is to be varied.

    Args:
        vary: texts such as ``"activation=relu,elu"`` with values by name or as JSON; or a mapping of a factor to its
            values, or to named levels with the ids that they set: ``{"head": {"wide": {"width": 64, "dropout": 0}}}``.
        baseline: texts ``"factor=level"``; the first level of a factor by default.

    Raises:
        ConfigError: if a text cannot be read, a factor has fewer than two levels, or a baseline is no level.
    """
    pairs = list(vary.items()) if isinstance(vary, Mapping) else [_read_text(text) for text in vary]
    if not pairs:
        raise ConfigError("Nothing is varied; give --vary factor=value,value (e.g. activation=relu,elu) or --preset.")
    chosen = dict(_split_pair(text, "--baseline") for text in baseline)
    factors = [_make_factor(name, values, chosen.pop(name, None)) for name, values in pairs]
    names = [factor.name for factor in factors]
    if chosen:
        raise ConfigError(f"--baseline {next(iter(chosen))}: this is not varied; the factors are {', '.join(names)}.")
    if len({ALIASES.get(name, name) for name in names}) < len(names):
        raise ConfigError(f"A factor is given twice: {', '.join(names)}; put all its values into one --vary.")
    return factors


def _split_pair(text: str, option: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name.strip() or not value.strip():
        raise ConfigError(f"{option} {text!r}: write it as factor=value, for example {option} activation=relu.")
    return name.strip(), value.strip()


def _read_text(text: str) -> tuple[str, list[Any]]:
    name, values = _split_pair(text, "--vary")
    return name, [_value(each) for each in _split_values(values)]


def _split_values(text: str) -> list[str]:
    """Split at the commas that are in no bracket and no quotation marks."""
    parts, depth, quoted = [""], 0, False
    for before, character in zip(" " + text, text, strict=False):
        quoted ^= character == '"' and before != "\\"
        if not quoted:
            depth += (character in "[{") - (character in "]}")
        if character == "," and not quoted and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _make_factor(name: str, values: Sequence[Any] | Mapping[str, Mapping[str, Any]], baseline: str | None) -> Factor:
    key = ALIASES.get(name, name)
    if isinstance(values, Mapping):
        levels = {level: dict(overrides) for level, overrides in values.items()}
    elif key in named_variants():
        levels = {str(value): _named_level(name, key, value) for value in values}
    else:
        levels = {_level_name(value): {key: value} for value in values}
    if len(levels) < len(values):
        raise ConfigError(f"--vary {name}: a value is given twice.")
    if len(levels) < 2:
        raise ConfigError(f"--vary {name}: one value alone cannot be compared; give two or more, separated by commas.")
    first = next(iter(levels))
    if baseline is not None and baseline not in levels:
        raise ConfigError(f"--baseline {name}={baseline}: no such level; choose one of {', '.join(levels)}.")
    return Factor(name, levels, baseline or first)


def _named_level(name: str, key: str, value: Any) -> Overrides:
    table = named_variants()[key]
    return dict(table[require_name(f"--vary {name}:", value, table)])


def _level_name(value: Any) -> str:
    """Give a value a short name: ``cosface margin=0.2`` for ``{"name": "cosface", "margin": 0.2}``."""
    if isinstance(value, Mapping) and "name" in value:
        options = [f"{key}={_level_name(each)}" for key, each in value.items() if key != "name"]
        return " ".join([str(value["name"]), *options])
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def make_arms(factors: Sequence[Factor], one_at_a_time: bool = False) -> list[Arm]:
    """Combine the levels; the first arm is the baseline.

    Args:
        factors: what is varied.
        one_at_a_time: change one factor of the baseline at a time, instead of all combinations.

    Raises:
        ConfigError: if two factors set the same id.
    """
    baseline = tuple(factor.baseline for factor in factors)
    combinations = list(itertools.product(*(factor.levels for factor in factors)))
    if one_at_a_time:
        combinations = [each for each in combinations if sum(a != b for a, b in zip(each, baseline, strict=True)) <= 1]
    combinations.sort(key=lambda each: each != baseline)
    return [_make_arm(factors, levels) for levels in combinations]


def _make_arm(factors: Sequence[Factor], levels: Sequence[str]) -> Arm:
    overrides: Overrides = {}
    for factor, level in zip(factors, levels, strict=True):
        for key, value in factor.levels[level].items():
            if key in overrides:
                raise ConfigError(f"Two factors set {key!r}, {factor.name} is one of them; vary one of the two.")
            overrides[key] = value
    names = {factor.name: level for factor, level in zip(factors, levels, strict=True)}
    return Arm(", ".join(map(_told, names, levels)), names, overrides)


def _told(factor: str, level: str) -> str:
    """Give a level as part of an arm's name; a bare number or truth value needs its factor's name with it."""
    return level if level[:1].isalpha() and level not in ("true", "false", "null") else f"{factor}={level}"
