"""Predictions on cases that were left out: what every second stage must be fitted on.

A second stage (SVM, tree, fusion, cascade, auto-context) that is fitted on what the first stage says about its own
training cases learns to trust an overconfident first stage. Here each case is predicted by a model that saw no image of
its patient.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from medresnet3d.data.splits import assign_folds
from medresnet3d.engines.checkpoint import load_checkpoint, save_checkpoint
from medresnet3d.engines.device import rank
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.progress import track

FoldModel = Callable[[list[int], list[int], int], Tensor]
"""Called with the indices to learn from, those to predict and the fold's number; gives (held out, ...)."""


def out_of_fold(
    model: FoldModel,
    patients: Sequence[str],
    *,
    classes: Sequence[int] | None = None,
    folds: int = 5,
    seed: int = 0,
    folder: str | Path | None = None,
) -> Tensor:
    """Predict every case by a model that was fitted without its patient.

    Processes of a distributed run do not wait for each other here: each fits what it does not find, to the same result,
    and the first of them writes it.

    Args:
        model: fits on some cases and predicts others.
        patients: the patient of each case; all cases of one are held out together.
        classes: class number of each case, to stratify the folds by.
        folds: number of folds.
        seed: of the folds.
        folder: each finished fold is kept there and not computed again when the call is repeated.

    Returns:
        predictions in the order of the cases, (N, ...).

    Raises:
        DataError: if there are fewer patients than folds, or the model gives another number of predictions than cases.
        ConfigError: if ``folder`` holds folds of another split.
    """
    assigned = assign_folds(list(patients), folds, classes=classes, seed=seed)
    key = _key(patients, classes, folds, seed)
    predictions: list[Tensor] = []
    order: list[int] = []
    for fold in track(range(folds), "predicting out of fold"):
        held_out = [case for case, its in enumerate(assigned) if its == fold]
        kept = None if folder is None else Path(folder) / f"fold_{fold}.pt"
        values = _read(kept, key)
        if values is None:
            learned_from = [case for case, its in enumerate(assigned) if its != fold]
            values = model(learned_from, held_out, fold).detach().cpu()
            if len(values) != len(held_out):
                raise DataError(f"Fold {fold} has {len(held_out)} cases, but its model gave {len(values)} predictions.")
            _write(kept, key, values)
        predictions.append(values)
        order += held_out
    return torch.cat(predictions)[torch.tensor(order).argsort()]


def _key(patients: Sequence[str], classes: Sequence[int] | None, folds: int, seed: int) -> str:
    described = json.dumps([list(patients), None if classes is None else [int(c) for c in classes], folds, seed])
    return hashlib.sha256(described.encode()).hexdigest()


def _read(kept: Path | None, key: str) -> Tensor | None:
    if kept is None or not kept.is_file():
        return None
    state = load_checkpoint(kept)
    if state["split"] != key:
        raise ConfigError(f"{kept} is of another split (patients, classes, folds or seed differ); remove its folder.")
    values: Tensor = state["values"]
    return values


def _write(kept: Path | None, key: str, values: Tensor) -> None:
    if kept is not None and rank() == 0:
        save_checkpoint({"split": key, "values": values}, kept)
