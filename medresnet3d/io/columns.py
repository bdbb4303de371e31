"""Nested values as columns of a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def columns_of(name: str, value: Any) -> dict[str, Any]:
    """Give a column for each plain value, or list of such, of nested mappings; lists in lists are left out.

    Args:
        name: of the value; that of a nested one is its path, joined by ``_``.
        value: a plain value, a list, or a mapping.

    Example:
        >>> columns_of("details", {"screening": {"score": 0.5, "from_grade": 1}})
        {'details_screening_score': 0.5, 'details_screening_from_grade': 1}
    """
    if isinstance(value, Mapping):
        return {column: one for key, part in value.items() for column, one in columns_of(f"{name}_{key}", part).items()}
    if not isinstance(value, (list, tuple)):
        return {name: "" if value is None else value}
    plain = all(isinstance(one, (str, int, float)) for one in value)
    return {name: (" | " if any(isinstance(one, str) for one in value) else " ").join(map(str, value))} if plain else {}
