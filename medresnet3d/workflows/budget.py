"""How long a training may last: seconds, steps or epochs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from medresnet3d.errors import ConfigError

_FORM = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*")
_UNITS = {"s": ("seconds", 1), "m": ("seconds", 60), "min": ("seconds", 60), "h": ("seconds", 3600)}
_UNITS |= {"step": ("steps", 1), "steps": ("steps", 1), "epoch": ("epochs", 1), "epochs": ("epochs", 1)}
_EXAMPLES = {"seconds": "seconds (120s, 2m)", "steps": "steps (300steps)", "epochs": "epochs (3epochs)"}


@dataclass(frozen=True)
class Budget:
    """How long a training may last: ``amount`` in ``unit`` ("seconds", "steps" or "epochs")."""

    amount: float
    unit: str

    def __str__(self) -> str:
        """Give the budget as a person writes it."""
        return f"{self.amount:g} {self.unit if self.amount != 1 else self.unit.removesuffix('s')}"


def parse_budget(text: str | Budget, units: tuple[str, ...] = ("seconds", "steps")) -> Budget:
    """Read a budget such as ``"120s"``, ``"2m"`` or ``"300steps"``.

    Args:
        text: what was written.
        units: those that are possible.

    Raises:
        ConfigError: if it is none.
    """
    if isinstance(text, Budget):
        return text
    found = _FORM.fullmatch(text)
    unit, factor = _UNITS.get(found[2], ("", 0)) if found else ("", 0)
    amount = float(found[1]) * factor if found else 0.0
    if unit not in units or amount <= 0 or (unit == "steps" and amount != int(amount)):
        forms = " or ".join(_EXAMPLES[one] for one in units)
        raise ConfigError(f"The budget {text!r} means nothing; write {forms}.")
    return Budget(amount, unit)
