"""Are the values of a CT scan Hounsfield units? Air is at -1000, water at 0."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from medresnet3d.data.checking.findings import Level
from medresnet3d.data.checking.ledger import Ledger

LOWEST, HIGHEST = -1100.0, 10_000.0
"""No tissue and no air is below the first; metal in extended scales reaches some thousand, never the second."""
AIR = (-1070.0, -650.0)
"""Where the commonest value below -500 may lie: air at -1000, or lung down to its thinnest."""
ENOUGH_AIR = 0.02
ENOUGH_PADDING = 1e-4
DARKEST, BRIGHTEST = 5, 200
"""A grey window reaches from below the first to above the second of its 255 values."""
STORED_TISSUE = 800
"""Without rescale intercept, soft tissue lies above this."""
MOST_EACH = 10
"""Up to this many images are named one by one."""

UNITS = "units"
PADDED = "padded"
BYTES = "bytes"
UNIT_RANGE = "unit range"
NO_INTERCEPT = "no intercept"
AIR_ELSEWHERE = "air elsewhere"
OUT_OF_RANGE = "out of range"
TWO_VALUES = "two values"
UNCLEAR = "unclear"

_TEXTS = {
    PADDED: "has voxels below -1100 HU, where nothing is: padding outside of the scanned circle; clip to -1024.",
    BYTES: "has values from 0 to 255 only: a grey window, not Hounsfield units; train only what expects such images, "
    "or convert the original scans.",
    UNIT_RANGE: "has values between -1 and 1 only: it is rescaled, not in Hounsfield units; train only what expects "
    "such images, or convert the original scans.",
    NO_INTERCEPT: "has no negative value: the rescale intercept (often -1024) is missing; convert the original scans.",
    AIR_ELSEWHERE: "has its air nowhere near -1000 HU; check slope and intercept, and how the scan was converted.",
    OUT_OF_RANGE: "has values that no Hounsfield scale reaches; check slope and intercept, and whether it is CT.",
}
_SCALES = {
    UNITS: "Hounsfield units",
    BYTES: "0 to 255",
    UNIT_RANGE: "-1 to 1",
    NO_INTERCEPT: "values without rescale intercept",
}


def is_ct(modality: str) -> bool:
    """Tell whether a modality, as a manifest or a DICOM file names it, is in Hounsfield units."""
    return bool(re.search(r"\bCT\b", modality, re.IGNORECASE)) and not re.search(r"\bPET\b", modality, re.IGNORECASE)


def judge_hounsfield(sample: NDArray[np.float32], low: float, high: float) -> str:
    """Judge the values of a scan that should be in Hounsfield units.

    Args:
        sample: values (n,) from everywhere in the image.
        low: the smallest of all.
        high: the largest of all.

    Returns:
        ``units`` if they are plausible, otherwise what is not.
    """
    if low >= 0 or (low >= -1 and high <= 1):
        return _without_negatives(sample, low, high)
    if high > HIGHEST:
        return OUT_OF_RANGE
    if np.mean(sample < LOWEST) > ENOUGH_PADDING:
        return PADDED if np.mean(sample > LOWEST) > ENOUGH_AIR else OUT_OF_RANGE
    dark = sample[sample < -500]
    if dark.size >= ENOUGH_AIR * sample.size:
        counts, edges = np.histogram(dark, bins=60, range=(LOWEST, -500.0))
        peak = float(edges[counts.argmax()] + edges[1] - edges[0])
        return UNITS if AIR[0] <= peak <= AIR[1] else AIR_ELSEWHERE
    return UNITS


def _without_negatives(sample: NDArray[np.float32], low: float, high: float) -> str:
    """Judge values of which none is below 0; a crop of an organ may have such in Hounsfield units."""
    if np.unique(sample[:: max(1, sample.size // 10_000)]).size <= 2:
        return TWO_VALUES
    if high <= 1:
        return UNIT_RANGE
    if high <= 255:
        return BYTES if low <= DARKEST and high >= BRIGHTEST else UNCLEAR
    return NO_INTERCEPT if np.percentile(sample, 90) >= STORED_TISSUE else UNCLEAR


def check_hounsfield(ledger: Ledger) -> None:
    """Record which CT images are not in Hounsfield units, or that not all of them are on the same scale."""
    query = "SELECT hounsfield, count(*) FROM images WHERE hounsfield IS NOT NULL GROUP BY hounsfield"
    counts: dict[str, int] = dict(ledger.db.execute(query))
    for kind, count in counts.items():
        if kind in _TEXTS:
            _record(ledger, kind, count, sum(counts.values()), counts.get(UNCLEAR, 0))
    scales = {kind: count for kind, count in _by_scale(counts).items() if count}
    if len(scales) > 1:
        shown = ", ".join(f"{count} in {_SCALES[kind]}" for kind, count in scales.items())
        text = f"the CT images are on different scales ({shown}); bring them all to Hounsfield units."
        ledger.record("error", "hounsfield", text)


def _by_scale(counts: dict[str, int]) -> dict[str, int]:
    """Number of images of each scale; padding does not make another, and of unclear air nobody knows."""
    return {scale: counts.get(scale, 0) + (counts.get(PADDED, 0) if scale == UNITS else 0) for scale in _SCALES}


def _record(ledger: Ledger, kind: str, count: int, total: int, unclear: int) -> None:
    """Record a kind of values: of each image, or once where many have it."""
    level: Level = "error" if kind in (NO_INTERCEPT, OUT_OF_RANGE) else "warning"
    query = "SELECT DISTINCT case_id FROM images WHERE hounsfield = ? ORDER BY case_id LIMIT ?"
    cases = [case for (case,) in ledger.db.execute(query, (kind, MOST_EACH + 1))]
    if len(cases) <= MOST_EACH:
        for case in cases:
            ledger.record_of_case(case, level, "hounsfield", f"the image {_TEXTS[kind]}")
        return
    first = ledger.first_of_case(cases[0])
    where = ledger.where(first.section, first.number)
    rest = f" (of {unclear} others the values do not tell)" if unclear else ""
    text = f"{count} of {total} CT images{rest}, {where} the first: each {_TEXTS[kind]}"
    ledger.record(level, "hounsfield", text)
