"""No case is predicted by a model that has seen its patient."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medresnet3d.engines.out_of_fold import out_of_fold
from medresnet3d.errors import ConfigError, DataError


def cohort(seed: int, patients: int = 60, each: int = 3) -> tuple[list[str], list[int]]:
    """Labels without any rhyme: all cases of a patient share one."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (patients,), generator=generator).tolist()
    return [f"p{n}" for n in range(patients) for _ in range(each)], [label for label in labels for _ in range(each)]


def memoriser(patients: list[str], labels: list[int]):  # type: ignore[no-untyped-def]
    """A learner that knows every patient by name and guesses about strangers."""

    def model(learned_from: list[int], held_out: list[int], fold: int) -> Tensor:
        known = {patients[case]: labels[case] for case in learned_from}
        guess = torch.Generator().manual_seed(fold)
        return torch.tensor(
            [float(known.get(patients[case], int(torch.randint(2, (1,), generator=guess)))) for case in held_out]
        )

    return model


def test_a_memorising_learner_is_at_chance() -> None:
    patients, labels = cohort(0, patients=400)
    model = memoriser(patients, labels)
    everything = list(range(len(labels)))
    truth = torch.tensor(labels).float()
    assert torch.equal(model(everything, everything, 0), truth), "on its own cases it is perfect"
    share = float((out_of_fold(model, patients, classes=labels) == truth).float().mean())
    assert 0.44 < share < 0.56


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=12, max_size=40), st.integers(2, 4), st.integers(0, 99))
def test_every_case_once_and_never_with_its_patient(owners: list[int], folds: int, seed: int) -> None:
    patients = [f"p{owner}" for owner in owners] + ["a", "b", "c", "d"]

    def model(learned_from: list[int], held_out: list[int], fold: int) -> Tensor:
        assert not {patients[n] for n in learned_from} & {patients[n] for n in held_out}
        assert sorted(learned_from + held_out) == list(range(len(patients)))
        return torch.tensor(held_out)

    assert out_of_fold(model, patients, folds=folds, seed=seed).tolist() == list(range(len(patients)))


def test_finished_folds_are_not_computed_again(tmp_path: Path) -> None:
    patients, labels = cohort(0, patients=12)
    model, calls = memoriser(patients, labels), []

    def failing(learned_from: list[int], held_out: list[int], fold: int) -> Tensor:
        calls.append(fold)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return model(learned_from, held_out, fold)

    whole = out_of_fold(model, patients, classes=labels)
    with pytest.raises(KeyboardInterrupt):
        out_of_fold(failing, patients, classes=labels, folder=tmp_path)
    assert torch.equal(out_of_fold(failing, patients, classes=labels, folder=tmp_path), whole)
    assert calls == [0, 1, 2, 2, 3, 4]
    with pytest.raises(ConfigError, match="of another split"):
        out_of_fold(model, patients, classes=labels, seed=1, folder=tmp_path)


def test_a_model_that_forgets_a_case_is_refused() -> None:
    with pytest.raises(DataError, match="gave 1 predictions"):
        out_of_fold(lambda learned, held_out, fold: torch.zeros(1), cohort(0)[0])
