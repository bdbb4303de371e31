"""What a check has found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Args:
        level: ``"error"`` is certain and would spoil a training, ``"warning"`` is for a person to judge.
        kind: ``schema``, ``labels``, ``truth``, ``patient``, ``leakage``, ``file``, ``mask``, ``geometry``,
            ``duplicate``, ``near duplicate``, ``balance``, ``outlier``, ``orientation`` or ``hounsfield``.
        where: section, number and image of the entry; empty for the whole manifest.
        text: what is wrong and what to do.
        grave: of a warning: if it is true, it would spoil a training.
        names: names of files and patients that are in ``where`` or ``text``.
    """

    level: Level
    kind: str
    where: str
    text: str
    grave: bool = False
    names: tuple[str, ...] = ()

    @property
    def spoils(self) -> bool:
        """Whether a training would be spoilt."""
        return self.level == "error" or self.grave

    @property
    def place(self) -> str:
        """Where it is, without the name of the image."""
        return self.where.partition(" (")[0]

    def as_dict(self) -> dict[str, Any]:
        """Give the finding as plain values."""
        return {
            "level": self.level,
            "spoils": self.spoils,
            "kind": self.kind,
            "where": self.where,
            "text": self.text,
        }
