"""Named components of a configuration: dictionaries with ``_target_`` and ``name``, whose part is chosen by its name.

For example::

    "loss": {"_target_": "medresnet3d.losses.build_loss", "name": "cross_entropy", "label_smoothing": 0.1}

``--set loss=focal`` chooses another part, ``--set 'loss={"name": "focal", "gamma": 3}'`` gives it options as well.
"""

from __future__ import annotations

from typing import Any


def is_named(entry: Any) -> bool:
    """Whether an entry of a raw configuration is a named component."""
    return isinstance(entry, dict) and "_target_" in entry and "name" in entry


def overridden(entry: Any, value: Any) -> Any:
    """What an entry of a raw configuration becomes when it is set to ``value``.

    A named component keeps its ``_target_`` when it is given a name, or a dictionary without ``_target_``, which is
    merged into it. With another name, the options that belonged to the former one are dropped: those with plain values;
    references and expressions (``@steps``, ``$...``) stay. All else is replaced.

    Args:
        entry: what is there.
        value: what ``--set`` gives.

    Example:
        >>> overridden({"_target_": "build", "name": "a", "option": 1, "steps": "@steps"}, "b")
        {'_target_': 'build', 'name': 'b', 'steps': '@steps'}
    """
    if not is_named(entry):
        return value
    if isinstance(value, str) and not value.startswith(("$", "@", "%")):
        value = {"name": value}
    if not isinstance(value, dict) or "_target_" in value:
        return value
    if value.get("name", entry["name"]) != entry["name"]:
        entry = {key: each for key, each in entry.items() if key.startswith("_") or _is_reference(each)}
    return {**entry, **value}


def _is_reference(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("$", "@"))
