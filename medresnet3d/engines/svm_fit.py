"""Fits the support vector machine of a network by patient: cost by cross-validation, probabilities out of fold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medresnet3d.data.dataset import SeededDataset
from medresnet3d.engines.features import Cases, extract
from medresnet3d.engines.out_of_fold import out_of_fold
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.networks.heads.svm import SVMHead
from medresnet3d.networks.svm_classifier import SVMClassifier

COSTS = (0.01, 0.1, 1.0, 10.0, 100.0)


class FitSVM:
    """Fit the SVM of a :class:`~medresnet3d.networks.svm_classifier.SVMClassifier`; for ``FitStage``.

    Args:
        dataset: training cases.
        transform: without randomness, in place of that of ``dataset``; ``None``: the data set has none that is random.
        calibration: cases that the network was not trained on, to fit the probabilities with; ``None``: the training
            cases out of fold. A network that was trained on the training cases knows them, so that their decisions are
            too sure even out of fold.
        costs: values of C to choose from.
        folds: of the inner cross-validation; fewer where a class has fewer patients.
        seed: of the folds.
        class_weight: ``"balanced"`` or ``None``.
        batch_size: images at a time.
    """

    def __init__(
        self,
        dataset: Any,
        transform: Callable[[Any], Any] | None = None,
        calibration: Any = None,
        costs: Sequence[float] = COSTS,
        folds: int = 5,
        seed: int = 0,
        class_weight: str | None = "balanced",
        batch_size: int = 16,
    ) -> None:
        self.dataset = dataset if transform is None else SeededDataset(dataset.data, transform)
        self.calibration = calibration
        self.costs, self.folds, self.seed = tuple(costs), folds, seed
        self.class_weight, self.batch_size = class_weight, batch_size

    def __call__(self, network: nn.Module, folder: Path) -> None:
        """Fit; folds are kept in ``folder``.

        Raises:
            ConfigError: if the network has no SVM.
            DataError: if a case has no class or patient, or a class has fewer than two patients.
        """
        if not isinstance(network, SVMClassifier):
            raise ConfigError(f"{type(network).__name__} has no SVM to fit; use build_svm_classifier.")
        cases = self._cases(network, self.dataset)
        unseen = None if self.calibration is None else self._cases(network, self.calibration)
        fit_svm(
            network.svm,
            cases,
            unseen,
            costs=self.costs,
            folds=self.folds,
            seed=self.seed,
            class_weight=self.class_weight,
            folder=folder,
        )

    def _cases(self, network: SVMClassifier, dataset: Any) -> Cases:
        def features(images: Tensor) -> Tensor:
            return network.svm_features(network.forward_features(images))

        return extract(network, dataset, features, self.batch_size)


def fit_svm(
    head: SVMHead,
    cases: Cases,
    calibration: Cases | None = None,
    *,
    costs: Sequence[float] = COSTS,
    folds: int = 5,
    seed: int = 0,
    class_weight: str | None = "balanced",
    gamma: float | str = "scale",
    folder: Path | None = None,
) -> float:
    """Fit a head: choose C by the balanced accuracy out of fold, fit on all cases, fit Platt's sigmoids.

    The scaler belongs to what is fitted: each fold has its own.

    Args:
        head: filled.
        cases: training cases.
        calibration: see :class:`FitSVM`.
        costs: values of C to choose from; of equally good ones the smallest.
        folds: of the inner cross-validation.
        seed: of the folds.
        class_weight: ``"balanced"`` or ``None``.
        gamma: of an RBF machine, or ``"scale"`` as scikit-learn has it.
        folder: where folds are kept.

    Returns:
        the chosen C.

    Raises:
        DataError: if a class has fewer than two patients.
        ConfigError: if no cost is given or one is not positive.
    """
    if not costs or min(costs) <= 0:
        raise ConfigError(f"costs is {list(costs)}; give one or more positive values of C.")
    costs = sorted(costs)
    labels = np.asarray(cases.labels)
    number = min(folds, _fewest_patients(cases, head.num_classes))

    def model(learned_from: list[int], held_out: list[int], fold: int) -> Tensor:
        known = cases.features[learned_from], labels[learned_from]
        machines = [_fitted(head, *known, c, class_weight, gamma) for c in costs]
        return torch.stack([each.pair_decisions(cases.features[held_out].double()) for each in machines], dim=1)

    decisions = out_of_fold(model, cases.patients, classes=cases.labels, folds=number, seed=seed, folder=folder)
    scores = [_balanced_accuracy(head, decisions[:, n], labels) for n in range(len(costs))]
    best = int(np.argmax(scores))
    room = head.coefficients.shape[1]
    final = _fitted(head, cases.features, labels, costs[best], class_weight, gamma, room)
    if calibration is None:
        sigmoids = platt(decisions[:, best].numpy(), labels, head.num_classes)
    else:
        pairs = final.pair_decisions(calibration.features.double()).numpy()
        sigmoids = platt(pairs, np.asarray(calibration.labels), head.num_classes)
    final.set_sigmoids(*sigmoids)
    head.load_state_dict(final.state_dict())
    return costs[best]


def _fewest_patients(cases: Cases, classes: int) -> int:
    numbers = [len({p for p, c in zip(cases.patients, cases.labels, strict=True) if c == k}) for k in range(classes)]
    if min(numbers) < 2:
        raise DataError(
            f"Class {int(np.argmin(numbers))} has {min(numbers)} training patient(s); an SVM that is chosen by "
            "cross-validation needs two or more of each class."
        )
    return min(numbers)


def _fitted(
    head: SVMHead,
    features: Tensor,
    labels: np.ndarray,
    cost: float,
    class_weight: str | None,
    gamma: float | str,
    room: int | None = None,
) -> SVMHead:
    """A machine like ``head`` in double precision, by default with room for all its vectors."""
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    values = features.double().numpy()
    scaler = StandardScaler().fit(values)
    machine = SVC(C=cost, kernel=head.kernel, gamma=gamma, class_weight=class_weight)
    machine.fit(scaler.transform(values), labels)
    own = SVMHead(values.shape[1], head.num_classes, head.kernel, room or len(values)).double()
    return own.from_sklearn(machine, scaler)


def _balanced_accuracy(head: SVMHead, pairs: Tensor, labels: np.ndarray) -> float:
    predicted = head.one_vs_rest(pairs.to(head.first.device)).argmax(1).cpu().numpy()
    return float(np.mean([(predicted == k)[labels == k].mean() for k in range(head.num_classes)]))


def platt(pairs: np.ndarray, labels: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    r"""Fit :math:`P(i | d) = 1 / (1 + e^{A d + B})` for each pair of classes, with Platt's softened targets.

    Args:
        pairs: decisions, (N, pairs), positive for the first class of the pair.
        labels: (N,).
        classes: K.

    Returns:
        A and B, each (pairs,). A pair of which a class is missing has A = -1, B = 0.
    """
    slope, offset = -np.ones(pairs.shape[1]), np.zeros(pairs.shape[1])
    for number, (first, second) in enumerate(combinations(range(classes), 2)):
        is_first, is_second = labels == first, labels == second
        if is_first.any() and is_second.any():
            chosen = is_first | is_second
            slope[number], offset[number] = _sigmoid(pairs[chosen, number], is_first[chosen])
    return slope, offset


def _sigmoid(decision: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    from sklearn.linear_model import LogisticRegression

    high, low = (positive.sum() + 1) / (positive.sum() + 2), 1 / ((~positive).sum() + 2)
    target = np.where(positive, high, low)
    unit = float(np.abs(decision).max()) or 1.0
    values = np.tile(decision / unit, 2)[:, None]
    truth = np.repeat([1, 0], len(decision))
    model = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000)
    model.fit(values, truth, sample_weight=np.concatenate([target, 1 - target]))
    return -float(model.coef_[0, 0]) / unit, -float(model.intercept_[0])
