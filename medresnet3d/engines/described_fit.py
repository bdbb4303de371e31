"""Fits the support vector machine of a :class:`~medresnet3d.networks.described.DescribedClassifier`."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.preprocessing import StandardScaler
from torch import nn

from medresnet3d.data import SeededDataset
from medresnet3d.engines.features import Cases, extract
from medresnet3d.engines.svm_fit import fit_svm
from medresnet3d.networks.described import DescribedClassifier

logger = logging.getLogger(__name__)


class FitDescribed:
    """Fit what is measured in the training pictures; for ``FitStage``.

    Where there are more pictures than the machine has room for vectors, it learns from a part that has all classes
    alike. A machine needs two patients of every class; where there are not, the classifier goes on answering alone, and
    the log says so.

    Args:
        dataset: training pictures.
        transform: without randomness.
        cost: C of the machine.
        reach: gamma times the number of measurements; small ones make each vector count farther away.
        seed: of the folds, by which the probabilities are fitted, and of the part.
        batch_size: pictures at a time.
    """

    def __init__(
        self,
        dataset: SeededDataset,
        transform: Callable[[Any], Any],
        cost: float = 10.0,
        reach: float = 0.3,
        seed: int = 0,
        batch_size: int = 16,
    ) -> None:
        self.dataset = SeededDataset(dataset.data, transform, cache="none")
        self.cost, self.reach, self.seed, self.batch_size = cost, reach, seed, batch_size

    def __call__(self, network: nn.Module, folder: Path) -> None:
        """Fit; a network that measures nothing is left as it is.

        Raises:
            DataError: if a picture names no class or patient.
        """
        if not isinstance(network, DescribedClassifier):
            return
        cases = extract(network, self.dataset, network.measurements, self.batch_size)
        patients = Counter(label for label, _ in set(zip(cases.labels, cases.patients, strict=True)))
        few = [str(number) for number in range(network.svm.num_classes) if patients[number] < 2]
        if few:
            logger.warning(
                "Class %s has fewer than two training patients, so what is measured in the pictures does not count.",
                ", ".join(few),
            )
            return
        cases = part_of(cases, network.svm.coefficients.shape[1], self.seed)
        scaler = StandardScaler().fit(cases.features.double().numpy())
        network.put("mean", scaler.mean_)
        network.put("deviation", scaler.scale_)
        device = network.mean.device
        values = network.standardised(cases.features.to(device)).cpu()
        known = Cases(values, cases.labels, cases.patients)
        gamma = self.reach / values.shape[1]
        fit_svm(network.svm, known, costs=(self.cost,), gamma=gamma, seed=self.seed, folder=folder)


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
