"""Figures of merit of a classifier, each with an interval over patients."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import metrics as sk

from medresnet3d.errors import DataError
from medresnet3d.metrics.bootstrap import Patients, Weights, bootstrap_intervals, ratio
from medresnet3d.metrics.calibration import BINS, bin_numbers, reliability
from medresnet3d.metrics.estimate import Estimate
from medresnet3d.metrics.roc import weighted_auc
from medresnet3d.metrics.screening import weighted_screening

Array = NDArray[np.float64]


def classification_metrics(
    prob: ArrayLike,
    label: ArrayLike,
    patients: Patients | None = None,
    class_names: Sequence[str] | None = None,
    n_boot: int = 1000,
    seed: int = 0,
    ordinal: bool = False,
    patient_score: bool = False,
    screening_grade: int | None = None,
) -> dict[str, Estimate]:
    """Compute a classifier's figures with 95% bootstrap intervals resampled by patient.

    Accuracy, balanced accuracy, AUC, sensitivity, specificity, F1, Brier score and expected calibration error (ECE).
    With two classes, class 1 is the positive one. With more, AUC, sensitivity, specificity and F1 are means over the
    classes that occur, each against the rest, and the Brier score is the sum over classes. A figure that is undefined
    (AUC with one class among the truth, say) is NaN with a note. Where classes are ordered (grades, stages), Cohen's
    kappa with quadratic weights is added, to which an answer is the worse the further it is from the truth.

    Args:
        prob: probabilities (N, C), rows summing to 1; the answer is the most probable class.
        label: true class numbers (N,).
        patients: patient of every case (N,); None takes every case for a patient of its own.
        class_names: class names (C,), checked against the number of columns.
        n_boot: number of resamples.
        seed: seed of the resamples.
        ordinal: the classes are in order.
        patient_score: add the mean over patients of the share of their cases that is answered right (Spanhol et al.
            2016), in which a patient with many images counts as much as one with few.
        screening_grade: of ordered classes, add how well the probability of at least this one tells those cases from
            the others: :func:`medresnet3d.metrics.screening.weighted_screening`.

    Returns:
        Estimates by name: accuracy, balanced_accuracy, auc, sensitivity, specificity, f1, brier, ece; quadratic_kappa,
        patient_score, screening_auc and screening_sensitivity where they are asked for.

    Raises:
        DataError: if shapes, labels or probabilities cannot be used.
    """
    probabilities, labels = _checked(prob, label, class_names)
    people: Patients = range(len(labels)) if patients is None else patients
    if len(people) != len(labels):
        raise DataError(f"{len(people)} patients were given for {len(labels)} cases; give one for each case.")
    share = patient_shares(people) if patient_score else None
    further = (ordinal, share, screening_grade)
    values = point_values(probabilities, labels, *further)
    return bootstrap_intervals(
        values, lambda weights: weighted_values(weights, probabilities, labels, *further), people, n_boot, seed
    )


def patient_shares(patients: Patients) -> Array:
    """The share of its patient's cases that each case is, (N,)."""
    _, places, counts = np.unique(np.asarray([str(one) for one in patients]), return_inverse=True, return_counts=True)
    return np.asarray(1 / counts[places])


def _checked(prob: ArrayLike, label: ArrayLike, names: Sequence[str] | None) -> tuple[Array, NDArray[np.int64]]:
    probabilities = np.asarray(prob, dtype=np.float64)
    labels = np.asarray(label)
    paired = probabilities.ndim == 2 and labels.shape == probabilities.shape[:1]
    if not paired or probabilities.shape[1] < 2 or not len(labels):
        raise DataError(
            f"probabilities of shape {probabilities.shape} and labels of shape {labels.shape} do not belong together; "
            "expected (N, C) with at least two classes, and (N,)."
        )
    if names is not None and len(names) != probabilities.shape[1]:
        raise DataError(f"{len(names)} class names were given for {probabilities.shape[1]} columns of probabilities.")
    if not np.isfinite(probabilities).all() or probabilities.min() < -1e-6 or probabilities.max() > 1 + 1e-6:
        raise DataError("probabilities must lie between 0 and 1; apply softmax to logits first.")
    numbers = labels.astype(np.int64)
    if (numbers != labels).any() or numbers.min() < 0 or numbers.max() >= probabilities.shape[1]:
        found = np.unique(labels)
        raise DataError(f"labels must be class numbers from 0 to {probabilities.shape[1] - 1}; found {found}.")
    return probabilities.clip(0.0, 1.0), numbers


def _averaged_classes(label: NDArray[np.int64], count: int) -> list[int]:
    """Give the classes over which figures are means: of two the positive one, of more all that occur.

    Args:
        label: class numbers (N,) of all cases.
        count: number of classes.
    """
    return [1] if count == 2 else np.unique(label).tolist()


