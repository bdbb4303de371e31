from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medresnet3d.data import SeededDataset, data_loader
from medresnet3d.data.curriculum import CurriculumSampler
from medresnet3d.errors import ConfigError, DataError

RATINGS = [[1, 1, 1], [5, 5, 4], [2, 2, 1], [4, 4, 3], [5], [2, 4], [1, 2, 1], [4, 5, 4]]
STAGES = [{"epochs": 2, "distance": 2.0}, {"epochs": 1, "distance": 1.0}]


def dataset(ratings: list[list[int]] = RATINGS, **options: Any) -> SeededDataset:
    return SeededDataset([{"number": n, "malignancy": rating} for n, rating in enumerate(ratings)], **options)


def numbers(sampler: CurriculumSampler, epoch: int) -> list[int]:
    sampler.set_epoch(epoch)
    return [index[0] if isinstance(index, tuple) else index for index in sampler]


def test_the_first_stage_has_extremes_alone_then_all_come() -> None:
    sampler = CurriculumSampler(dataset(), STAGES)
    for epoch in (1, 2):
        assert set(numbers(sampler, epoch)) == {0, 1, 4, 6}
    assert set(numbers(sampler, 3)) == {0, 1, 2, 3, 4, 6, 7}
    for epoch in (4, 9):
        assert sorted(numbers(sampler, epoch)) == list(range(8))


def test_epochs_are_equally_long_and_share_the_samples_evenly() -> None:
    sampler = CurriculumSampler(dataset(), STAGES)
    for epoch in range(1, 6):
        drawn = numbers(sampler, epoch)
        assert len(drawn) == len(sampler) == 8
        counts = Counter(drawn).values()
        assert max(counts) - min(counts) <= 1


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    one, other = (CurriculumSampler(dataset(), STAGES, seed=3) for _ in range(2))
    assert numbers(one, 1) == numbers(other, 1) != numbers(one, 2)
    other.set_epoch(1, start=5)
    one.set_epoch(1)
    assert list(other) == list(one)[5:]
    assert numbers(CurriculumSampler(dataset(), STAGES, seed=4), 1) != numbers(one, 1)


def test_no_stages_are_the_plain_order() -> None:
    plain = data_loader(dataset(), batch_size=2, shuffle=True, seed=5)
    sampler = CurriculumSampler(dataset(), seed=5)
    loader = data_loader(dataset(), batch_size=2, sampler=sampler)
    for epoch in (1, 2):
        for each in (plain, loader):
            each.set_epoch(epoch)
        assert list(plain.sampler) == list(loader.sampler)
    assert loader.drop_last is plain.drop_last is True


def test_repeats_of_a_case_are_in_the_stage_too() -> None:
    sampler = CurriculumSampler(dataset(repeats=2), STAGES)
    assert set(numbers(sampler, 1)) == {0, 1, 4, 6, 8, 9, 12, 14}
    assert len(sampler) == 16


@pytest.mark.parametrize(
    ("ratings", "stages", "error", "message"),
    [
        (RATINGS, [{"epochs": 0, "distance": 1}], ConfigError, "A stage of a curriculum is"),
        (RATINGS, [{"epochs": 1}], ConfigError, "A stage of a curriculum is"),
        ([[5], [4]], [{"epochs": 1, "distance": 1}], DataError, "not on both sides of it"),
    ],
)
def test_impossible_stages_are_refused(
    ratings: list[list[int]], stages: list[dict[str, Any]], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        CurriculumSampler(dataset(ratings), stages)


def test_missing_ratings_are_named() -> None:
    data = SeededDataset([{"case": "a", "malignancy": [5]}, {"case": "b"}])
    with pytest.raises(DataError, match=r"1 of 2 training cases \(the first is b\).*set `curriculum` to \[\]"):
        CurriculumSampler(data, STAGES)


def rated_bars(count: int, doubt: float, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy images with a bar, level or upright; images, readers' ratings and what is true.

    Half of the cases are plain and rated 1 or 5. The bars of the others are half as bright, and their ratings, 2 and 4,
    are on the wrong side in the share ``doubt``.
    """
    upright = torch.rand(count, generator=generator) < 0.5
    plain = torch.rand(count, generator=generator) < 0.5
    image = 0.4 * torch.randn(count, 1, 16, 16, generator=generator)
    for one, stands, bright in zip(image[:, 0], upright.tolist(), plain.tolist(), strict=True):
        i, j = torch.randint(2, 11, (2,), generator=generator).tolist()
        one[i : i + (4 if stands else 1), j : j + (1 if stands else 4)] += 1.0 if bright else 0.5
    wrong = (torch.rand(count, generator=generator) < doubt) & ~plain
    distance = torch.where(plain, 2, 1)
    return image, torch.where(upright ^ wrong, 3 + distance, 3 - distance), upright.long()


def accuracy(stages: list[dict[str, Any]], seed: int, rate: float) -> float:
    """Of a small network on unseen cases, by what is true of them, after twenty epochs of equally many steps."""
    generator = torch.Generator().manual_seed(seed)
    (images, rating, _), (unseen, _, truth) = (rated_bars(n, d, generator) for n, d in ((64, 0.4), (400, 0.0)))
    data = SeededDataset([{"malignancy": value} for value in rating.tolist()])
    sampler, label = CurriculumSampler(data, stages, seed=seed), (rating > 3).long()
    torch.manual_seed(seed)
    layers = [nn.Conv2d(1, 16, 5), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten()]
    network = nn.Sequential(*layers, nn.Linear(16, 2))
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 80)
    for epoch in range(1, 21):
        for part in np.array_split(numbers(sampler, epoch), 4):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[part]), label[part]).backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        return float((network(unseen).argmax(1) == truth).float().mean())


def best(stages: list[dict[str, Any]], seed: int) -> float:
    """The better of two learning rates, for each arm of its own."""
    return max(accuracy(stages, seed, rate) for rate in (0.003, 0.01))


SURE_FIRST = [{"epochs": 12, "distance": 2.0}]


def test_a_curriculum_helps_where_the_undecided_ratings_are_often_wrong() -> None:
    assert best(SURE_FIRST, 3) - best([], 3) > 0.02


@pytest.mark.slow
def test_the_curriculum_decides_over_ten_seeds() -> None:
    gains = np.array([best(SURE_FIRST, seed) - best([], seed) for seed in range(10)])
    print(f"accuracy {gains.mean():+.3f} with the curriculum, seeds {gains.round(3).tolist()}")
    assert gains.mean() - 2.262 * gains.std(ddof=1) / np.sqrt(10) > 0
