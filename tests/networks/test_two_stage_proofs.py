"""Whether the special parts of the two-stage detector of nodules decide, on toys in which they could.

Five seeds and the interval of the paired difference. Of two arms each chooses its learning rate from one short list, on
scenes of its own; the steps are equal. ``-s`` shows the figures that the model card gives.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from medresnet3d.networks.attention_resnet import MultiScaleAttentionResNet
from medresnet3d.networks.candidates import sample_cubes
from medresnet3d.networks.residual_fcn import ResidualFCN
from tests.networks.detection_toy import (
    RATES,
    Scenes,
    best_of,
    candidate_cubes,
    cpm,
    first_stage,
    interval,
    lone,
    peaks,
    recall,
    scenes,
    scored,
    second_stage,
)

SEEDS = range(5)
ATTENTION_SEEDS = range(5, 10)
"""Which stage's weights are looked at, the last, was chosen on ``SEEDS``."""
HYBRID_SEEDS = range(5, 17)
"""On the five of ``SEEDS`` the gain, 0.046, was not told from zero (-0.019 to 0.110)."""
FIRST_STEPS, SECOND_STEPS, SCALE_STEPS = 120, 200, 400
EDGES, CUBE = [10.0, 20.0, 32.0], 12
COUNT = 12
"""Candidates of an image."""
SCALES, SCALE_CUBE = [7.0, 17.0, 42.0], 8
"""About four radii of the smallest, the middle and the largest of the lone discs."""
RIVALS = [17.0]
"""The other two alone were far worse over five seeds of 250 steps (mean AUC 0.81 and 0.82 against 0.95)."""


@cache
def data(seed: int) -> tuple[Scenes, Scenes, Scenes]:
    """Scenes to train, validate and test on: discs 6 to 12 pixels wide among bars as wide."""
    counts = (160, 48, 128)
    train, held_out, test = (scenes(count, 3 * seed + n, noise=0.6, radii=(3.0, 6.0)) for n, count in enumerate(counts))
    return train, held_out, test


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def first_cpm(network: nn.Module, part: Scenes) -> float:
    """CPM of a first stage's own probabilities."""
    return cpm(*peaks(network, part.images, COUNT), part.balls)


@cache
def candidates(seed: int, parts: tuple[str, ...] = ("focal", "dice")) -> nn.Module:
    """A first stage at its better learning rate. It sees nine pixels, less than most discs are wide."""
    train, held_out, _ = data(seed)
    trained = [first_stage(train, FIRST_STEPS, rate, seed, parts, widths=(16,)) for rate in RATES]
    return max(trained, key=lambda network: first_cpm(network, held_out))


@cache
def scorer(seed: int) -> MultiScaleAttentionResNet:
    """A second stage for these candidates, at its better learning rate."""
    train, held_out, _ = data(seed)
    cubes = candidate_cubes(candidates(seed), train, EDGES, CUBE, seed, COUNT)
    trained = [second_stage(*cubes, SECOND_STEPS, rate, seed) for rate in RATES]
    return max(trained, key=lambda network: second_cpm(seed, network, held_out))


def second_cpm(seed: int, network: nn.Module, part: Scenes) -> float:
    """CPM of the first stage's candidates with the second stage's probabilities."""
    centres, _ = peaks(candidates(seed), part.images, COUNT)
    return cpm(centres, scored(network, part.images, centres, EDGES, CUBE), part.balls)


ALONE = {"narrow": ((16,), 0.5), "wide": ((16, 32, 64), 0.375)}
"""Widths of one stage: the first itself, which sees nine pixels, and a U-shape as large as both, which sees discs."""


def one_stage(seed: int, view: str) -> float:
    """CPM of one stage alone, trained for as many steps as both."""
    train, held_out, test = data(seed)
    widths, width = ALONE[view]

    def arm(rate: float) -> tuple[float, float]:
        network = first_stage(train, FIRST_STEPS + SECOND_STEPS, rate, seed, width=width, widths=widths)
        return first_cpm(network, held_out), first_cpm(network, test)

    return best_of(arm)


def attention_contrast(seed: int) -> float:
    """Mean attention on the disc of a cube less that beside it, over unseen cubes; the mean of the scales.

    Scale by scale: a small cube is nearly all disc, so that a trunk which lets through more than another would count.
    """
    _, _, test = data(seed)
    centres = [torch.from_numpy(found[:, :2]).float() for found in test.balls]
    cubes, masks = (
        torch.cat(
            [sample_cubes(one[None], places[None], EDGES, CUBE)[0] for one, places in zip(part, centres, strict=True)]
        )
        for part in (test.images, test.truth[:, 1:])
    )
    network = scorer(seed)
    with torch.no_grad():
        attention = network.attention(cubes)
    inside = masks > 0.5
    contrasts = []
    for scale in range(len(EDGES)):
        weights, disc = attention[:, scale], inside[:, scale]
        contrasts.append(float(weights[disc].mean() - weights[~disc].mean()))
    return float(np.mean(contrasts))