def point_values(
    prob: Array,
    label: NDArray[np.int64],
    ordinal: bool = False,
    share: Array | None = None,
    screening_grade: int | None = None,
) -> dict[str, float]:
    """Compute the figures over all cases with scikit-learn; undefined ones are NaN.

    Args:
        prob: probabilities (N, C).
        label: class numbers (N,).
        ordinal: whether to add the quadratic kappa.
        share: of :func:`patient_shares`, to add the patient score.
        screening_grade: to add the figures of screening.
    """
    classes = np.arange(prob.shape[1])
    answer = prob.argmax(axis=1)
    one_hot = (label[:, None] == classes).astype(np.int64)
    answered = (answer[:, None] == classes).astype(np.int64)
    chosen, squared = _averaged_classes(label, len(classes)), [1] if len(classes) == 2 else classes
    once = np.ones((1, len(label)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # undefined figures become NaN below, with a note for the reader
        recall = [sk.recall_score(one_hot[:, c], answered[:, c], zero_division=np.nan) for c in classes]
        rejected = [sk.recall_score(1 - one_hot[:, c], 1 - answered[:, c], zero_division=np.nan) for c in classes]
        f1 = [sk.f1_score(one_hot[:, c], answered[:, c], zero_division=np.nan) for c in chosen]
        return {
            "accuracy": float(sk.accuracy_score(label, answer)),
            "balanced_accuracy": float(sk.balanced_accuracy_score(label, answer)),
            "auc": float(np.mean([_auc(one_hot[:, c], prob[:, c]) for c in chosen])),
            "sensitivity": float(np.mean([recall[c] for c in chosen])),
            "specificity": float(np.mean([rejected[c] for c in chosen])),
            "f1": float(np.mean(f1)),
            "brier": float(sum(sk.brier_score_loss(one_hot[:, c], prob[:, c], pos_label=1) for c in squared)),
            "ece": reliability(prob, label).error,
            **({"quadratic_kappa": _kappa(label, answer, classes)} if ordinal else {}),
            **({} if share is None else {"patient_score": float(np.average(label == answer, weights=share))}),
            **{name: float(each[0]) for name, each in _screening(once, prob, label, screening_grade).items()},
        }


def _screening(weights: Weights, prob: Array, label: NDArray[np.int64], grade: int | None) -> dict[str, Array]:
    return {} if grade is None else weighted_screening(weights, prob, label, grade)


def _kappa(label: NDArray[np.int64], answer: NDArray[np.int64], classes: NDArray[np.int64]) -> float:
    return float(sk.cohen_kappa_score(label, answer, labels=classes, weights="quadratic"))


def _auc(truth: NDArray[np.int64], score: Array) -> float:
    return float(sk.roc_auc_score(truth, score)) if 0 < truth.sum() < truth.size else float("nan")


def weighted_values(
    weights: Weights,
    prob: Array,
    label: NDArray[np.int64],
    ordinal: bool = False,
    share: Array | None = None,
    screening_grade: int | None = None,
) -> Mapping[str, Array]:
    """Compute the same figures as :func:`point_values` for many weightings of the cases at once.

    Args:
        weights: how often each case counts, (B, N).
        prob: probabilities (N, C).
        label: class numbers (N,).
        ordinal: whether to add the quadratic kappa.
        share: of :func:`patient_shares`, to add the patient score.
        screening_grade: to add the figures of screening.

    Returns:
        One array (B,) a figure, NaN where it is undefined.
    """
    count = prob.shape[1]
    chosen = _averaged_classes(label, count)
    answer = prob.argmax(axis=1)
    cells = np.eye(count * count)[label * count + answer]
    confusion = (weights @ cells).reshape(-1, count, count)
    total = weights.sum(axis=1)
    hit = np.einsum("bcc->bc", confusion)
    truth, answered = confusion.sum(axis=2), confusion.sum(axis=1)
    recall = ratio(hit, truth)
    rejected = ratio(total[:, None] - truth - answered + hit, total[:, None] - truth)
    present = np.isfinite(recall)
    one_hot = np.eye(count)[label]
    squared = ((prob - one_hot) ** 2)[:, int(count == 2) :].sum(axis=1)
    return {
        "accuracy": ratio(hit.sum(axis=1), total),
        "balanced_accuracy": ratio(np.nansum(recall, axis=1), present.sum(axis=1).astype(np.float64)),
        "auc": np.mean([weighted_auc(weights, label == c, prob[:, c]) for c in chosen], axis=0),
        "sensitivity": recall[:, chosen].mean(axis=1),
        "specificity": rejected[:, chosen].mean(axis=1),
        "f1": ratio(2 * hit, truth + answered)[:, chosen].mean(axis=1),
        "brier": ratio(weights @ squared, total),
        "ece": _weighted_ece(weights, prob, label == answer),
        **({"quadratic_kappa": quadratic_kappa(confusion)} if ordinal else {}),
        **({} if share is None else {"patient_score": ratio(weights @ (share * (label == answer)), weights @ share)}),
        **_screening(weights, prob, label, screening_grade),
    }


def quadratic_kappa(confusion: ArrayLike) -> Array:
    r"""Compute Cohen's kappa with quadratic weights, :math:`1 - \sum w_{ij} O_{ij} / \sum w_{ij} E_{ij}`.

    The weights are :math:`(i - j)^2`, O is the confusion matrix and E that of answers which are independent of the
    truth. J. Cohen. Weighted kappa. Psychological Bulletin 70 (1968) 213-220.

    Args:
        confusion: how often class i (second last axis) was answered by j (last), (..., C, C).

    Returns:
        Kappas (...): 1 where all answers are right, 0 for chance, NaN where truth and answers are all of one class.
    """
    counts = np.asarray(confusion, dtype=np.float64)
    grades = np.arange(counts.shape[-1])
    far = (grades[:, None] - grades) ** 2
    total = counts.sum(axis=(-2, -1))
    expected = counts.sum(axis=-1)[..., :, None] * counts.sum(axis=-2)[..., None, :]
    return 1 - ratio(total * (far * counts).sum(axis=(-2, -1)), (far * expected).sum(axis=(-2, -1)))


def _weighted_ece(weights: Weights, prob: Array, right: NDArray[np.bool_]) -> Array:
    confidence = prob.max(axis=1)
    members = np.eye(BINS)[bin_numbers(confidence, BINS)]
    gap = weights @ (members * (confidence - right)[:, None])
    return ratio(np.abs(gap).sum(axis=1), weights.sum(axis=1))
