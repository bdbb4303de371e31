"""How well findings are detected: free-response ROC (FROC) and the competition performance metric, as LUNA16 has them.

Rules (Setio et al., "Validation, comparison, and combination of algorithms for automatic detection of pulmonary nodules
in computed tomography images: the LUNA16 challenge", Medical Image Analysis 42, 2017, and the challenge's page
"Evaluation"): a detection hits a finding when it lies nearer to its centre than its radius; several hits of one finding
count once, with the highest probability; detections on excluded findings are neither hits nor false positives. A point
of the FROC curve is the share of findings hit and the number of false positives a scan among the detections from a
threshold on; the curve begins at (0, 0). The competition performance metric (CPM) is the mean sensitivity at 1/8, 1/4,
1/2, 1, 2, 4 and 8 false positives a scan.

Where those rules leave room, this follows the challenge's own script: between two points of the curve sensitivity is
interpolated linearly, above the last one it stays what it was, and at a rate where the curve is vertical its upper end
counts. Detections of equal probability enter together, so that their order cannot matter. A detection that lies in two
findings hits both, and one that lies in a finding and in an excluded one is a hit. Two things differ: the script reads
the curve at 10 001 evenly spaced rates, whose nearest to 1/4, 1/2, 1, 2 and 4 may lie up to 0.0004 beside them; here
the rates are exact. And the script takes at most the 100 most probable detections of a scan; here all count.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medresnet3d.errors import DataError
from medresnet3d.metrics.bootstrap import Statistic, Weights, bootstrap_intervals
from medresnet3d.metrics.estimate import Estimate

RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives a scan at which LUNA16 reads the sensitivity."""
CPM = "cpm"
HIT, REPEATED, IGNORED, FALSE = "hit", "repeated hit", "on an excluded finding", "false positive"
MISSED = -1
RECORD_COLUMNS = ("finding", "x", "y", "z", "diameter_mm", "found", "probability", "distance_mm")
"""Columns of :func:`detection_records`."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Matched:
    """The detections of one scan beside its findings.

    Attributes:
        hit_by: for each finding that counts, in order, the number of its most probable detection, or :data:`MISSED`.
        scores: for each of them the probability of that detection; NaN where it was missed.
        kinds: for each detection :data:`HIT`, :data:`REPEATED`, :data:`IGNORED` or :data:`FALSE`.
        false_scores: probabilities of the false positives.
    """

    hit_by: NDArray[np.int64]
    scores: Floats
    kinds: tuple[str, ...]
    false_scores: Floats


@dataclass(frozen=True)
class FROC:
    """A free-response ROC curve.

    Attributes:
        false_positives: a scan, rising, from 0, (P,).
        sensitivity: share of findings, (P,); NaN throughout where there is no finding.
        thresholds: probability from which on detections count, falling, from infinity, (P,).
    """

    false_positives: Floats
    sensitivity: Floats
    thresholds: Floats

    def at(self, rates: Sequence[float] | Floats = RATES) -> Floats:
        """Give the sensitivity at numbers of false positives a scan, (R,)."""
        return np.interp(rates, self.false_positives, self.sensitivity)

    @property
    def cpm(self) -> float:
        """The competition performance metric: the mean sensitivity at :data:`RATES`."""
        return float(self.at().mean())


def match_detections(detections: ArrayLike, findings: ArrayLike) -> Matched:
    """Say what each detection of a scan hits.

    Args:
        detections: (N, 5): x, y, z, diameter (not used) and probability.
        findings: (F, 5): x, y, z, diameter, and 1 for an excluded one, else 0; rows of NaN are padding. All in mm, in
            one frame, usually RAS+.

    Raises:
        DataError: if one of them has another number of columns, or a detection is not finite.
    """
    found, known = _table(detections, "detections"), _table(findings, "findings")
    if not np.isfinite(found).all():
        raise DataError("a detection is not finite; look at the network's output.")
    known = known[~np.isnan(known).any(axis=1)]
    excluded = known[:, 4] > 0
    distance = np.linalg.norm(found[:, None, :3] - known[None, :, :3], axis=-1)
    inside = distance < known[None, :, 3] / 2
    probability = found[:, 4]
    hits = inside[:, ~excluded]
    hit_by = np.full(hits.shape[1], MISSED, dtype=np.int64)
    touched = hits.any(axis=0)
    if touched.any():
        best = np.where(hits, probability[:, None], -np.inf).argmax(axis=0)
        hit_by[touched] = best[touched]
    scores = np.where(touched, probability[hit_by] if len(found) else np.nan, np.nan)
    false = ~inside.any(axis=1)
    kinds = [FALSE if lone else IGNORED if not hit else REPEATED for lone, hit in zip(false, hits.any(1), strict=True)]
    for number in hit_by[touched]:
        kinds[number] = HIT
    return Matched(hit_by, scores, tuple(kinds), probability[false])


def _table(rows: ArrayLike, name: str) -> Floats:
    table = np.asarray(rows, dtype=np.float64)
    if table.size == 0:
        return np.zeros((0, 5))
    if table.ndim != 2 or table.shape[1] != 5:
        raise DataError(f"{name} have the shape {table.shape}; give rows of five numbers.")
    return table


@dataclass(frozen=True)
class _Events:
    """Hits and false positives of all scans, most probable first.

    Attributes:
        hit: whether it is a hit, (E,).
        scan: number of its scan, (E,).
        ends: index of the last event of each probability, (G,).
        thresholds: those probabilities, (G,).
        findings: number of findings of each scan, (S,).
    """

    hit: NDArray[np.bool_]
    scan: NDArray[np.int64]
    ends: NDArray[np.int64]
    thresholds: Floats
    findings: Floats

    def curve(self, weights: Floats) -> FROC:
        """Give the curve of scans that count ``weights`` (S,) times."""
        weight = weights[self.scan]
        hits = np.cumsum(weight * self.hit)[self.ends]
        false = np.cumsum(weight * ~self.hit)[self.ends]
        total = float(weights @ self.findings)
        sensitivity = hits / total if total else np.full(len(hits), np.nan)
        start = 0.0 if total else np.nan
        return FROC(
            np.concatenate([[0.0], false / weights.sum()]),
            np.concatenate([[start], sensitivity]),
            np.concatenate([[np.inf], self.thresholds]),
        )


def _events(scans: Sequence[Matched]) -> _Events:
    scores = [np.concatenate([one.scores[~np.isnan(one.scores)], one.false_scores]) for one in scans]
    hit = [np.arange(len(score)) < len(score) - len(one.false_scores) for score, one in zip(scores, scans, strict=True)]
    numbers = np.repeat(np.arange(len(scans)), [len(score) for score in scores])
    every = np.concatenate(scores)
    order = np.argsort(-every, kind="stable")
    ranked = every[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else np.zeros(0, dtype=np.int64)
    findings = np.array([len(one.scores) for one in scans], dtype=np.float64)
    return _Events(np.concatenate(hit)[order], numbers[order], ends, ranked[ends], findings)


def froc(scans: Sequence[Matched]) -> FROC:
    """Give the FROC curve over scans.

    Args:
        scans: each from :func:`match_detections`; those without findings count for the false positives.

    Raises:
        DataError: if there is no scan.
    """
    if not scans:
        raise DataError("there is no scan to draw a FROC curve of.")
    return _events(scans).curve(np.ones(len(scans)))


def detection_metrics(
    scans: Sequence[Matched],
    patients: Sequence[Hashable],
    rates: Sequence[float] = RATES,
    n_boot: int = 1000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Give CPM and sensitivities with 95% intervals, all scans of a patient being drawn together.

    Args:
        scans: each from :func:`match_detections`.
        patients: patient of every scan.
        rates: false positives a scan; the CPM is the mean over them.
        n_boot: number of resamples.
        seed: seed of the resamples.

    Returns:
        Estimates: ``cpm``, ``sensitivity_at_0.125`` and so on, ``sensitivity`` and ``false_positives_per_scan`` of all
        detections that the bundle gives. Undefined where there is no finding.

    Raises:
        DataError: if there is no scan.
    """
    if not scans:
        raise DataError("there is no scan to evaluate.")
    values = _figures(_events(scans).curve(np.ones(len(scans))), rates)
    return bootstrap_intervals(values, weighted_metrics(scans, rates), patients, n_boot, seed)


