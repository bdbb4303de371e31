"""What is known of a case beside its image (age, sex, place), as evidence for and against each class.

Naive Bayes with a discount: log-likelihood ratios of the fields are added to the logarithms of the image's
probabilities. They would count in full if the fields were independent of each other and of the image within a class;
they are not, so that a part of each is counted.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNKNOWN = ("", "unknown", "nan", "none", "n/a")
LEAST_CASES = 5
"""A value that fewer training cases have says nothing."""
_SAFE = re.compile(r"\w[\w .,/()+-]*")  # becomes a key of a configuration, where $, @, # and :: have meanings

Evidence = Mapping[str, Mapping[str, Any]]


def fit_evidence(
    cases: Sequence[Mapping[str, Any]],
    fields: Sequence[str],
    num_classes: int,
    *,
    smoothing: float = 10.0,
    share: float = 0.5,
) -> dict[str, dict[str, Any]]:
    """Learn how much each value of each field speaks for each class.

    The evidence of value v for class c is a share of log(p(v | c) / p(v)), with p(v | c) = (n_vc + s p(v)) / (n_c +
    s): to every class ``s`` cases of no particular one are added, so that rare values say little. A field whose
    values are all numbers is cut into ten intervals that hold about as many cases each. How frequent the classes
    are does not matter.

    Args:
        cases: items with ``label`` (class number) and, where known, the fields.
        fields: what to learn from; one that no case has, or that has a single value, is left out.
        num_classes: K.
        smoothing: s.
        share: how much of each logarithm counts. Half had the best likelihood on an inner split of HAM10000's pictures.

    Returns:
        by field ``{"edges": [e, ...], "evidence": [[K numbers], ...]}`` with one row more than edges, each interval
        reaching from its edge up to but not including the next, or ``{"evidence": {value: [K numbers]}}``.
    """
    labels = np.array([int(case["label"]) for case in cases])
    table = {}
    for name in fields:
        texts = [_text(case.get(name)) for case in cases]
        numbers = np.array([np.nan if (number := _number(text)) is None else number for text in texts])
        known = np.isfinite(numbers)
        if known.sum() == sum(map(bool, texts)):
            if len(set(numbers[known])) > 1:
                edges = np.unique(np.quantile(numbers[known], np.arange(0.1, 0.95, 0.1)))
                bins = np.where(known, np.searchsorted(edges, numbers, side="right"), -1)
                rows = _log_ratios(bins, labels, len(edges) + 1, num_classes, smoothing, share)
                table[name] = {"edges": edges.tolist(), "evidence": rows}
            continue
        counts = Counter(text for text in texts if _SAFE.fullmatch(text))
        values = sorted(value for value, count in counts.items() if count >= LEAST_CASES)
        if len(values) > 1:
            places = [values.index(text) if text in values else -1 for text in texts]
            rows = _log_ratios(np.array(places), labels, len(values), num_classes, smoothing, share)
            table[name] = {"evidence": dict(zip(values, rows, strict=True))}
    return table


def known_values(case: Mapping[str, Any], table: Evidence) -> dict[str, str]:
    """What of a case counts: by field the value as text; empty where it is unknown or was not met in training."""
    found = {name: _text(case.get(name)) for name in table}
    return {name: text if _row(text, table[name]) is not None else "" for name, text in found.items()}


def evidence_for(case: Mapping[str, Any], table: Evidence, num_classes: int) -> NDArray[np.float64]:
    """The evidence of all fields of a case together, (K,); zeros where nothing is known.

    Args:
        case: the fields, as in the manifest or from :func:`known_values`.
        table: from :func:`fit_evidence`.
        num_classes: K.
    """
    rows = [_row(_text(case.get(name)), learned) for name, learned in table.items()]
    return np.sum([np.zeros(num_classes), *(np.asarray(row, dtype=float) for row in rows if row is not None)], axis=0)


def _row(text: str, learned: Mapping[str, Any]) -> Sequence[float] | None:
    """What one value of a field says, or ``None`` for nothing."""
    rows = learned["evidence"]
    if isinstance(rows, Mapping):
        return rows.get(text)
    number = _number(text)
    return None if number is None else rows[int(np.searchsorted(learned["edges"], number, side="right"))]


def _log_ratios(
    values: NDArray[np.int64], labels: NDArray[np.int64], count: int, num_classes: int, smoothing: float, share: float
) -> list[list[float]]:
    """A share of log(p(v | c) / p(v)) of value numbers (-1: unknown), one row for each value."""
    known = values >= 0
    cells = np.zeros((count, num_classes))
    np.add.at(cells, (values[known], labels[known]), 1)
    overall = np.maximum(cells.sum(1, keepdims=True), 1e-9) / cells.sum()
    likelihood = (cells + smoothing * overall) / (cells.sum(0) + smoothing)
    return [[round(float(each), 3) for each in row] for row in share * np.log(likelihood / overall)]


def _text(value: Any) -> str:
    text = "" if value is None else str(value).strip().lower()
    return "" if text in UNKNOWN else text


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
