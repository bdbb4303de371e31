"""The answers of classifiers and regressors as rows of a table."""

from __future__ import annotations

import csv
import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from medresnet3d.io.atomic import atomic_path
from medresnet3d.io.columns import columns_of

TABLE = "predictions.csv"
IMAGES = "further_images"
"""Key of an item that holds the answer's further images by name."""


class KeepImaged(MapTransform):
    """Keep an image (1, i, j, k) of this moment as one of the answer's further images.

    Args:
        keys: the image.
        name: what it is called; ``medresnet3d infer`` writes ``<case>_<name>``.
    """

    def __init__(self, keys: KeysCollection, name: str) -> None:
        super().__init__(keys)
        self.name = name

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give the item with (i, j, k) in its mapping under :data:`IMAGES`."""
        item = dict(data)
        for key in self.key_iterator(item):
            kept = torch.as_tensor(item[key]).as_subclass(torch.Tensor)[0].clone()
            item[IMAGES] = {**item.get(IMAGES, {}), self.name: kept}
        return item


class SavePredictiond(MapTransform):
    """Append one row for each item to ``predictions.csv``: case, path, answer.

    With ``labels`` the answer is the label of the highest probability and a column of probability for each class;
    without, one column ``value``. What the item has under ``details`` (a screening score, say) follows in columns named
    by their path, as ``infer`` names them; the first item says which. It starts the table anew; each row is written at
    once, so that a killed run leaves whole rows.

    Args:
        keys: the prediction: probabilities of shape (C,), or one value.
        output_dir: folder of the table; it is created.
        labels: class names in index order, as a list or as metadata.json has them (``{"0": "vessel", ...}``).
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str | os.PathLike[str],
        labels: Sequence[str] | Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(keys)
        self.table = Path(output_dir) / TABLE
        by_number = labels if isinstance(labels, Mapping) else {str(n): name for n, name in enumerate(labels or ())}
        self.labels = [by_number[number] for number in sorted(by_number, key=int)]
        self._started = False
        self._further: list[str] = []

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the row and give ``data`` back unchanged."""
        item = dict(data)
        for key in self.key_iterator(item):
            values = [float(value) for value in torch.as_tensor(item[key]).flatten()]
            further = columns_of("details", item.get("details", {}))
            self._write([item.get("case", ""), item.get("path", ""), *self._answer(values)], further)
        return item

    def _answer(self, values: list[float]) -> list[Any]:
        if not self.labels:
            return values
        return [self.labels[values.index(max(values))], *(f"{value:.6f}" for value in values)]

    def _write(self, row: list[Any], further: Mapping[str, Any]) -> None:
        if not self._started:
            answer = ["label", *(f"probability_{label}" for label in self.labels)] if self.labels else ["value"]
            with atomic_path(self.table) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
                csv.writer(handle).writerow(["case", "path", *answer, *further])
            self._further, self._started = list(further), True
        with self.table.open("a", newline="", encoding="utf-8") as handle:
            csv.writer(handle).writerow([*row, *(further.get(name, "") for name in self._further)])
