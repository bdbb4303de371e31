"""Fits the support vector machine of a :class:`~medresnet3d.networks.described.DescribedClassifier`."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler
from torch import nn

from medresnet3d.data import SeededDataset
from medresnet3d.engines.features import Cases, extract
from medresnet3d.engines.svm_fit import fit_svm
from medresnet3d.networks.described import DescribedClassifier
from medresnet3d.networks.heads.svm import NoRoomError, SVMHead

logger = logging.getLogger(__name__)


class FitDescribed:
    """Fit what is measured in the training pictures; for ``FitStage``.

    Colours that are measured change with light, stain and camera, so the machine learns each picture as it is and as
    often varied. Where it needs more vectors than it has room for, it learns from a part that has all classes alike. It
    needs two patients of every class (where none are named, each picture counts as one); where there are not, the
    classifier goes on answering alone, and the log says so.

    Args:
        dataset: training pictures.
        transform: without randomness.
        varied: with randomness, sample by sample.
        copies: how often each picture is varied; 0: it is learnt as it is.
        cost: C of the machine.
        reach: gamma times the number of measurements; small ones make each vector count farther away.
        seed: of the folds, by which the probabilities are fitted, and of the part.
        batch_size: pictures at a time.
    """

    def __init__(
        self,
        dataset: SeededDataset,
        transform: Callable[[Any], Any],
        varied: Callable[[Any], Any] | None = None,
        copies: int = 1,
        cost: float = 10.0,
        reach: float = 0.3,
        seed: int = 0,
        batch_size: int = 16,
    ) -> None:
        known = [{"patient": item.get("case"), **item} for item in dataset.data]
        self.datasets = [SeededDataset(known, transform, cache="none")]
        if varied is not None:
            self.datasets += [SeededDataset(known, varied, seed + n, cache="none") for n in range(copies)]
        self.cost, self.reach, self.seed, self.batch_size = cost, reach, seed, batch_size

    def __call__(self, network: nn.Module, folder: Path) -> None:
        """Fit; a network that measures nothing is left as it is.

        Raises:
            DataError: if a picture names no class.
        """
        if not isinstance(network, DescribedClassifier):
            return
        parts = [extract(network, each, network.measurements, self.batch_size) for each in self.datasets]
        cases = joined(parts)
        patients = Counter(label for label, _ in set(zip(cases.labels, cases.patients, strict=True)))
        few = [str(number) for number in range(network.svm.num_classes) if patients[number] < 2]
        if few:
            logger.warning(
                "Class %s has fewer than two training patients, so what is measured in the pictures does not count.",
                ", ".join(few),
            )
            return
        scaler = StandardScaler().fit(cases.features.double().numpy())
        network.put("mean", scaler.mean_)
        network.put("deviation", scaler.scale_)
        values = network.standardised(cases.features.to(network.mean.device)).cpu()
        self._fit(network.svm, Cases(values, cases.labels, cases.patients))

    def _fit(self, machine: SVMHead, cases: Cases) -> None:
        """Fit on all cases, or on as many as lead to few enough vectors."""
        gamma = self.reach / cases.features.shape[1]
        while True:
            try:
                fit_svm(machine, cases, costs=(self.cost,), gamma=gamma, seed=self.seed)
                return
            except NoRoomError:
                cases = part_of(cases, max(machine.coefficients.shape[1], len(cases.labels) * 4 // 5), self.seed)


def joined(parts: Sequence[Cases]) -> Cases:
    """All cases of several lists, in their order."""
    return Cases(
        torch.cat([part.features for part in parts]),
        [label for part in parts for label in part.labels],
        [patient for part in parts for patient in part.patients],
    )


def part_of(cases: Cases, limit: int, seed: int = 0) -> Cases:
    """At most ``limit`` cases, of each class about as many, drawn by chance; all if they are no more."""
    if len(cases.labels) <= limit:
        return cases
    order = np.random.default_rng(seed).permutation(len(cases.labels))
    labels = np.asarray(cases.labels)[order]
    turn = np.zeros(len(order), dtype=int)  # the how manieth of its class
    for label in set(cases.labels):
        turn[labels == label] = np.arange((labels == label).sum())
    chosen = sorted(order[np.argsort(turn, kind="stable")[:limit]].tolist())
    return Cases(
        cases.features[chosen], [cases.labels[place] for place in chosen], [cases.patients[place] for place in chosen]
    )
