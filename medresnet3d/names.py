"""What a wrong name is answered with: the nearest of those that there are, or the list of all."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from medresnet3d.errors import ConfigError


def did_you_mean(name: str, known: Iterable[str], otherwise: str, likeness: float = 0.6) -> str:
    """Ask for the name that resembles ``name`` most, or give the text ``otherwise`` where none does.

    Args:
        name: what was given.
        known: the names there are.
        otherwise: what to say if none of them is near.
        likeness: from 0, which takes any, to 1, which takes none but the same.
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=likeness)
    return f"did you mean {near[0]!r}?" if near else otherwise


def require_name(what: str, name: str, known: Iterable[str]) -> str:
    """Return ``name`` if it is one of ``known``.

    Raises:
        ConfigError: with the list of all and the nearest one.
    """
    names = list(known)
    if name in names:
        return name
    hint = did_you_mean(str(name), names, "", 0.4)
    question = f" {hint[0].upper()}{hint[1:]}" if hint else ""
    raise ConfigError(f"{what} {name!r} is unknown; choose one of {', '.join(names)}.{question}")
