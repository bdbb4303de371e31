"""Choosing a part by name: what a wrong name or option is answered with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from medresnet3d.errors import ConfigError


def require_options(kind: str, name: str, options: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse options that the part does not take.

    Raises:
        ConfigError: with the options that it takes.
    """
    names = sorted(known)
    unknown = sorted(set(options) - set(names))
    if unknown:
        takes = f"it takes {', '.join(names)}" if names else "it takes none"
        raise ConfigError(f"The {kind} {name!r} has no option {', '.join(map(repr, unknown))}; {takes}.")
