"""Balls among tubes in noise, in 2D (discs and bars) or 3D: what a detector of nodules has to tell from vessels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from medresnet3d.losses.hard_negatives import HardNegativeLoss
from medresnet3d.losses.hybrid_detection import HybridDetectionLoss
from medresnet3d.metrics.detection import froc, match_detections
from medresnet3d.networks.attention_resnet import MultiScaleAttentionResNet
from medresnet3d.networks.candidates import find_peaks, sample_cubes
from medresnet3d.networks.residual_fcn import ResidualFCN

RATES = (0.003, 0.01)
"""Learning rates that every arm chooses from, by its score on scenes of its own."""


@dataclass(frozen=True)
class Scenes:
    """Images (N, 1, ...), their truth (N, 2, ...) of heat and masks, and the findings (F, 5) of each."""

    images: Tensor
    truth: Tensor
    balls: list[np.ndarray]


def scenes(
    count: int, seed: int, dims: int = 2, size: int = 48, noise: float = 0.5, radii: tuple[float, float] = (2.0, 4.5)
) -> Scenes:
    """Draw scenes of two balls and four tubes each, of equal widths and equal brightness; no tube touches a ball."""
    rng = np.random.default_rng([seed, dims])
    grid = np.stack(np.meshgrid(*[np.arange(size)] * dims, indexing="ij"), -1).astype(np.float32)
    images, truths, balls = [], [], []
    for _ in range(count):
        image, heat = np.zeros([size] * dims), np.zeros([size] * dims)
        mask, found = np.zeros([size] * dims), []
        while len(found) < 2:
            radius, distance, middle = _ball(rng, grid, radii)
            if mask[distance <= radius + 2].any():
                continue
            found.append([*middle, *[0.0] * (3 - dims), 2 * radius, 0.0])
            heat = np.maximum(heat, np.exp(-2 * (distance / radius) ** 2))
            mask = np.maximum(mask, distance <= radius)
            image = np.maximum(image, _soft(distance - radius))
        tubes = 0
        while tubes < 4:
            radius, distance = _tube(rng, grid, radii)
            if not mask[distance <= radius + 1].any():
                image = np.maximum(image, _soft(distance - radius))
                tubes += 1
        images.append(image + rng.normal(0, noise, image.shape))
        truths.append(np.stack([heat, mask]))
        balls.append(np.array(found))
    as_tensor = lambda arrays: torch.from_numpy(np.stack(arrays)).float()  # noqa: E731
    return Scenes(as_tensor(images)[:, None], as_tensor(truths), balls)


def lone(
    count: int, seed: int, size: int = 64, noise: float = 0.4, radii: tuple[float, float] = (1.5, 10.5)
) -> tuple[Tensor, Tensor]:
    """Draw discs and short bars of equal widths in turn, one near the middle of each image.

    Returns:
        images (N, 1, size, size), and labels (N,), 1 for a disc.
    """
    rng = np.random.default_rng([seed, 11])
    grid = np.stack(np.meshgrid(*[np.arange(size)] * 2, indexing="ij"), -1).astype(np.float32)
    images = []
    for number in range(count):
        radius = float(np.exp(rng.uniform(*np.log(radii))))
        offset = grid - (size - 1) / 2 - rng.normal(0, 0.2 * radius, 2)
        if number % 2 == 0:
            direction = rng.normal(size=2)
            direction /= np.linalg.norm(direction)
            ends = rng.uniform(0.8, 1.6, 2) * radius
            offset = offset - np.clip(offset @ direction, -ends[0], ends[1])[..., None] * direction
        images.append(_soft(np.linalg.norm(offset, axis=-1) - radius) + rng.normal(0, noise, (size, size)))
    return torch.from_numpy(np.stack(images)).float()[:, None], torch.arange(count).remainder(2).float()


def _ball(
    rng: np.random.Generator, grid: np.ndarray, radii: tuple[float, float]
) -> tuple[float, np.ndarray, np.ndarray]:
    """A radius, the distance of every voxel from the middle, and the middle."""
    middle = rng.uniform(8, len(grid) - 8, grid.shape[-1])
    return float(np.exp(rng.uniform(*np.log(radii)))), np.linalg.norm(grid - middle, axis=-1), middle


def _tube(rng: np.random.Generator, grid: np.ndarray, radii: tuple[float, float]) -> tuple[float, np.ndarray]:
    """A radius, and the distance of every voxel from a straight line of some length."""
    radius, _, middle = _ball(rng, grid, radii)
    direction = rng.normal(size=grid.shape[-1])
    direction /= np.linalg.norm(direction)
    ends = rng.uniform(1.5, 4, 2) * radius
    offset = grid - middle
    along = np.clip(offset @ direction, -ends[0], ends[1])
    return radius, np.linalg.norm(offset - along[..., None] * direction, axis=-1)


def _soft(distance: np.ndarray) -> np.ndarray:
    """1 inside, 0 outside, with partial volume between."""
    return 1 / (1 + np.exp(2 * np.clip(distance, -20, 20)))


def train(
    network: nn.Module, loss: nn.Module, data: tuple[Tensor, Tensor], steps: int, rate: float, seed: int, batch: int = 8
) -> nn.Module:
    """Train on random batches, with a one-cycle rate; the network's last weights count."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps)
    network.train()
    for _ in range(steps):
        chosen = torch.randint(len(data[0]), (batch,), generator=generator)
        optimizer.zero_grad()
        loss(network(data[0][chosen]), data[1][chosen]).backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.no_grad()
