"""Whether the special parts of the nodule detectors decide, on discs among bars in noise.

One seed with a margin by default, five seeds with the interval of the difference under ``slow``. The arms of a
comparison have equal parameters (within a tenth) and equal steps, and each its own learning rate from one short list.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from medresnet3d.networks.attention_resnet import MultiScaleAttentionResNet
from medresnet3d.networks.candidates import sample_cubes
from medresnet3d.networks.dense_unet import DenseUNet
from tests.networks.detection_toy import (
    RATES,
    Scenes,
    best_of,
    candidate_cubes,
    cpm,
    first_stage,
    interval,
    peaks,
    recall,
    scenes,
    scored,
    second_stage,
    train,
)

SEEDS = range(5)
EDGES, CUBE = [10.0, 15.0, 20.0], 12
STEPS = 100
Data = tuple[Scenes, Scenes, Scenes]


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def data(seed: int, noise: float = 0.4) -> Data:
    """Scenes to train, validate and test on."""
    return (
        scenes(64, 3 * seed, noise=noise),
        scenes(24, 3 * seed + 1, noise=noise),
        scenes(32, 3 * seed + 2, noise=noise),
    )


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@cache
def candidates(seed: int) -> tuple[nn.Module, float]:
    """A first stage at its better learning rate, and that rate."""
    learnt, held_out, _ = data(seed)
    trained = {rate: first_stage(learnt, STEPS, rate, seed) for rate in RATES}
    rate = max(RATES, key=lambda rate: cpm(*peaks(trained[rate], held_out.images), held_out.balls))
    return trained[rate], rate


def two_stages(seed: int) -> tuple[float, int]:
    """CPM of candidates that the second stage has scored, and the parameters of both."""
    learnt, held_out, test = data(seed)
    first, _ = candidates(seed)
    cubes = candidate_cubes(first, learnt, EDGES, CUBE, seed)

    def arm(rate: float) -> tuple[float, float]:
        second = second_stage(*cubes, STEPS, rate, seed)
        sizes.append(parameters(first) + parameters(second))
        found = []
        for part in (held_out, test):
            centres, _ = peaks(first, part.images)
            found.append(cpm(centres, scored(second, part.images, centres, EDGES, CUBE), part.balls))
        return found[0], found[1]

    sizes: list[int] = []
    return best_of(arm), sizes[0]


def one_stage(seed: int, width: float) -> tuple[float, int]:
    """CPM of a wider first stage alone, trained for as many steps as both stages."""
    learnt, held_out, test = data(seed)
    sizes: list[int] = []

    def arm(rate: float) -> tuple[float, float]:
        network = first_stage(learnt, 2 * STEPS, rate, seed, width=width)
        sizes.append(parameters(network))
        return tuple(cpm(*peaks(network, part.images), part.balls) for part in (held_out, test))  # type: ignore[return-value]

    return best_of(arm), sizes[0]


def hybrid_gain(seed: int) -> float:
    """CPM of the first stage's candidates with the hybrid loss, less that with the loss of centres alone."""
    learnt, held_out, test = data(seed)

    def arm(parts: tuple[str, ...], rate: float) -> tuple[float, float]:
        network = first_stage(learnt, STEPS, rate, seed, parts)
        return tuple(cpm(*peaks(network, part.images), part.balls) for part in (held_out, test))  # type: ignore[return-value]

    return best_of(lambda rate: arm(("focal", "dice"), rate)) - best_of(lambda rate: arm(("focal",), rate))


def cubes_of(part: Scenes, edges: list[float], seed: int) -> tuple[Tensor, Tensor]:
    """Cubes around balls and around tubes' middles or their ends, told apart without a first stage."""
    return candidate_cubes(Brightness(), part, edges, CUBE, seed)


