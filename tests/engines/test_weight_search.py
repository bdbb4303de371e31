from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from medresnet3d.data.dataset import SeededDataset
from medresnet3d.engines import load_checkpoint
from medresnet3d.engines.weight_search import FITNESSES, WeightCode, WeightSearch, weight_stages
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.networks.conv_pool import build_small_cnn


def crosses(number: int, seed: int, size: int = 12) -> SeededDataset:
    """Crosses (0) and squares (1) anywhere in noise."""
    rng = np.random.default_rng(seed)
    items = []
    for label in np.arange(number) % 2:
        image = rng.normal(0, 0.1, (size, size))
        i, j = rng.integers(3, size - 3, 2)
        if label:
            image[i - 2 : i + 2, j - 2 : j + 2] += 0.6
        else:
            image[i, j - 3 : j + 3] += 0.8
            image[i - 3 : i + 3, j] += 0.8
        items.append({"image": torch.from_numpy(image[None]).float(), "label": int(label)})
    return SeededDataset(items, cache="none")


def network(seed: int = 0, **options: Any) -> nn.Module:
    torch.manual_seed(seed)
    return build_small_cnn((4, 6), in_channels=1, **options).eval()


def course(folder: Path) -> list[float]:
    with (folder / "search.csv").open(newline="") as file:
        return [float(row["best"]) for row in csv.DictReader(file)]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), reach=st.floats(0.1, 10))
def test_a_position_comes_back_from_the_weights(seed: int, reach: float) -> None:
    net = network(norm="batch")
    code = WeightCode(net, reach)
    np.testing.assert_array_equal(code.encode(), 0)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    position = np.random.default_rng(seed).uniform(-1, 1, code.dims)
    code.decode(position)
    np.testing.assert_allclose(code.encode(), position, atol=1e-5 / min(reach, 1))
    assert not torch.equal(net.classifier.weight, before["classifier.weight"])
    code.decode(np.zeros(code.dims))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_every_layer_has_the_reach_of_its_own_size() -> None:
    net = network()
    code = WeightCode(net, reach=1.0)
    assert code.dims == sum(parameter.numel() for parameter in net.parameters())
    start = net.features[0][0].weight.detach().clone()
    code.decode(np.ones(code.dims))
    torch.testing.assert_close(net.features[0][0].weight - start, torch.full_like(start, np.sqrt(2 / 9)))


def test_frozen_weights_stay() -> None:
    net = network()
    net.freeze(r"features\.")
    before = net.features[0][0].weight.clone()
    code = WeightCode(net)
    assert code.dims == sum(parameter.numel() for parameter in net.classifier.parameters())
    code.decode(np.ones(code.dims))
    assert torch.equal(net.features[0][0].weight, before)


@pytest.mark.parametrize("fitness", FITNESSES)
def test_the_best_position_is_what_the_network_has(fitness: str, tmp_path: Path) -> None:
    data, net = crosses(24, 0), network()
    search = WeightSearch(data, fitness=fitness, mini_set=24, population=6, iterations=5)
    search(net, tmp_path)
    best = load_checkpoint(tmp_path / "swarm.pt")["swarm"]["best"]
    images = torch.stack([data[index]["image"] for index in range(24)])
    labels = torch.tensor([data[index]["label"] for index in range(24)])
    with torch.no_grad():
        logits = net(images)
    by_hand = {
        "cross_entropy": nn.functional.cross_entropy(logits, labels),
        "mean_square": ((logits.softmax(1) - torch.eye(2)[labels]) ** 2).mean(),
    }
    assert float(by_hand[fitness]) == pytest.approx(best["fitness"], rel=1e-5)
    found = course(tmp_path)
    assert found == sorted(found, reverse=True) and found[-1] == pytest.approx(best["fitness"])


def test_a_search_that_was_broken_off_ends_in_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = crosses(16, 0)

    def search(folder: Path, calls: int) -> nn.Module:
        net, plain, left = network(), FITNESSES["cross_entropy"], iter(range(calls))

        def limited(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            if next(left, None) is None:
                raise KeyboardInterrupt
            return plain(logits, labels)

        monkeypatch.setitem(FITNESSES, "cross_entropy", limited)
        try:
            WeightSearch(data, mini_set=16, population=4, iterations=4)(net, folder)
        finally:
            monkeypatch.setitem(FITNESSES, "cross_entropy", plain)
        return net

    whole = search(tmp_path / "whole", 16)
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "broken", 10)
    again = search(tmp_path / "broken", 8)  # two of the four iterations are kept
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    data = crosses(4, 0)
    with pytest.raises(ConfigError, match="Did you mean 'improved_whale'"):
        WeightSearch(data, method="improved_wale")
    with pytest.raises(ConfigError, match="Did you mean 'cross_entropy'"):
        WeightSearch(data, fitness="crossentropy")
    with pytest.raises(ConfigError, match="Did you mean 'weights'"):
        weight_stages("weight", WeightSearch(data))
    with pytest.raises(ConfigError, match="mini_set is 1"):
        WeightSearch(data, mini_set=1)
    with pytest.raises(ConfigError, match="reach is 0"):
        WeightCode(network(), 0)
    with pytest.raises(ConfigError, match="weights to search; a swarm takes 1 to 10,000"):
        WeightCode(build_small_cnn((64, 64)))
    broken = SeededDataset([{"image": torch.full((1, 12, 12), torch.nan), "label": 0}] * 2, cache="none")
    with pytest.raises(DataError, match="No position of the swarm has a finite loss"):
        WeightSearch(broken, mini_set=2, population=2, iterations=1)(network(), tmp_path)


# ---- the proof: as many measurements for each method

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "improved whale": ("improved_whale", {"step": 0.5}),
    "whale": ("whale", {}),
    "random": ("random", {}),
}


def found(name: str, seed: int, folder: Path, reach: float = 1.0) -> float:
    """Cross-entropy of the best of 600 measurements of 312 weights."""
    method, options = METHODS[name]
    own = folder / f"{name}{seed}{reach}"
    WeightSearch(
        crosses(32, seed),
        None,
        method,
        mini_set=32,
        population=20,
        iterations=30,
        reach=reach,
        seed=seed,
        options=options,
    )(network(seed), own)
    return course(own)[-1]


def test_with_as_many_measurements_improved_whales_beat_whales_and_these_beat_chance(tmp_path: Path) -> None:
    improved, whale, random = (found(name, 2, tmp_path) for name in METHODS)
    print(f"cross-entropy: improved whale {improved:.3f}, whale {whale:.3f}, random {random:.3f}")
    assert improved < whale - 0.05 and whale <= random


@pytest.mark.slow
def test_the_order_of_methods_in_twenty_seeds(tmp_path: Path) -> None:
    for reach in (1.0, 2.0):
        table = np.array([[found(name, seed, tmp_path, reach) for seed in range(20)] for name in METHODS])
        medians, gain = np.median(table, axis=1), table[1:] - table[0]
        least = gain.mean(1) - 2.09 * gain.std(1, ddof=1) / np.sqrt(20)
        most = gain.mean(1) + 2.09 * gain.std(1, ddof=1) / np.sqrt(20)
        print(f"reach {reach}: medians {dict(zip(METHODS, medians.round(3), strict=True))}")
        print(f"  improved whale ahead of whale, random: {gain.mean(1).round(3)}, {least.round(3)} to {most.round(3)}")
        assert least.min() > 0
        assert reach > 1 or medians[1] <= medians[2], (
            "in a wide box whales are drawn to the start, where little is found"
        )
