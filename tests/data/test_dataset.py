from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.transforms import Compose, EnsureTyped, Lambdad, RandCropByPosNegLabeld, RandGaussianNoised, Transform

from medresnet3d.data import SeededDataset, SeededSampler, data_loader
from medresnet3d.errors import ConfigError, DataError


class Counted(Transform):
    """Counts how often it is called."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        self.calls += 1
        return {**item, "image": item["image"] + 1}


class Careless(Transform):
    """Draws from all three global generators."""

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        drawn = torch.rand(()) + np.random.rand() + random.random()  # noqa: NPY002
        return {**item, "drawn": float(drawn)}


def numpy_words() -> Any:
    state: Any = np.random.get_state()  # noqa: NPY002
    return state[1]


def cubes(n: int = 6) -> list[dict[str, Any]]:
    return [{"image": torch.full((1, 4, 4, 4), float(i)), "label": i % 2} for i in range(n)]


def noisy(seed: int = 0, **options: Any) -> SeededDataset:
    return SeededDataset(cubes(), Compose([EnsureTyped("image"), RandGaussianNoised("image", prob=1)]), seed, **options)


def test_a_sample_depends_on_seed_epoch_and_index_alone() -> None:
    first, second = noisy(), noisy()
    forwards = [first[i]["image"] for i in range(6)]
    backwards = [second[i]["image"] for i in reversed(range(6))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forwards, backwards, strict=True))
    second.set_epoch(1)
    assert not torch.equal(first[2]["image"], second[2]["image"])
    assert not torch.equal(first[2]["image"], noisy(seed=1)[2]["image"])


def test_global_generators_are_seeded_for_a_sample_and_put_back() -> None:
    dataset = SeededDataset(cubes(), [RandGaussianNoised("image"), Careless()])
    states = torch.get_rng_state(), numpy_words(), random.getstate()
    drawn = [dataset[i]["drawn"] for i in (0, 1, 0)]
    assert drawn[0] == drawn[2] != drawn[1]
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], numpy_words())
    assert states[2] == random.getstate()


def test_repeats_show_each_item_differently() -> None:
    dataset = noisy(repeats=3)
    assert len(dataset) == 18
    assert dataset[1]["label"] == dataset[7]["label"] == 1
    assert not torch.equal(dataset[1]["image"], dataset[7]["image"])


@pytest.mark.parametrize(("cache", "calls"), [(True, 6), (False, 12), (2, 10)])
def test_leading_deterministic_transforms_run_once(cache: bool | int, calls: int) -> None:
    counted = Counted()
    dataset = SeededDataset(cubes(), [counted, RandGaussianNoised("image", prob=1), Counted()], cache=cache)
    for _ in range(2):
        for i in range(6):
            dataset[i]
    assert counted.calls == calls


def test_what_is_cached_is_not_changed_by_what_follows() -> None:
    def add_in_place(image: torch.Tensor) -> torch.Tensor:
        return image.add_(5)

    dataset = SeededDataset(cubes(), [Counted(), RandGaussianNoised("image", prob=0), Lambdad("image", add_in_place)])
    assert torch.equal(dataset[0]["image"], dataset[0]["image"])


def test_cropping_transforms_may_give_several_samples() -> None:
    items = [{"image": torch.rand(1, 8, 8, 8), "label": torch.ones(1, 8, 8, 8)} for _ in range(4)]
    crop = RandCropByPosNegLabeld(("image", "label"), "label", (4, 4, 4), num_samples=2)
    batch = next(iter(data_loader(SeededDataset(items, crop), batch_size=2)))
    assert batch["image"].shape == (4, 1, 4, 4, 4)


def test_index_errors_and_negative_indices() -> None:
    dataset = noisy()
    assert torch.equal(dataset[-1]["image"], dataset[5]["image"])
    with pytest.raises(IndexError):
        dataset[6]


@pytest.mark.parametrize(
    ("data", "options", "sentence"), [("manifest.json", {}, "not str"), (cubes(), {"repeats": 0}, "repeats is 0")]
)
def test_wrong_use_is_explained(data: Any, options: dict[str, int], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        SeededDataset(data, None, **options)


@settings(deadline=None, max_examples=50)
@given(size=st.integers(1, 40), epoch=st.integers(0, 5), start=st.integers(0, 10), seed=st.integers(0, 2**32 - 1))
def test_sampler_gives_each_sample_once_and_can_start_anywhere(size: int, epoch: int, start: int, seed: int) -> None:
    sampler = SeededSampler(range(size), seed=seed)
    sampler.set_epoch(epoch)
    order = list(sampler)
    assert sorted(order) == list(range(size))
    sampler.set_epoch(epoch, start)
    assert list(sampler) == order[start:]
    assert len(sampler) == size


def test_sampler_order_changes_with_epoch_and_seed() -> None:
    orders = []
    for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0)):
        sampler = SeededSampler(range(30), seed=seed)
        sampler.set_epoch(epoch)
        orders.append(tuple(sampler))
    assert len(set(orders)) == 3
    assert orders[0] == orders[3]
    assert list(SeededSampler(range(5), shuffle=False)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("size", "shuffle", "lengths"), [(10, True, [4, 4, 4]), (10, False, [4, 3, 3]), (2, False, [1, 1, 1])]
)
def test_processes_share_the_samples(
    monkeypatch: pytest.MonkeyPatch, size: int, shuffle: bool, lengths: list[int]
) -> None:
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 3)
    shares = []
    for rank in range(3):
        monkeypatch.setattr("torch.distributed.get_rank", lambda rank=rank: rank)
        shares.append(list(SeededSampler(range(size), shuffle=shuffle)))
    assert [len(share) for share in shares] == lengths
    assert set().union(*shares) == set(range(size))


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_gives_the_same_batches_for_any_number_of_workers(workers: int) -> None:
    loader = data_loader(noisy(), 2, shuffle=True, num_workers=workers)
    reference = data_loader(noisy(), 2, shuffle=True)
    for each in (loader, reference):
        each.set_epoch(3)
    expected = [batch["image"] for batch in reference]
    assert all(torch.equal(batch["image"], image) for batch, image in zip(loader, expected, strict=True))
    loader.set_epoch(3, start_batch=1)
    assert len(loader) == 3
    assert all(torch.equal(batch["image"], image) for batch, image in zip(loader, expected[1:], strict=True))


def test_workers_find_the_cache_filled() -> None:
    counted = Counted()
    loader = data_loader(SeededDataset(cubes(), [counted, RandGaussianNoised("image")]), 2, num_workers=1)
    for _ in range(2):
        list(loader)
    assert counted.calls == 6


def test_iterating_a_loader_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    list(data_loader(noisy(), 2, shuffle=True))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("options", "batches"),
    [
        ({"batch_size": 4}, [4, 2]),
        ({"batch_size": 4, "shuffle": True}, [4]),
        ({"batch_size": 8, "shuffle": True}, [6]),
        ({"batch_size": "all", "shuffle": True}, [6]),
        ({"batch_size": 0}, [6]),
        ({"batch_size": 4, "shuffle": True, "drop_last": False}, [4, 2]),
    ],
)
def test_incomplete_batches_are_left_out_only_in_training(options: dict[str, Any], batches: list[int]) -> None:
    loader = data_loader(noisy(), **options)
    assert [len(batch["image"]) for batch in loader] == batches
    assert len(loader) == len(batches)


def test_loader_errors() -> None:
    with pytest.raises(DataError, match="data set is empty"):
        data_loader(SeededDataset([]))
    for wrong in (-1, "whole", 2.5):
        with pytest.raises(ConfigError, match=f"batch_size is {wrong!r}; give 1 or more, or .all."):
            data_loader(noisy(), batch_size=wrong)  # type: ignore[arg-type]


NOISE = RandGaussianNoised("image", prob=1.0, std=0.01)


def test_some_of_the_cases_fill_an_epoch_as_long_as_that_of_all() -> None:
    whole = SeededDataset([{"image": torch.full((1, 2), float(i))} for i in range(5)], NOISE, seed=1, repeats=3)
    part = whole.only([1, 4])
    assert len(part) == len(whole) == 15
    drawn = [float(part[index]["image"][0, 0]) for index in range(15)]
    assert {round(value) for value in drawn} == {1, 4}
    assert len(set(drawn)) == 15  # each sample has a stream of its own
    part.set_epoch(1)
    assert whole.epoch == 0 and float(part[0]["image"][0, 0]) != drawn[0]
    with pytest.raises(ConfigError, match="no cases are named"):
        whole.only([])
    with pytest.raises(ConfigError, match="the cache `smart` changes them"):
        SeededDataset([{"image": 0.0}] * 4, cache="smart").only([0])
