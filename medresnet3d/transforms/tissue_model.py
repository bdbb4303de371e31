"""Shading of a skull-stripped T1 brain, and the intensities at which one tissue gives way to the next.

Papers: N. J. Tustison et al. N4ITK: improved N3 bias correction. IEEE Transactions on Medical Imaging 29 (2010)
1310-1320, as SimpleITK has it; Y. Zhang, M. Brady, S. Smith. Segmentation of brain MR images through a hidden Markov
random field model and the expectation-maximization algorithm. IEEE Transactions on Medical Imaging 20 (2001) 45-57.

Logarithms of intensities are a mixture of three Gaussians (fluid, grey matter, white matter); a voxel is likelier to
have the tissue of its neighbours. What is wanted here is not the segmentation but the borders between the tissues: a
network that gets images on that scale need not guess it from a small patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK
import torch
from scipy import ndimage
from torch.nn import functional

SHADING_MM, BORDER_MM = 4.0, 2.0  # grids of the two estimations
FEWEST = 500  # voxels on the grid, for an estimation to make sense
N4_ROUNDS, N4_TOLERANCE = (50, 50, 50, 50), 1e-3
MIXTURE_ROUNDS = 8
NEIGHBOURS = 0.05  # weight of each of the 26 neighbours in the logarithm of a tissue's probability
LEAST_VARIANCE = 1e-4
LEAST_SHARE = 0.01  # of the voxels for each tissue
USUAL_BORDERS = (0.67, 1.07)  # of the twelve training scans: 0.62 to 0.73 and 1.03 to 1.11
FREEDOM = 0.12  # how far a border can get from the usual one


def _grid(shape: Sequence[int], spacing: Sequence[float], wanted: float) -> tuple[slice, ...]:
    """Every how many-th voxel to take, from the middle of the first stretch on."""
    steps = [max(1, round(wanted / size)) for size in spacing]
    return tuple(slice(min(step // 2, side - 1), None, step) for step, side in zip(steps, shape, strict=True))


def shading(volume: np.ndarray, mask: np.ndarray, spacing: Sequence[float] = (1.0, 1.0, 1.0)) -> np.ndarray:
    """Estimate by N4, on a grid of about 4 mm, how much brighter each voxel is than without shading.

    Args:
        volume: intensities (i, j, k), positive inside the brain.
        mask: the brain, boolean (i, j, k), not empty.
        spacing: voxel size in mm.

    Returns:
        Factors (i, j, k), float32, whose logarithms have a mean of 0 in the brain; 1 everywhere for a tiny volume.
    """
    field = np.ones(mask.shape, dtype=np.float32)
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    grid = _grid(mask[box].shape, spacing, SHADING_MM)
    inside = mask[box][grid]
    if inside.sum() < FEWEST or min(inside.shape) < 4:
        return field
    coarse = np.where(inside, volume[box][grid], 0).astype(np.float32)
    correct = SimpleITK.N4BiasFieldCorrectionImageFilter()
    correct.SetNumberOfThreads(1)  # the same answer on any machine
    correct.SetMaximumNumberOfIterations(N4_ROUNDS)
    correct.SetConvergenceThreshold(N4_TOLERANCE)
    image, brain = SimpleITK.GetImageFromArray(coarse), SimpleITK.GetImageFromArray(inside.astype(np.uint8))
    correct.Execute(image, brain)
    logarithm = SimpleITK.GetArrayFromImage(correct.GetLogBiasFieldAsImage(image)).astype(np.float32)
    logarithm -= logarithm[inside].mean()
    fine = functional.interpolate(torch.from_numpy(logarithm)[None, None], size=mask[box].shape, mode="trilinear")
    field[box] = np.exp(fine[0, 0].numpy())
    return field


def tissue_borders(
    volume: np.ndarray, mask: np.ndarray, spacing: Sequence[float] = (1.0, 1.0, 1.0)
) -> tuple[float, float]:
    """Find the intensities at which fluid and grey matter, and grey and white matter, are equally likely.

    Args:
        volume: intensities (i, j, k) without shading, 0.35 at the 2nd and 1.35 at the 98th percentile of the brain.
        mask: the brain, boolean (i, j, k), not empty.
        spacing: voxel size in mm.

    Returns:
        The two borders, drawn a little towards those of a usual scan, from which they can never be further than
        ``FREEDOM``; where a tissue vanishes, or in a tiny volume, they are the usual ones.
    """
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    grid = _grid(mask[box].shape, spacing, BORDER_MM)
    coarse, inside = volume[box][grid], mask[box][grid]
    if inside.sum() < FEWEST:
        return USUAL_BORDERS
    mixture = _Mixture.by_k_means(np.log(coarse[inside]).astype(np.float32), inside)
    mixture.update(MIXTURE_ROUNDS)
    if mixture.share.mean(1).min() < LEAST_SHARE:
        return USUAL_BORDERS
    found = (np.exp(mixture.border(tissue)) for tissue in (0, 1))
    first, second = (
        usual + FREEDOM * float(np.tanh((border - usual) / FREEDOM))
        for usual, border in zip(USUAL_BORDERS, found, strict=True)
    )
    return first, second


@dataclass
class _Mixture:
    """Three Gaussians with neighbours: ``y`` log intensities (n,) in ``mask``, ``share`` probabilities (3, n)."""

    y: np.ndarray
    mask: np.ndarray
    share: np.ndarray
    mean: np.ndarray
    variance: np.ndarray

    @classmethod
    def by_k_means(cls, y: np.ndarray, mask: np.ndarray) -> _Mixture:
        """Start from three classes by k-means on the histogram."""
        height, edges = np.histogram(y, 512)
        centres = (edges[1:] + edges[:-1]) / 2
        mean = np.quantile(y, [0.15, 0.45, 0.85])
        for _ in range(50):
            nearest = np.abs(centres[:, None] - mean).argmin(1)
            amount = np.bincount(nearest, weights=height, minlength=3)
            total = np.bincount(nearest, weights=height * centres, minlength=3)
            mean = np.where(amount > 0, total / np.maximum(amount, 1), mean)
        nearest = np.abs(y[:, None] - mean).argmin(1)
        mixture = cls(y, mask, np.stack([nearest == k for k in range(3)]).astype(np.float32), mean, np.ones(3))
        mixture.measure()
        return mixture

    def measure(self) -> None:
        """Means and variances of the tissues given the probabilities."""
        amount = np.maximum(self.share.sum(1, dtype=np.float64), 1.0)
        self.mean = (self.share * self.y).sum(1, dtype=np.float64) / amount
        spread = (self.share * (self.y - self.mean[:, None]) ** 2).sum(1, dtype=np.float64) / amount
        self.variance = np.maximum(spread, LEAST_VARIANCE)

    def update(self, rounds: int) -> None:
        """Probabilities given means, variances and neighbours; then means and variances given these."""
        counts = self._near(np.ones(self.y.shape, dtype=np.float32))
        for _ in range(rounds):
            near = [self._near(share) for share in self.share[:2]]
            near.append(counts - near[0] - near[1])
            score = NEIGHBOURS * np.stack(near) - 0.5 * np.stack([self._misfit(self.y, k) for k in range(3)])
            score = np.exp(score - score.max(0)).astype(np.float32)
            self.share = score / score.sum(0)
            self.measure()

    def border(self, darker: int) -> float:
        """Least log intensity, between the means of two tissues, from which on the brighter one is likelier."""
        points = np.linspace(self.mean[darker], self.mean[darker + 1], 1001)
        brighter = self._misfit(points, darker + 1) < self._misfit(points, darker)
        return float(points[brighter.argmax()] if brighter.any() else points[500])

    def _misfit(self, y: np.ndarray, tissue: int) -> np.ndarray:
        """Minus twice the logarithm of the Gaussian, up to a constant."""
        variance = self.variance[tissue]
        return np.asarray((y - self.mean[tissue]) ** 2 / variance + np.log(variance))

    def _near(self, values: np.ndarray) -> np.ndarray:
        """Sum over the 26 neighbours inside the brain."""
        volume = np.zeros(self.mask.shape, dtype=np.float32)
        volume[self.mask] = values
        total = 27 * ndimage.uniform_filter(volume, 3, mode="constant")
        return np.asarray(total[self.mask] - values, dtype=np.float32)
