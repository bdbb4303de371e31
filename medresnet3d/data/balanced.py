"""Draw rare classes more often than they are there."""

from __future__ import annotations

from collections import Counter

import numpy as np

from medresnet3d.data.dataset import SeededDataset, SeededSampler
from medresnet3d.errors import ConfigError, DataError


class BalancedSampler(SeededSampler):
    r"""A :class:`~medresnet3d.data.SeededSampler` in which the classes are drawn more evenly than they occur.

    An epoch has as many samples as the data set. Of class c, of which there are :math:`n_c`, a share of
    :math:`n_c^{1-b} / \sum_k n_k^{1-b}` is drawn, each case as often as the others of its class, or once more: with
    ``balance`` b = 0 the classes come as they are, with 1 each as often. The order depends on (seed, epoch) alone.

    Args:
        data_source: the training data; its items have a ``label``.
        balance: b, from 0 to 1.
        shuffle: must be true: a balanced epoch has no order of its own.
        seed: a non-negative integer.

    Raises:
        ConfigError: for another ``balance``, or without shuffling.
        DataError: if an item has no label.
    """

    def __init__(self, data_source: SeededDataset, balance: float = 1.0, shuffle: bool = True, seed: int = 0) -> None:
        if not 0 <= balance <= 1 or not shuffle:
            raise ConfigError(
                f"Classes are balanced by 0 (as they are) to 1 (each as often) and shuffled, not {balance}."
            )
        super().__init__(data_source, shuffle, seed)
        labels = [item.get("label") for item in data_source.data]
        if None in labels:
            raise DataError("A training case has no `label`, by which the classes are balanced; set `balance` to 0.")
        self.balance = balance
        repeated = np.array([str(label) for label in labels] * data_source.repeats)
        self._members = {name: np.flatnonzero(repeated == name) for name in sorted(Counter(repeated.tolist()))}

    def _everything(self) -> np.ndarray:
        """The samples of the running epoch; epochs count from 1."""
        if self.balance == 0:
            return super()._everything()
        rng = np.random.default_rng([self.seed, self.epoch, 2])
        size = len(self.data_source)
        weights = np.array([len(members) ** (1 - self.balance) for members in self._members.values()])
        wanted = np.floor(np.cumsum(weights) / weights.sum() * size + 0.5).astype(int)
        drawn = []
        for members, count in zip(self._members.values(), np.diff(wanted, prepend=0), strict=True):
            rounds = -(-count // len(members))
            drawn += (
                [np.concatenate([rng.permutation(members) + n * size for n in range(rounds)])[:count]] if count else []
            )
        return np.concatenate(drawn)
