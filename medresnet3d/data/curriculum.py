"""A curriculum over ratings: first the cases that readers are sure of, then all.

Curriculum: Y. Bengio, J. Louradour, R. Collobert, J. Weston. Curriculum learning. ICML 2009; on LIDC-IDRI's ratings of
malignancy: A. Nibali et al. (2017).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from medresnet3d.data.dataset import SeededDataset, SeededSampler
from medresnet3d.errors import ConfigError, DataError


class CurriculumSampler(SeededSampler):
    """A :class:`~medresnet3d.data.SeededSampler` that leaves out the undecided cases at first.

    While a stage lasts, only cases whose median rating is at least its ``distance`` away from the middle of the scale
    are drawn, some of them more than once, so that every epoch has as many samples as the data set. After the last
    stage all cases are drawn. Like its base, the order depends on (seed, epoch) alone.

    Args:
        data_source: the training data; its items have the ratings.
        stages: in order, each ``{"epochs": n, "distance": d}``; an empty list is no curriculum.
        key: the item's ratings: a list of numbers, one of each reader, or one number.
        middle: of the scale.
        shuffle: draw a new order in each epoch.
        seed: a non-negative integer.

    Raises:
        ConfigError: if a stage is malformed.
        DataError: if an item has no ratings, or a stage has no case, or only cases on one side of the middle.
    """

    def __init__(
        self,
        data_source: SeededDataset,
        stages: Sequence[Mapping[str, Any]] = (),
        key: str = "malignancy",
        middle: float = 3.0,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(data_source, shuffle, seed)
        self._last_epochs: list[int] = []
        self._chosen: list[np.ndarray] = []
        for stage in stages:
            if set(stage) != {"epochs", "distance"} or stage["epochs"] < 1:
                raise ConfigError(f'A stage of a curriculum is {{"epochs": n, "distance": d}}, not {dict(stage)}.')
            self._add(data_source, int(stage["epochs"]), float(stage["distance"]), key, middle)

    def _add(self, data: SeededDataset, epochs: int, distance: float, key: str, middle: float) -> None:
        missing = [item.get("case", index) for index, item in enumerate(data.data) if key not in item]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(data.data)} training cases (the first is {missing[0]}) have no `{key}` in the "
                "manifest, which the curriculum needs; add it, or set `curriculum` to []."
            )
        away = np.array([median(np.atleast_1d(item[key]).tolist()) - middle for item in data.data])
        sure = np.flatnonzero(np.abs(away) >= distance)
        if len(np.unique(np.sign(away[sure]))) < 2:
            raise DataError(
                f"A stage of the curriculum asks for a median `{key}` at least {distance:g} away from {middle:g}, "
                f"which {len(sure)} training cases have, not on both sides of it; lower the distance."
            )
        repeats = [sure + turn * len(data.data) for turn in range(data.repeats)]
        self._last_epochs.append(epochs + (self._last_epochs[-1] if self._last_epochs else 0))
        self._chosen.append(np.concatenate(repeats))

    def _everything(self) -> np.ndarray:
        """The samples of the running epoch; epochs count from 1."""
        size = len(self.data_source)
        for last, chosen in zip(self._last_epochs, self._chosen, strict=True):
            if self.epoch <= last:
                rng = np.random.default_rng([self.seed, self.epoch, 1])
                rounds = -(-size // len(chosen))
                return np.concatenate([rng.permutation(chosen) + again * size for again in range(rounds)])[:size]
        return super()._everything()
