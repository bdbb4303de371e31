from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medresnet3d.data.dataset import SeededDataset
from medresnet3d.engines import load_checkpoint
from medresnet3d.engines.kernel_search import (
    CHOICES,
    KernelSearch,
    fit_head,
    kernel_budget,
    kernel_stages,
    mini_set,
)
from medresnet3d.engines.kernels import draw_kernels, read_kernels
from medresnet3d.engines.staged import FitStage
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.networks.conv_pool import ConvPool


def discs_and_rings(number: int, seed: int, size: int = 28) -> list[dict[str, Any]]:
    """Discs (0) and rings (1) of about equal brightness, anywhere in noise."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:size, :size]
    items = []
    for label in np.arange(number) % 2:
        centre, radius = rng.uniform(10, size - 10, 2), rng.uniform(5, 8)
        distance = np.hypot(row - centre[0], column - centre[1])
        shape = distance < 0.7 * radius if label == 0 else np.abs(distance - radius) < 1
        image = 0.6 * shape + rng.normal(0.2, 0.15, (size, size))
        items.append({"image": torch.from_numpy(image[None]).float(), "label": int(label), "patient": f"p{len(items)}"})
    return items


def dataset(number: int = 40, seed: int = 0) -> SeededDataset:
    return SeededDataset(discs_and_rings(number, seed), cache="none")


def network(seed: int = 0) -> ConvPool:
    torch.manual_seed(seed)
    return ConvPool((6, 12), 2).eval()


def curve(folder: Path) -> list[float]:
    with (folder / "search.csv").open(newline="") as file:
        return [float(row["best"]) for row in csv.DictReader(file)]


def loss_at_step_zero(net: ConvPool, fitted_on: SeededDataset, unseen: SeededDataset, steps: int) -> float:
    """Cross-entropy on unseen cases with the last layer as the search fits it."""
    with torch.no_grad():
        images, labels = mini_set(fitted_on, None, 50)
        head = net.classifier
        weight, bias, _ = fit_head(net.forward_features(images), labels, head.weight, head.bias, steps)
        images, labels = mini_set(unseen, None, 1000)
        return float(nn.functional.cross_entropy(net.forward_features(images) @ weight.T + bias, labels))


# --- the last layer ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [1.0, 3.9])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_no_features_make_the_last_layer_diverge(rate: float, scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    features = scale * torch.randn(30, 8, generator=generator).double()
    labels = torch.arange(30) % 3
    weight, bias = torch.zeros(3, 8).double(), torch.zeros(3).double()
    losses = [fit_head(features, labels, weight, bias, steps, rate)[2] for steps in range(0, 60, 3)]
    assert losses[0] == pytest.approx(np.log(3))
    assert all(after <= before + 1e-12 for before, after in pairwise(losses))
    assert losses[-1] < losses[0]


def test_a_step_on_the_last_layer_is_that_of_torch() -> None:
    features, labels = torch.randn(20, 5), torch.arange(20) % 2
    head = nn.Linear(5, 2)
    length = float(1 / (features.square().sum(1).mean() + 1))
    weight, bias, loss = fit_head(features, labels, head.weight.detach(), head.bias.detach(), 2)
    optimizer = torch.optim.SGD(head.parameters(), lr=length)
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(features), labels).backward()
        optimizer.step()
    torch.testing.assert_close(weight, head.weight.detach())
    torch.testing.assert_close(bias, head.bias.detach())
    assert loss == pytest.approx(float(nn.functional.cross_entropy(head(features), labels).detach()), rel=1e-5)


# --- the fixed small set ----------------------------------------------------------------------------------------------


def test_the_mini_set_is_fixed_and_has_the_classes_in_equal_numbers() -> None:
    items = [{"image": torch.full((1, 2, 2), float(n)), "label": int(n >= 24)} for n in range(30)]
    data = SeededDataset(items, cache="none")
    images, labels = mini_set(data, None, 10, seed=1)
    assert images.shape == (10, 1, 2, 2) and torch.bincount(labels).tolist() == [5, 5]
    again, _ = mini_set(data, None, 10, seed=1)
    assert torch.equal(images, again)
    everything, labels = mini_set(data, None, 100)
    assert sorted(everything[:, 0, 0, 0].tolist()) == list(range(30)) and torch.bincount(labels).tolist() == [24, 6]


def test_a_case_without_a_class_is_refused() -> None:
    with pytest.raises(DataError, match="has no class"):
        mini_set(SeededDataset([{"image": torch.zeros(1, 2, 2)}], cache="none"), None, 5)


# --- the search -------------------------------------------------------------------------------------------------------


def test_the_best_is_written_back_to_the_last_bit_and_never_gets_worse(tmp_path: Path) -> None:
    net = network()
    search = KernelSearch(dataset(), population=8, iterations=6, seed=1)
    search(net, tmp_path)
    best = load_checkpoint(tmp_path / "swarm.pt")["swarm"]["best"]
    np.testing.assert_array_equal(read_kernels(net), np.float32(best["position"]))
    course = curve(tmp_path)
    assert len(course) == 6 and course == sorted(course, reverse=True)
    assert course[-1] == pytest.approx(best["fitness"])
    with torch.no_grad():
        images, labels = mini_set(search.dataset, None, search.mini_set, 1)
        loss = float(nn.functional.cross_entropy(net(images), labels))
    assert loss == pytest.approx(best["fitness"], rel=1e-5), "training starts at the loss that the search found"


def test_the_first_particle_is_the_network_as_it_is(tmp_path: Path) -> None:
    net = network()
    images, labels = mini_set(dataset(), None, 50)
    with torch.no_grad():
        head = net.classifier
        _, _, own = fit_head(net.forward_features(images), labels, head.weight, head.bias, 10)
    KernelSearch(dataset(), population=1, iterations=1)(net, tmp_path)
    assert curve(tmp_path) == [pytest.approx(own, rel=1e-6)]
    assert torch.equal(torch.from_numpy(read_kernels(network())), torch.from_numpy(read_kernels(net)))


def test_a_search_that_was_broken_off_goes_on_to_the_same_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = network(), network()
    options: dict[str, Any] = {"population": 5, "iterations": 6, "seed": 2}
    KernelSearch(dataset(), **options)(whole, tmp_path / "whole")
    measured: list[int] = []

    def measure(self: KernelSearch, *arguments: Any) -> tuple[Tensor, Tensor, float]:
        measured.append(1)
        if len(measured) == 18:
            raise KeyboardInterrupt
        return original(self, *arguments)

    original = KernelSearch._measure
    monkeypatch.setattr(KernelSearch, "_measure", measure)
    with pytest.raises(KeyboardInterrupt):
        KernelSearch(dataset(), **options)(broken, tmp_path / "broken")
    measured[:] = [1] * 100
    again = network()
    KernelSearch(dataset(), **options)(again, tmp_path / "broken")
    assert len(measured) - 100 == 3 * 5 + 1, "three of six iterations are left, and the best is measured once more"
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())
    assert curve(tmp_path / "broken") == curve(tmp_path / "whole")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mini_set": 1}, "mini_set is 1"),
        ({"fit_head_steps": -1}, "fit_head_steps is -1"),
        ({"spread": 0}, "spread is 0"),
        ({"reach": -0.5}, "reach is -0.5"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        KernelSearch(dataset(4), **options)


def test_images_that_are_no_numbers_are_told(tmp_path: Path) -> None:
    items = [{"image": torch.full((1, 28, 28), torch.nan), "label": n % 2} for n in range(4)]
    with pytest.raises(DataError, match="No position of the swarm has a finite loss"):
        KernelSearch(SeededDataset(items, cache="none"), population=2, iterations=1)(network(), tmp_path)


def test_a_network_without_a_linear_last_layer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Conv2d has no linear last layer"):
        KernelSearch(dataset(4))(nn.Conv2d(1, 2, 3), tmp_path)


def drawn_losses(distribution: str, seen: SeededDataset, unseen: SeededDataset) -> list[float]:
    losses = []
    for seed in range(10):
        net = network(seed)
        draw_kernels(net, distribution, torch.Generator().manual_seed(seed))
        losses.append(loss_at_step_zero(net, seen, unseen, 10))
    return losses


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 5))])
def test_after_the_search_the_loss_at_step_zero_is_below_that_of_random_and_gaussian_kernels(
    seed: int, tmp_path: Path
) -> None:
    """All have the same steps on the last layer; measured on images that none has seen."""
    seen, unseen = dataset(50, seed=seed), dataset(400, seed=100 + seed)
    net = network(seed)
    KernelSearch(seen, population=20, iterations=20, seed=seed)(net, tmp_path)
    found = loss_at_step_zero(net, seen, unseen, 0)
    for distribution in ("random", "gaussian"):
        losses = drawn_losses(distribution, seen, unseen)
        assert found < np.median(losses), (distribution, found, sorted(losses))


# --- stages and budget ------------------------------------------------------------------------------------------------


class Loader:
    batch_size = 50

    def __init__(self, batches: int) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return self.batches


def budget(kind: str, **options: Any) -> dict[str, int]:
    data = dataset(100)
    search = KernelSearch(data, population=20, iterations=15, mini_set=50, fit_head_steps=10)
    common: dict[str, Any] = {"source_epochs": 5, "search": search, "steps": 40}
    return kernel_budget(network(), data, Loader(2), kind, **{**common, **options})


def test_the_search_is_counted_in_steps_and_all_choices_spend_the_same() -> None:
    head = 2 * 192 / (6 * 25 * 24**2 + 12 * 6 * 25 * 8**2 + 2 * 192)
    searched = int(np.ceil(20 * 15 * 50 * (1 + 3 * 10 * head) / (3 * 50)))
    assert searched > 20 * 15 * 50 / (3 * 50), "the steps on the last layer count too"
    assert budget("pso") == {
        "source_steps": 10,
        "kernel_evaluations": 300,
        "search_in_steps": searched,
        "training_steps": 40,
        "steps_in_all": 50 + searched,
    }
    for kind in ("random", "gaussian"):
        found = budget(kind)
        assert found["training_steps"] == found["steps_in_all"] == 50 + searched
        assert found["kernel_evaluations"] == found["source_steps"] == 0
    assert budget("pso", pretrained="source.pt")["source_steps"] == 0
    assert budget("random", pretrained="source.pt")["training_steps"] == 40 + searched
    assert budget("random", equal_budget=False)["training_steps"] == 40


def test_stages_of_each_choice() -> None:
    source, search = FitStage("source", lambda net, folder: None), KernelSearch(dataset(4))
    names = {kind: [stage.name for stage in kernel_stages(kind, source, search)] for kind in CHOICES}
    assert names == {"pso": ["source", "kernels"], "random": ["kernels"], "gaussian": ["kernels"]}
    assert [stage.name for stage in kernel_stages("pso", source, search, pretrained="source.pt")] == ["kernels"]
    with pytest.raises(ConfigError, match="pso, random, gaussian"):
        kernel_stages("whale", source, search)
