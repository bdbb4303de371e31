"""A figure with its interval."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

NO_VALUE = "\u2013"


@dataclass(frozen=True)
class Estimate:
    """A metric with its bootstrap interval.

    Attributes:
        value: the metric over everything that was measured; NaN where it is undefined.
        low: lower end of the 95% interval; NaN where no interval can be given.
        high: upper end of the 95% interval; NaN where no interval can be given.
        n: number of resampled units (patients).
        note: why a value or an interval is missing or weak, else empty.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    note: str = ""

    def __str__(self) -> str:
        """Give ``0.930 [0.912, 0.948]``, or only the value where there is no interval."""
        if math.isnan(self.value):
            return NO_VALUE
        if math.isnan(self.low) or math.isnan(self.high):
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def as_dict(self) -> dict[str, Any]:
        """Give plain JSON data, with None for NaN."""
        return {
            key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in asdict(self).items()
            if not (key == "note" and not value)
        }
