"""Seeded splits by patient that do not depend on the order in which entries are listed."""

from __future__ import annotations

import random
import warnings
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

from medresnet3d.errors import DataError


def assign_folds(
    patients: Sequence[str], folds: int, *, classes: Sequence[int] | None = None, seed: int = 0
) -> list[int]:
    """Give every entry a fold so that no patient is in two folds.

    The result depends on the seed and on which entries there are, never on their order. With ``classes`` the folds
    have about equal class shares (scikit-learn's ``StratifiedGroupKFold``), otherwise about equal size.

    Args:
        patients: the patient of each entry.
        folds: number of folds, at least 2.
        classes: the class index of each entry, to stratify by.
        seed: another seed gives another split.

    Returns:
        one fold number in ``0 .. folds - 1`` for each entry.

    Raises:
        DataError: if there are fewer patients than folds.
    """
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    count = len(set(patients))
    if count < 2:
        raise DataError("Only one patient is listed, so nothing can be split off; list a `validation` section instead.")
    if not 2 <= folds <= count:
        raise DataError(f"{count} patients cannot be split into {folds} folds; ask for between 2 and {count} folds.")
    # The canonical order makes the result independent of how the entries were listed.
    target = classes if classes is not None else [0] * len(patients)
    order = sorted(range(len(patients)), key=lambda i: (patients[i], target[i]))
    groups = [patients[i] for i in order]
    stratify = classes is not None and max(target.count(value) for value in set(target)) >= folds
    splitter = (StratifiedGroupKFold if stratify else GroupKFold)(n_splits=folds, shuffle=True, random_state=seed)
    assigned = [0] * len(patients)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        for fold, (_, members) in enumerate(splitter.split(groups, [target[i] for i in order], groups)):
            for member in members:
                assigned[order[member]] = fold
    return assigned


def choose_validation(
    patients: Sequence[str], fraction: float, *, classes: Sequence[int] | None = None, seed: int = 0
) -> list[bool]:
    """Say for every entry whether it is in the validation part.

    Args:
        patients: the patient of each entry.
        fraction: share of the validation part, between 0 (nothing) and 1 (excluded).
        classes: the class index of each entry, to stratify by.
        seed: another seed gives another split.

    Raises:
        DataError: if the fraction is outside ``[0, 1)`` or there is only one patient.
    """
    if not 0 <= fraction < 1:
        raise DataError(f"The validation fraction is {fraction}; it must be at least 0 and below 1.")
    if fraction == 0:
        return [False] * len(patients)
    share = Fraction(fraction).limit_denominator(10)
    folds = max(2, min(share.denominator, len(set(patients))))
    chosen = min(folds - 1, max(1, round(fraction * folds)))
    return [fold < chosen for fold in assign_folds(patients, folds, classes=classes, seed=seed)]


def choose_share(
    patients: Sequence[str], fraction: float, *, classes: Sequence[int] | None = None, seed: int = 0
) -> list[bool]:
    """Say for every entry whether its patient is in the first share of all patients, in seeded order.

    A larger fraction contains a smaller one (the points of a learning curve are nested), and the order of the entries
    does not matter. With ``classes`` the classes take turns in proportion to their number of patients, so that small
    shares hold about the same mixture; a patient's class is the largest among its entries.

    Args:
        patients: the patient of each entry.
        fraction: share of the patients, above 0 and at most 1; at least one patient is taken.
        classes: the class index of each entry.
        seed: another seed gives another order.

    Raises:
        DataError: if the fraction is outside ``(0, 1]``.
    """
    if not 0 < fraction <= 1:
        raise DataError(f"The training fraction is {fraction}; it must be above 0 and at most 1.")
    class_of: dict[str, int] = {}
    for patient, value in zip(patients, classes or [0] * len(patients), strict=True):
        class_of[patient] = max(value, class_of.get(patient, value))
    shuffled = sorted(class_of)
    random.Random(seed).shuffle(shuffled)
    sizes, seen = Counter(class_of.values()), Counter[int]()
    places: dict[str, float] = {}
    for patient in shuffled:
        places[patient] = (seen[class_of[patient]] + 0.5) / sizes[class_of[patient]]
        seen[class_of[patient]] += 1
    ordered = sorted(shuffled, key=places.__getitem__)
    chosen = set(ordered[: max(1, round(fraction * len(ordered)))])
    return [patient in chosen for patient in patients]
