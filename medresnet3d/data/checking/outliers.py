"""Images that are unlike the others of their cohort: in size, spacing, orientation, kind or intensity."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medresnet3d.data.checking.ledger import Ledger

FEWEST = 8
"""Of fewer images nobody can say what is usual."""
REACH = 3.0
"""Interquartile ranges beyond the quartiles (J. W. Tukey, Exploratory Data Analysis, 1977: "far out" values)."""
COMMON = 0.9
"""Share of images from which on a kind is the rule and another the exception."""
MANY, MANY_SHARE = 20, 0.05
"""More outliers than both say that the cohort is mixed, which is told once."""
SHOWN = 3


@dataclass(frozen=True)
class Measure:
    """A number of every image that is watched.

    Args:
        key: short name.
        text: what it is.
        sql: expression over the columns of the images.
        tolerance: always allowed: a factor above and below the quartiles (``ratio``), or this share of the cohort's
            usual range of intensities.
        ratio: judged by ratios (sizes), not by differences (grey values, which may be negative).
    """

    key: str
    text: str
    sql: str
    tolerance: float
    ratio: bool = True


SHALLOW = (
    *(Measure(f"size_{axis}", f"size along {axis}, voxels", axis, 1.25) for axis in "ijk"),
    *(Measure(f"spacing_{axis}", f"spacing along {axis}, mm", f"spacing_{axis}", 1.2) for axis in "ijk"),
)
RANGE = Measure("range", "range of intensities (0.5th to 99.5th percentile)", "p995 - p005", 2.0)
MEAN = Measure("mean", "mean intensity", "mean", 0.25, ratio=False)
MEASURES = (*SHALLOW, RANGE, MEAN)


@dataclass(frozen=True)
class Limits:
    """What is usual.

    Args:
        low: smallest usual value.
        median: of all.
        high: largest usual value.
    """

    low: float
    median: float
    high: float

    def outside(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Say which values (n,) are unusual; what is not known is not."""
        return (values < self.low) | (values > self.high)


def limits_of(values: NDArray[np.float64], measure: Measure, scale: float) -> Limits | None:
    """Give the limits of the usual: three interquartile ranges beyond the quartiles, and the measure's tolerance.

    Args:
        values: (n,) of the cohort.
        measure: what they are.
        scale: the cohort's usual range of intensities, for measures that are judged by differences.

    Returns:
        the limits; ``None`` for fewer than 8 values, or where ratios of values that are not positive are asked for.
    """
    known = values[np.isfinite(values)]
    if known.size < FEWEST or (measure.ratio and known.min() <= 0 and np.median(known) <= 0):
        return None
    if measure.ratio:
        first, median, third = np.percentile(np.log(known[known > 0]), (25, 50, 75))
        beyond = max(REACH * (third - first), math.log(measure.tolerance))
        return Limits(math.exp(first - beyond), math.exp(median), math.exp(third + beyond))
    first, median, third = np.percentile(known, (25, 50, 75))
    beyond = max(REACH * (third - first), measure.tolerance * scale)
    low = first - beyond if known.min() < 0 else max(0.0, first - beyond)
    return Limits(float(low), float(median), float(third + beyond))


def channel_values(ledger: Ledger, channel: int, dims: int, measure: Measure) -> NDArray[np.float64]:
    """Give cases and values (n, 2) of one measure."""
    query = f"SELECT case_id, {measure.sql} FROM images WHERE channel = ? AND dims = ? ORDER BY case_id"
    return ledger.numbers(query, (channel, dims))


def usual_range(ledger: Ledger, channel: int, dims: int) -> float:
    """Give the median range of intensities of the images of a channel; 0 if no voxels were read."""
    values = channel_values(ledger, channel, dims, RANGE)[:, 1]
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else 0.0


def channels(ledger: Ledger) -> list[tuple[int, int]]:
    """Channel and number of dimensions of everything that was seen."""
    return ledger.db.execute("SELECT DISTINCT channel, dims FROM images ORDER BY channel, dims DESC").fetchall()


def check_outliers(ledger: Ledger) -> None:
    """Record the images that are unlike the others, each once with everything that is unusual about it."""
    told: defaultdict[int, list[str]] = defaultdict(list)
    for channel, dims in channels(ledger):
        scale = usual_range(ledger, channel, dims)
        for measure in MEASURES:
            values = channel_values(ledger, channel, dims, measure)
            limits = limits_of(values[:, 1], measure, scale)
            if limits is None:
                continue
            unusual = values[limits.outside(values[:, 1])]
            usual = f"usual {_short(limits.low)} to {_short(limits.high)}"
            name = measure.text if channel == 0 else f"{measure.text}, of image {channel + 1}"
            if len(unusual) > max(MANY, MANY_SHARE * len(values)):
                _record_mixture(ledger, name, usual, unusual, len(values))
                if measure is RANGE:
                    break  # on different scales nothing is to be learnt from the means
                continue
            for case, value in unusual:
                told[int(case)].append(f"{name}: {_short(value)} ({usual})")
    for case, texts in sorted(told.items()):
        text = f"is unlike the other images in {'; '.join(texts)}; look at it, and leave it out if it is a mistake."
        ledger.record_of_case(case, "warning", "outlier", text)
    _check_kinds(ledger)


def _record_mixture(ledger: Ledger, name: str, usual: str, unusual: NDArray[np.float64], total: int) -> None:
    examples = [ledger.first_of_case(int(case)) for case in unusual[:SHOWN, 0]]
    shown = ", ".join(ledger.where(one.section, one.number) for one in examples)
    text = (
        f"{len(unusual)} of {total} images are unlike the others in {name} ({usual}), {shown} among them; the cohort "
        "is a mixture: see that the parts do not follow the labels, and bring the images to one scale."
    )
    ledger.record("warning", "outlier", text)


def _check_kinds(ledger: Ledger) -> None:
    for column, kind, what in (
        ("orientation", "orientation", "the orientation"),
        ("dims", "outlier", "the number of dimensions"),
        ("components", "outlier", "the number of colours"),
    ):
        for channel in sorted({channel for channel, _ in channels(ledger)}):
            _check_kind(ledger, channel, column, kind, what)


def _check_kind(ledger: Ledger, channel: int, column: str, kind: str, what: str) -> None:
    """Record images of another kind than nearly all, or that there are several kinds."""
    query = (
        f"SELECT {column}, count(*) FROM images WHERE channel = ? AND {column} IS NOT NULL GROUP BY 1 ORDER BY 2 DESC"
    )
    counts = ledger.db.execute(query, (channel,)).fetchall()
    total = sum(count for _, count in counts)
    if len(counts) < 2:
        return
    (usual, most), others = counts[0], sum(count for _, count in counts[1:])
    if most < COMMON * total or others > max(MANY, MANY_SHARE * total):
        shown = ", ".join(f"{value} in {count}" for value, count in counts)
        ledger.record("warning", kind, f"{what} differs between the images ({shown}); bring them to one.")
        return
    query = f"SELECT case_id, {column} FROM images WHERE channel = ? AND {column} <> ? ORDER BY case_id"
    for case, value in ledger.db.execute(query, (channel, usual)).fetchall():
        text = f"{what} is {value}, while {most} of {total} images have {usual}; see that it is right."
        ledger.record_of_case(case, "warning", kind, text)


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
