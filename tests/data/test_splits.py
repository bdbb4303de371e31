from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medresnet3d.data.splits import assign_folds, choose_share, choose_validation
from medresnet3d.errors import DataError

entries = st.lists(st.tuples(st.integers(0, 15), st.integers(0, 2)), min_size=4, max_size=60).filter(
    lambda listed: len({patient for patient, _ in listed}) >= 4
)


@settings(max_examples=60, deadline=None)
@given(entries, st.integers(2, 4), st.booleans(), st.integers(0, 5), st.randoms(use_true_random=False))
def test_folds_depend_on_the_entries_and_never_on_their_order(
    listed: list[tuple[int, int]], folds: int, stratify: bool, seed: int, shuffler: random.Random
) -> None:
    def split(order: list[tuple[int, int]]) -> dict[str, int]:
        patients = [f"p{patient}" for patient, _ in order]
        classes = [label for _, label in order] if stratify else None
        assigned = assign_folds(patients, folds, classes=classes, seed=seed)
        by_patient = dict(zip(patients, assigned, strict=True))
        assert [by_patient[patient] for patient in patients] == assigned, "a patient is in two folds"
        return by_patient

    first = split(listed)
    assert set(first.values()) == set(range(folds))
    again = list(listed)
    shuffler.shuffle(again)
    assert split(again) == first


def test_folds_are_stratified() -> None:
    patients = [f"p{index // 2}" for index in range(200)]
    classes = [int(index % 10 == 0) for index in range(200)]
    assigned = assign_folds(patients, 5, classes=classes)
    assert Counter(fold for fold, label in zip(assigned, classes, strict=True) if label) == dict.fromkeys(range(5), 4)


def test_the_seed_matters() -> None:
    patients = [str(index) for index in range(40)]
    assert assign_folds(patients, 4, seed=0) == assign_folds(patients, 4, seed=0)
    assert assign_folds(patients, 4, seed=0) != assign_folds(patients, 4, seed=1)


@pytest.mark.parametrize(("fraction", "expected"), [(0.2, 20), (0.3, 30), (0.5, 50), (0.0, 0), (0.05, 10)])
def test_validation_fraction(fraction: float, expected: int) -> None:
    chosen = choose_validation([str(index) for index in range(100)], fraction)
    assert sum(chosen) == expected


def test_two_patients_are_enough_and_one_is_not() -> None:
    assert sorted(choose_validation(["a", "b", "b"], 0.2)) in ([False, False, True], [False, True, True])
    with pytest.raises(DataError, match="Only one patient is listed"):
        choose_validation(["a", "a"], 0.2)
    with pytest.raises(DataError, match="3 patients cannot be split into 5 folds"):
        assign_folds(["a", "b", "c"], 5)
    with pytest.raises(DataError, match=r"validation fraction is 1\.5"):
        choose_validation(["a", "b"], 1.5)


@settings(max_examples=60, deadline=None)
@given(entries, st.integers(0, 5), st.booleans(), st.randoms(use_true_random=False))
def test_shares_are_nested_and_do_not_depend_on_the_order(
    listed: list[tuple[int, int]], seed: int, stratify: bool, shuffler: random.Random
) -> None:
    def taken(order: list[tuple[int, int]], fraction: float) -> set[str]:
        patients = [f"p{patient}" for patient, _ in order]
        classes = [label for _, label in order] if stratify else None
        chosen = choose_share(patients, fraction, classes=classes, seed=seed)
        inside = {patient for patient, is_in in zip(patients, chosen, strict=True) if is_in}
        assert chosen == [patient in inside for patient in patients], "a patient is cut in two"
        return inside

    shares = [taken(listed, fraction) for fraction in (0.01, 0.1, 0.3, 0.5, 0.9, 1.0)]
    assert all(small <= large for small, large in pairwise(shares))
    everyone = {f"p{patient}" for patient, _ in listed}
    assert len(shares[0]) == 1 and shares[-1] == everyone
    assert len(shares[3]) == round(0.5 * len(everyone))
    shuffled = list(listed)
    shuffler.shuffle(shuffled)
    assert [taken(shuffled, fraction) for fraction in (0.1, 0.5)] == [shares[1], shares[3]]


def test_small_shares_hold_every_class_in_proportion() -> None:
    patients = [f"p{i:02}" for i in range(80)]
    classes = [int(i >= 60) for i in range(80)]
    for seed in range(5):
        for fraction in (0.05, 0.1, 0.5):
            chosen = choose_share(patients, fraction, classes=classes, seed=seed)
            positive = sum(label for label, is_in in zip(classes, chosen, strict=True) if is_in)
            assert abs(positive - sum(chosen) / 4) <= 1, (seed, fraction)
            assert positive >= 1


def test_seeds_give_other_shares() -> None:
    patients = [f"p{i}" for i in range(40)]
    assert len({tuple(choose_share(patients, 0.5, seed=seed)) for seed in range(6)}) == 6


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1])
def test_impossible_shares(fraction: float) -> None:
    with pytest.raises(DataError, match="above 0 and at most 1"):
        choose_share(["a", "b"], fraction)