class Brightness(nn.Module):
    """A first stage that has learnt nothing: the smoothed image."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(x, 5, 1, 2)


def scale_scores(seed: int) -> dict[str, float]:
    """AUC of the second stage with three scales, and with one of them in all three trunks."""
    parts = [scenes(48, 100 + 3 * seed + n, noise=0.4, radii=(1.5, 6.0)) for n in range(3)]

    def score(edges: list[float]) -> float:
        cubes = [cubes_of(part, edges, seed) for part in parts]

        def arm(rate: float) -> tuple[float, float]:
            network = second_stage(*cubes[0], STEPS, rate, seed)
            with torch.no_grad():
                found = [roc_auc_score(labels, network(images).flatten()) for images, labels in cubes[1:]]
            return found[0], found[1]

        return best_of(arm)

    edges = [6.0, 12.0, 24.0]
    return {"all": score(edges), **{f"{edge:g}": score([edge] * 3) for edge in edges}}


def attention_contrast(seed: int) -> float:
    """Mean attention on the ball of a cube less that beside it, over unseen cubes of all scales."""
    learnt, _, test = data(seed)
    first, rate = candidates(seed)
    network = second_stage(*candidate_cubes(first, learnt, EDGES, CUBE, seed), STEPS, rate, seed)
    centres = [torch.from_numpy(found[:, :2]).float() for found in test.balls]
    cubes, masks = (
        torch.cat(
            [sample_cubes(one[None], places[None], EDGES, CUBE)[0] for one, places in zip(part, centres, strict=True)]
        )
        for part in (test.images, test.truth[:, 1:])
    )
    return contrast(network, cubes, masks)


def contrast(network: MultiScaleAttentionResNet, cubes: Tensor, masks: Tensor) -> float:
    """Mean attention inside of masks less that outside."""
    with torch.no_grad():
        attention = network.attention(cubes)
    inside = masks > 0.5
    return float(attention[inside].mean() - attention[~inside].mean())


def context_scenes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Discs that count only where a marker lies 20 pixels to their right.

    Returns:
        images (N, 1, 48, 48), and for every pixel of a disc whether it counts (0 or 1), -1 elsewhere.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    images, truth = 0.2 * torch.randn(count, 1, 48, 48, generator=generator), torch.full((count, 1, 48, 48), -1.0)
    rows, columns = torch.meshgrid(torch.arange(48), torch.arange(48), indexing="ij")
    for image, answer in zip(images[:, 0], truth[:, 0], strict=True):
        for band in range(2):
            row, column, counts = draw(8 + 22 * band, 18 + 22 * band), draw(6, 22), draw(0, 2)
            disc = (rows - row) ** 2 + (columns - column) ** 2 <= 9
            image[disc] += 1
            answer[disc] = counts
            if counts:
                image[row - 1 : row + 2, column + 19 : column + 22] += 2
    return images, truth


class OnDiscs(nn.Module):
    """Binary cross-entropy where the truth is known."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        known = target >= 0
        return nn.functional.binary_cross_entropy_with_logits(output[known], target[known])


def context_score(dilations: list[int], seed: int, rates: Sequence[float] = RATES) -> float:
    """AUC of whether a disc counts, over the pixels of unseen discs."""
    learnt, held_out, test = (context_scenes(count, 10 * seed + n) for n, count in enumerate((64, 32, 64)))

    def arm(rate: float) -> tuple[float, float]:
        torch.manual_seed(seed)
        network = DenseUNet(2, levels=2, block_layers=1, growth=6, dilations=dilations)
        train(network, OnDiscs(), learnt, STEPS, rate, seed)
        with torch.no_grad():
            found = [roc_auc_score(t[t >= 0], network(image)[t >= 0]) for image, t in (held_out, test)]
        return found[0], found[1]

    return best_of(arm, rates)


DILATED, PLAIN = [1, 2, 4, 8], [1, 1, 1, 1]


@pytest.mark.slow
def test_dilations_see_context_that_plain_convolutions_do_not() -> None:
    """The marker is nearer than the dilated network's reach (40 pixels) and beyond the plain one's (12)."""
    arms = [DenseUNet(2, levels=2, block_layers=1, growth=6, dilations=rates) for rates in (DILATED, PLAIN)]
    assert parameters(arms[0]) == parameters(arms[1])
    assert context_score(DILATED, 0, (0.01,)) > 0.95
    assert context_score(PLAIN, 0, (0.01,)) < 0.7


@pytest.mark.slow
def test_dilations_see_context_over_five_seeds() -> None:
    gains = [context_score(DILATED, seed) - context_score(PLAIN, seed) for seed in SEEDS]
    assert interval(gains)[0] > 0


@pytest.mark.slow
def test_candidates_hold_nearly_all_balls_and_the_second_stage_tells_them_from_tubes() -> None:
    """Recall of at most 20 candidates an image; and cubes of unseen scenes, scored by the second stage."""
    learnt, _, test = data(0)
    first = first_stage(learnt, STEPS, 0.01, 0)
    assert recall(*peaks(first, test.images), test.balls) >= 0.9
    second = second_stage(*candidate_cubes(first, learnt, EDGES, CUBE, 0), STEPS, 0.01, 0)
    cubes, labels = candidate_cubes(first, test, EDGES, CUBE, 1)
    with torch.no_grad():
        assert roc_auc_score(labels, second(cubes).flatten()) > 0.9


@pytest.mark.slow
def test_comparisons_that_do_not_come_out_have_equal_budgets() -> None:
    """The figures that the model card of the two-stage detector gives; run with ``-s`` to see them."""
    two, one = two_stages(0), one_stage(0, 0.6)
    scales, contrast_found, hybrid = scale_scores(0), attention_contrast(0), hybrid_gain(0)
    print(f"CPM of two stages {two[0]:.3f}, of one {one[0]:.3f}; AUC by scales {scales}")
    print(f"attention on balls less beside them {contrast_found:.4f}; CPM gained by the hybrid loss {hybrid:.3f}")
    assert abs(two[1] - one[1]) < 0.1 * one[1]
    assert min(two[0], one[0]) > 0.6 and min(scales.values()) > 0.9
    assert abs(contrast_found) < 0.5
