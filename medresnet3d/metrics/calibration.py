"""How honest probabilities are: calibration error and the points of a reliability plot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from monai.metrics.calibration import calibration_binning
from numpy.typing import ArrayLike, NDArray

BINS = 10


@dataclass(frozen=True)
class Reliability:
    """The filled bins of a reliability plot, by increasing confidence.

    Attributes:
        confidence: mean probability of the answers in each bin.
        accuracy: share of right answers in each bin.
        count: number of cases in each bin.
    """

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    count: NDArray[np.float64]

    @property
    def error(self) -> float:
        """The expected calibration error (Guo et al., ICML 2017): mean gap between confidence and accuracy."""
        return float(np.average(np.abs(self.confidence - self.accuracy), weights=self.count))


def reliability(prob: ArrayLike, label: ArrayLike, bins: int = BINS) -> Reliability:
    """Compare the probability that each answer was given with how often such answers are right.

    Args:
        prob: probabilities (N, C); the answer is the most probable class.
        label: true class numbers (N,).
        bins: number of equal-width bins from 0 to 1 (MONAI's ``calibration_binning``).
    """
    prob = np.asarray(prob, dtype=np.float64)
    right = prob.argmax(axis=1) == np.asarray(label)
    confidence = torch.as_tensor(prob.max(axis=1))[None, None]
    means, shares, counts = calibration_binning(confidence, torch.as_tensor(right)[None, None].float(), num_bins=bins)
    filled = counts[0, 0] > 0
    chosen = [values[0, 0][filled].double().numpy() for values in (means, shares, counts)]
    return Reliability(*chosen)


def bin_numbers(confidence: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """Give the bin of every confidence, with the same edges as MONAI's ``calibration_binning``.

    Args:
        confidence: probabilities of the answers, (N,).
        bins: number of equal-width bins from 0 to 1.
    """
    edges = torch.linspace(0.0, 1.0 + torch.finfo(torch.float32).eps, bins + 1)
    numbers = torch.bucketize(torch.as_tensor(confidence, dtype=torch.float32), edges[1:])
    return numbers.clamp(max=bins - 1).numpy()
