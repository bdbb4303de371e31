"""Auto-context beside one net on a toy whose classes reach further than one net sees, at equal parameters and steps.

A toy in 2D. A band runs through the whole of a long image, and a short mark on it, brighter or darker than the rest,
says which of two classes all of it has. Away from the mark a pixel looks the same in either class. What a VoxResNet
says of a pixel depends on some 70 pixels to either side, less than the distance to the mark for many pixels, and the
second net of a pair begins where the maps of the first one end.
"""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medresnet3d.data import SeededDataset
from medresnet3d.engines.auto_context import OutOfFoldMaps
from medresnet3d.metrics.paired import paired_test
from medresnet3d.networks.voxresnet import AutoContextVoxResNet, VoxResNet

LENGTH, CASES, UNSEEN, FOLDS, BATCH = 256, 256, 96, 2, 8
STEPS = 100  # of each of the pair's trainings
RATES = (6e-3, 3e-3)


def bands(seed: int, cases: int) -> tuple[Tensor, Tensor]:
    """Images (cases, 1, 8, LENGTH) and labels: 0 outside, 1 where the mark is bright and 2 where it is dark."""
    generator = torch.Generator().manual_seed(seed)
    image = 0.2 * torch.randn((cases, 1, 8, LENGTH), generator=generator)
    image[:, :, 2:6] += 1
    label = torch.zeros((cases, 8, LENGTH), dtype=torch.long)
    for number in range(cases):
        dark = number % 2
        at = int(torch.randint(LENGTH // 2 - 16, LENGTH // 2 + 16, (1,), generator=generator))
        image[number, 0, 2:6, at : at + 6] += -1.0 if dark else 1.0
        label[number, 2:6] = 1 + dark
    return image, label


def fit(network: nn.Module, images: Tensor, labels: Tensor, rate: float, steps: int) -> None:
    """Train on random batches with one cycle of the learning rate; gradients are clipped."""
    optimizer = torch.optim.AdamW(network.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.3)
    generator = torch.Generator().manual_seed(0)
    network.train()
    for _ in range(steps):
        rows = torch.randint(len(images), (BATCH,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images[rows])[0], labels[rows]).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def accuracy(network: nn.Module, seed: int) -> float:
    """Share of the pixels of unseen bands that are told right."""
    images, labels = bands(1000 + seed, UNSEEN)
    with torch.inference_mode():
        right = network.eval()(images).argmax(1) == labels
    return float(right[labels > 0].float().mean())


def single(seed: int, rate: float) -> float:
    """One net, trained for as many steps as all nets of the pair together, those of the folds included."""
    images, labels = bands(seed, CASES)
    torch.manual_seed(seed)
    network = VoxResNet(2, 1, 3, width=14)
    fit(network, images, labels, rate, (FOLDS + 2) * STEPS)
    return accuracy(network, seed)


def pair_of_nets(seed: int, rate: float) -> float:
    """First nets without each fold, one on all, and the second net, which learns from maps of cases held out."""
    images, labels = bands(seed, CASES)
    torch.manual_seed(seed)
    pair = AutoContextVoxResNet(2, 1, 3, width=10)
    start = deepcopy(pair.state_dict())
    patients = [str(number) for number in range(CASES)]
    maps = OutOfFoldMaps(SeededDataset([{"image": 0, "patient": who} for who in patients]), FOLDS, precision="fp32")
    for fold in range(FOLDS):
        others = maps.cases_without(fold)
        fit(pair.first, images[others], labels[others], rate, STEPS)
        maps.keep(fold, pair.first)
        pair.load_state_dict(start)
    fit(pair.first, images, labels, rate, STEPS)
    pair.start_second()
    fit(pair.second, torch.cat([images, maps.maps(images, patients)], 1), labels, rate, STEPS)
    return accuracy(pair, seed)


ARMS = {"pair": pair_of_nets, "single": single}


def test_the_arms_have_equal_parameters() -> None:
    networks = VoxResNet(2, 1, 3, width=14), AutoContextVoxResNet(2, 1, 3, width=10)
    sizes = [sum(each.numel() for each in net.parameters()) for net in networks]
    assert max(sizes) < 1.1 * min(sizes)


@pytest.mark.slow
def test_auto_context_reaches_further_than_one_net_with_one_seed() -> None:
    assert pair_of_nets(0, RATES[0]) > single(0, RATES[0]) + 0.05


@pytest.mark.slow
def test_auto_context_reaches_further_than_one_net_with_five_seeds() -> None:
    """Each arm has its own learning rate, the better of the two with the first seed."""
    scores: dict[str, list[float]] = {}
    for arm, train in ARMS.items():
        tried = {rate: train(0, rate) for rate in RATES}
        rate = max(tried, key=lambda rate: tried[rate])
        scores[arm] = [tried[rate], *(train(seed, rate) for seed in range(1, 5))]
        tries = {rate: round(score, 3) for rate, score in tried.items()}
        print(arm, tries, rate, np.round(scores[arm], 3).tolist(), flush=True)
    gain = paired_test(scores["pair"], scores["single"]).difference
    print(f"pair minus single {gain.value:.3f}, {gain.low:.3f} to {gain.high:.3f}", flush=True)
    assert gain.low > 0