def weighted_metrics(scans: Sequence[Matched], rates: Sequence[float] = RATES) -> Statistic:
    """Give a function from weights (B, S) of these S scans to the figures of :func:`detection_metrics`, (B,) each."""
    events = _events(scans)

    def statistic(weights: Weights) -> dict[str, Floats]:
        rows = [_figures(events.curve(row), rates) for row in weights]
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}

    return statistic


def _figures(curve: FROC, rates: Sequence[float]) -> dict[str, float]:
    sensitivities = curve.at(rates)
    return {
        CPM: float(sensitivities.mean()),
        **{rate_name(rate): float(value) for rate, value in zip(rates, sensitivities, strict=True)},
        "sensitivity": float(curve.sensitivity[-1]),
        "false_positives_per_scan": float(curve.false_positives[-1]),
    }


def rate_name(rate: float) -> str:
    """Name the sensitivity at a number of false positives a scan: ``sensitivity_at_0.125``."""
    return f"sensitivity_at_{rate:g}"


def detection_records(scan: Matched, findings: ArrayLike, detections: ArrayLike) -> list[dict[str, Any]]:
    """Say of each finding of a scan that counts whether it was found.

    Args:
        scan: from :func:`match_detections` of these.
        findings: see there.
        detections: see there.

    Returns:
        One row a finding, with the columns :data:`RECORD_COLUMNS`: its number from 1, centre and diameter, whether it
        was found, and probability and distance of its most probable detection (NaN where it was missed).
    """
    known, found = _table(findings, "findings"), _table(detections, "detections")
    known = known[~np.isnan(known).any(axis=1)]
    rows = []
    for number, (finding, by, score) in enumerate(zip(known[known[:, 4] == 0], scan.hit_by, scan.scores, strict=True)):
        distance = np.nan if by == MISSED else float(np.linalg.norm(found[by, :3] - finding[:3]))
        row = (number + 1, *finding[:4].tolist(), bool(by != MISSED), float(score), distance)
        rows.append(dict(zip(RECORD_COLUMNS, row, strict=True)))
    return rows