def scale_scores(seed: int) -> dict[str, float]:
    """AUC of the second stage with three scales, and with one of them in all three trunks."""
    parts = [lone(count, 100 + 3 * seed + n) for n, count in enumerate((2048, 512, 1024))]

    def score(edges: list[float]) -> float:
        cubes = [(around_middle(images, edges), labels) for images, labels in parts]

        def arm(rate: float) -> tuple[float, float]:
            network = second_stage(*cubes[0], SCALE_STEPS, rate, seed)
            with torch.no_grad():
                found = [roc_auc_score(labels, network(images).flatten()) for images, labels in cubes[1:]]
            return found[0], found[1]

        return best_of(arm)

    return {"all": score(SCALES), **{f"{edge:g}": score([edge] * 3) for edge in RIVALS}}


def around_middle(images: Tensor, edges: list[float]) -> Tensor:
    """Cubes around the middle of each image."""
    middle = torch.full((len(images), 1, 2), (images.shape[-1] - 1) / 2)
    return sample_cubes(images, middle, edges, SCALE_CUBE)[:, 0]


def shown(name: str, values: list[float]) -> tuple[float, float]:
    """Print values and give the interval of their mean."""
    low, high = interval(values)
    print(f"\n{name}: {np.round(values, 3)}, mean {np.mean(values):.3f} ({low:.3f} to {high:.3f})", flush=True)
    return low, high


@pytest.mark.slow
def test_candidates_hold_nearly_all_discs_and_the_second_stage_raises_the_cpm() -> None:
    """Against the same first stage alone, which sees less than a disc."""
    found = []
    for seed in SEEDS:
        _, _, test = data(seed)
        held = recall(*peaks(candidates(seed), test.images, COUNT), test.balls)
        found.append((held, first_cpm(candidates(seed), test), second_cpm(seed, scorer(seed), test)))
        print(
            f"seed {seed}: recall {held:.3f}, CPM of the first {found[-1][1]:.3f}, of both {found[-1][2]:.3f}",
            flush=True,
        )
    assert min(held for held, _, _ in found) >= 0.9
    assert shown("CPM gained", [both - first for _, first, both in found])[0] > 0


@pytest.mark.slow
def test_three_scales_are_better_than_the_best_single_one() -> None:
    """Discs and short bars of radii 1 to 7: what is small needs a fine grid, and what is large a wide view."""
    found = []
    for seed in SEEDS:
        found.append(scale_scores(seed))
        print(f"seed {seed}: AUC by scales {found[-1]}", flush=True)
    best = max(found[0].keys() - {"all"}, key=lambda name: sum(one[name] for one in found))
    assert shown(f"AUC above that of {best} alone", [one["all"] - one[best] for one in found])[0] > 0


def gains_over(view: str) -> list[float]:
    """CPM of both stages less that of one alone."""
    return [second_cpm(seed, scorer(seed), data(seed)[2]) - one_stage(seed, view) for seed in SEEDS]


@pytest.mark.slow
def test_the_gain_is_none_of_steps() -> None:
    """Against the first stage trained for as many steps as both."""
    assert shown("CPM above the first stage trained for longer", gains_over("narrow"))[0] > 0


@pytest.mark.slow
def test_against_a_stage_as_large_that_sees_whole_discs() -> None:
    """At equal parameters and steps a rival that does not lack what the second stage adds is better than both."""
    widths, width = ALONE["wide"]
    both, one = parameters(candidates(0)) + parameters(scorer(0)), ResidualFCN(2, widths=widths, width=width)
    assert abs(both - parameters(one)) < 0.1 * both
    assert shown("CPM above one stage as large that sees discs", gains_over("wide"))[1] < 0


@pytest.mark.slow
def test_attention_rises_on_the_disc() -> None:
    """The weights of places of the last stages."""
    contrasts = [attention_contrast(seed) for seed in ATTENTION_SEEDS]
    assert shown("attention on the disc less that beside it", contrasts)[0] > 0


@pytest.mark.slow
def test_the_hybrid_loss_raises_the_cpm_of_the_candidates() -> None:
    """Against the loss of the centres alone, at equal steps."""
    gains = []
    for seed in HYBRID_SEEDS:
        with_masks, without = candidates(seed), candidates(seed, ("focal",))
        gains.append(first_cpm(with_masks, data(seed)[2]) - first_cpm(without, data(seed)[2]))
    assert shown("CPM gained by the hybrid loss", gains)[0] > 0
