"""What a wrong name of an architecture or layer is answered with."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from medresnet3d.errors import ConfigError


def require_name(what: str, name: str, known: Iterable[str]) -> str:
    """Return ``name`` if it is one of ``known``.

    Raises:
        ConfigError: with the list of all and the nearest one.
    """
    names = list(known)
    if name in names:
        return name
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"{what} {name!r} is unknown; choose one of {', '.join(names)}.{hint}")
