"""The score of a screening test beside the probabilities of the grades that it is made of."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from medresnet3d.errors import DataError


class ScreeningScored(MapTransform):
    """Say in ``details`` how probable at least a grade is; the probabilities stay as they are.

    ``details["screening"]`` becomes ``{"score": s, "from_grade": t}``, see
    :func:`medresnet3d.metrics.screening.screening_scores`; it is a column of ``predictions.csv`` and in the report, and
    ``evaluate`` measures it.

    Args:
        keys: probabilities (C,) of grades in rising order, after the softmax.
        from_grade: the lowest grade that the screening must find.

    Raises:
        DataError: if there is no such grade, when it is called.
    """

    def __init__(self, keys: KeysCollection, from_grade: int = 1) -> None:
        super().__init__(keys)
        self.from_grade = int(from_grade)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of ``data`` with the score."""
        item = dict(data)
        for key in self.key_iterator(item):
            probabilities = torch.as_tensor(item[key]).double().flatten()
            if not 1 <= self.from_grade < len(probabilities):
                raise DataError(
                    f"Screening from grade {self.from_grade} is impossible with {len(probabilities)} grades; "
                    f"use 1 to {len(probabilities) - 1}."
                )
            score = float(probabilities[self.from_grade :].sum())
            screening = {"score": round(score, 6), "from_grade": self.from_grade}
            item["details"] = {**item.get("details", {}), "screening": screening}
        return item
