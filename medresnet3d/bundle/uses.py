"""A bundle of several uses: its configurations have an id ``task``, and its metadata say what each answer is.

``metadata.json`` describes the use that ships. Under ``uses`` it has, by task, what is different in another one, for
example ``labels`` and ``network_data_format``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def task_of(metadata: Mapping[str, Any], overrides: Mapping[str, Any]) -> str:
    """The task that a bundle does with these overrides: that of another use, where ``task`` names one."""
    chosen = str(overrides.get("task", ""))
    return chosen if chosen in metadata.get("uses", {}) else str(metadata.get("task", ""))


def metadata_of_use(metadata: Mapping[str, Any], task: str) -> dict[str, Any]:
    """The metadata of one use: those of another in place of the default's, where ``task`` is that of another.

    A bundle that was trained for another use has only that one left.
    """
    other = metadata.get("uses", {}).get(task)
    if other is None:
        return dict(metadata)
    return {**{key: value for key, value in metadata.items() if key != "uses"}, "task": task, **other}
