"""Bootstrap intervals in which patients, not images, are drawn."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medresnet3d.metrics.estimate import Estimate

Weights = NDArray[np.float64]
Patients = Sequence[Hashable] | NDArray[Any]
Statistic = Callable[[Weights], Mapping[str, NDArray[np.float64]]]

LEVEL = 0.95
LEAST_PATIENTS = 3
#: Percentile intervals of fewer patients than this are known to be too narrow.
FEW_PATIENTS = 10
#: With fewer defined resamples than this share the interval would be one of the lucky draws only.
LEAST_DEFINED = 0.5
_CHUNK = 2_000_000


def patient_weights(
    patients: Patients, n_boot: int, seed: int = 0, chunk: int = _CHUNK
) -> Iterator[tuple[Weights, int]]:
    """Draw patients with replacement and give the number of times that each case is drawn.

    All cases of a patient are drawn together (the cluster bootstrap of Davison and Hinkley, 1997, section 3.8), because
    images of one patient are not independent.

    Args:
        patients: patient of every case, (N,).
        n_boot: number of resamples.
        seed: seed of the draws.
        chunk: most weights to hold at once.

    Yields:
        Weights (B, N) of some resamples, and the number of patients.
    """
    index = np.unique(np.asarray([str(patient) for patient in patients]), return_inverse=True)[1]
    count = int(index.max()) + 1
    rng = np.random.default_rng(seed)
    step = max(1, chunk // max(1, len(index)))
    for start in range(0, n_boot, step):
        drawn = rng.multinomial(count, np.full(count, 1.0 / count), size=min(step, n_boot - start))
        yield drawn[:, index].astype(np.float64), count


def bootstrap_intervals(
    values: Mapping[str, float], statistic: Statistic, patients: Patients, n_boot: int = 1000, seed: int = 0
) -> dict[str, Estimate]:
    """Give every figure a 95% percentile interval over resampled patients.

    Args:
        values: the figures over all cases.
        statistic: the same figures for weighted cases: weights (B, N) in, one array (B,) a figure out, NaN where a
            resample leaves the figure undefined (for example one that holds a single class).
        patients: patient of every case, (N,).
        n_boot: number of resamples.
        seed: seed of the draws.

    Returns:
        One estimate a figure. Undefined resamples are left out and counted in the note; with fewer than 3 patients, or
        where more than half of the resamples are undefined, there is no interval and the note says why.
    """
    count = len({str(patient) for patient in patients})
    if count < LEAST_PATIENTS:
        reason = f"no interval: {count} patient{'s' if count != 1 else ''}"
        return {name: Estimate(float(value), n=count, note=reason) for name, value in values.items()}
    drawn: dict[str, list[NDArray[np.float64]]] = {name: [] for name in values}
    for weights, _ in patient_weights(patients, n_boot, seed):
        resampled = statistic(weights)
        for name in values:
            drawn[name].append(np.asarray(resampled[name], dtype=np.float64))
    return {name: _estimate(float(value), np.concatenate(drawn[name]), count) for name, value in values.items()}


def _estimate(value: float, resampled: NDArray[np.float64], count: int) -> Estimate:
    defined = resampled[np.isfinite(resampled)]
    share = defined.size / resampled.size
    if not np.isfinite(value):
        return Estimate(float("nan"), n=count, note="undefined for these cases")
    if share < LEAST_DEFINED:
        return Estimate(value, n=count, note=f"no interval: undefined in {100 * (1 - share):.0f}% of the resamples")
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    notes = []
    if share < 1:
        notes.append(f"undefined in {100 * (1 - share):.1f}% of the resamples, which are left out")
    if count < FEW_PATIENTS:
        notes.append(f"only {count} patients: the interval is a rough guess")
    if not low <= value <= high:
        notes.append("resampling shifts this figure, so that its interval lies beside it")
    return Estimate(value, float(low), float(high), count, "; ".join(notes))


def ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide, with NaN where the denominator is zero."""
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator != 0)


def paired_intervals(
    first: Statistic, second: Statistic, patients: Patients, n_boot: int = 1000, seed: int = 0
) -> dict[str, Estimate]:
    """Give the differences of two methods' figures on the same cases, second minus first, with 95% intervals.

    In each resample both see the same patients, so that what makes a case hard for both does not widen the interval.

    Args:
        first: figures for weighted cases, see :func:`bootstrap_intervals`.
        second: those of the other method, by the same names.
        patients: patient of every case, (N,).
        n_boot: number of resamples.
        seed: seed of the draws.
    """

    def difference(weights: Weights) -> dict[str, NDArray[np.float64]]:
        before, after = first(weights), second(weights)
        return {name: after[name] - before[name] for name in before}

    over_all = difference(np.ones((1, len(patients))))
    return bootstrap_intervals(
        {name: float(value[0]) for name, value in over_all.items()}, difference, patients, n_boot, seed
    )