def peaks(first: nn.Module, images: Tensor, count: int = 20, distance: int = 3) -> tuple[Tensor, Tensor]:
    """Places (N, K, dims) and probabilities (N, K) of the first stage's candidates."""
    centres, logits = find_peaks(first(images)[:, 0], count, distance)
    return centres, logits.sigmoid()


def detections(centres: Tensor, probability: Tensor) -> np.ndarray:
    """Rows of place, no diameter, and probability, (K, 5), of one image; what is no peak is left out."""
    kept = probability > 0
    places = nn.functional.pad(centres[kept].float(), (0, 4 - centres.shape[-1]))
    return torch.cat([places, probability[kept, None]], 1).numpy()


def cpm(centres: Tensor, probabilities: Tensor, balls: list[np.ndarray]) -> float:
    """The competition performance metric of candidates; an image is a scan, a voxel a millimetre."""
    rows = zip(centres, probabilities, balls, strict=True)
    return froc([match_detections(detections(places, p), found) for places, p, found in rows]).cpm


def recall(centres: Tensor, probabilities: Tensor, balls: list[np.ndarray]) -> float:
    """Share of balls that any candidate hits."""
    rows = zip(centres, probabilities, balls, strict=True)
    matched = [match_detections(detections(places, p), found) for places, p, found in rows]
    return float(np.mean(np.concatenate([one.hit_by >= 0 for one in matched])))


def candidate_cubes(
    first: nn.Module, data: Scenes, edges: list[float], size: int, seed: int, count: int = 20
) -> tuple[Tensor, Tensor]:
    """Cubes around shifted balls and around all candidates, with labels: what the second stage learns from.

    A candidate beside a ball is a negative, however near, since the metric counts it as a false positive.
    """
    rng = np.random.default_rng(seed)
    centres, _ = peaks(first, data.images, count)
    dims = centres.shape[-1]
    cubes, labels = [], []
    for image, places, found in zip(data.images, centres, data.balls, strict=True):
        distance = np.linalg.norm(places[:, None] - found[None, :, :dims], axis=-1)
        hits = torch.from_numpy((distance < found[None, :, 3] / 2).any(1))
        shifted = np.concatenate([found[:, :dims] + rng.normal(0, 1, (len(found), dims)) for _ in range(2)])
        points = torch.cat([torch.from_numpy(shifted).float(), places.float()])
        cubes.append(sample_cubes(image[None], points[None], edges, size)[0])
        labels.append(torch.cat([torch.ones(len(shifted)), hits.float()]))
    return torch.cat(cubes), torch.cat(labels)


@torch.no_grad()
def scored(second: nn.Module, images: Tensor, centres: Tensor, edges: list[float], size: int) -> Tensor:
    """Probabilities (N, K) of candidates by the second stage."""
    cubes = sample_cubes(images, centres, edges, size)
    return second(cubes.flatten(0, 1)).sigmoid().reshape(centres.shape[:2])


def first_stage(
    data: Scenes,
    steps: int,
    rate: float,
    seed: int,
    parts: tuple[str, ...] = ("focal", "dice"),
    width: float = 0.5,
    widths: Sequence[int] = (16, 32, 64),
) -> nn.Module:
    """A small first stage, trained."""
    torch.manual_seed(seed)
    network = ResidualFCN(data.images.ndim - 2, widths=widths, width=width)
    return train(network, HybridDetectionLoss(parts), (data.images, data.truth), steps, rate, seed)


def second_stage(
    cubes: Tensor, labels: Tensor, steps: int, rate: float, seed: int, width: float = 0.25, attention: bool = True
) -> MultiScaleAttentionResNet:
    """A small second stage, trained."""
    torch.manual_seed(seed)
    network = MultiScaleAttentionResNet(
        cubes.ndim - 2, cubes.shape[1], widths=(16, 32, 64), width=width, blocks=1, attention=attention
    )
    train(network, HardNegativeLoss(), (cubes, labels), steps, rate, seed, batch=32)
    return network


def best_of(arm: Callable[[float], tuple[float, float]], rates: Sequence[float] = RATES) -> float:
    """An arm's test score at the learning rate of its best validation score; the arm gives (validation, test)."""
    return max((arm(rate) for rate in rates), key=lambda pair: pair[0])[1]


def interval(differences: list[float]) -> tuple[float, float]:
    """The 95 % interval of the mean difference between paired seeds, by Student's t."""
    low, high = stats.t.interval(0.95, len(differences) - 1, np.mean(differences), stats.sem(differences))
    return float(low), float(high)
