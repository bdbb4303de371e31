"""``learning-curve``: what more patients would bring."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from medresnet3d.bundle.load import parse_overrides
from medresnet3d.data.manifest import Manifest
from medresnet3d.errors import ConfigError
from medresnet3d.workflows.budget import Budget, parse_budget
from medresnet3d.workflows.compare import Comparison, Options, compare_factors
from medresnet3d.workflows.compare_grid import FRACTION, Factor, make_arms

FRACTIONS = (0.1, 0.25, 0.5, 1.0)


def learning_curve(
    bundle: str | os.PathLike[str],
    data: str | os.PathLike[str] | Manifest,
    output: str | os.PathLike[str],
    *,
    fractions: Sequence[float] = FRACTIONS,
    seeds: int = 3,
    budget: str | Budget = "120s",
    folds: int | None = None,
    set: Mapping[str, Any] | Iterable[str] = (),
    device: str = "auto",
    workers: int | str = "auto",
    threads: int = 1,
    retry_failed: bool = False,
    trust: bool = False,
) -> Comparison:
    """Train on growing shares of the training patients and measure on the same held-out cases.

    The shares of one seed are nested; another seed draws other patients. All cells get the same budget, so that a small
    share is seen more often. It is a comparison (:func:`medresnet3d.compare`) of the id ``training_fraction`` and
    leaves the same files.

    Args:
        bundle: a name from ``bundle list``, a bundle folder or a run folder.
        data: the manifest.
        output: folder; new, empty or that of an earlier call, which is gone on with.
        fractions: shares of the training patients, above 0 and at most 1.
        seeds: number of runs of each share.
        budget: of each cell: ``"120s"``, ``"2m"`` or ``"300steps"``.
        folds: seed k holds out fold k of so many, by patient, in place of the fixed split.
        set: configuration ids to override in all cells.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        workers: number of processes, or ``"auto"``.
        threads: number of threads of each worker.
        retry_failed: run cells again that failed in an earlier call.
        trust: accept a bundle from elsewhere although the inspection found something.

    Raises:
        ConfigError: if there are fewer than two shares, one is out of range, or the bundle has no
            ``training_fraction``.
        DataError: if the manifest cannot be used.
    """
    shares = sorted({float(fraction) for fraction in fractions}, reverse=True)
    if len(shares) < 2 or not all(0 < share <= 1 for share in shares):
        raise ConfigError(f"--fractions {', '.join(f'{x:g}' for x in shares)}: give two or more numbers from 0 to 1.")
    levels = {f"{share:g}": {FRACTION: share} for share in shares}
    factor = Factor(FRACTION, levels, f"{shares[0]:g}")
    options = Options(
        seeds=seeds,
        budget=parse_budget(budget),
        folds=folds,
        overrides=parse_overrides(set),
        device=device,
        workers=workers,
        threads=threads,
        retry_failed=retry_failed,
        title="Learning curve",
    )
    return compare_factors(bundle, data, output, [factor], make_arms([factor]), options, trust)
