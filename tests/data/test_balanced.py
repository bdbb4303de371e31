from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import RandGaussianNoised

from medresnet3d.data import SeededDataset, data_loader
from medresnet3d.data.balanced import BalancedSampler
from medresnet3d.errors import ConfigError, DataError

LABELS = ["nevus"] * 60 + ["melanoma"] * 15 + ["vascular"] * 5


def dataset(labels: list[Any] = LABELS, **options: Any) -> SeededDataset:
    return SeededDataset([{"number": n, "label": label} for n, label in enumerate(labels)], **options)


def drawn(sampler: BalancedSampler, epoch: int = 1) -> list[int]:
    sampler.set_epoch(epoch)
    return [index[0] if isinstance(index, tuple) else index for index in sampler]


@pytest.mark.parametrize(
    ("balance", "shares"),
    [(0.0, (60, 15, 5)), (1.0, (27, 27, 26)), (0.5, np.array([60, 15, 5]) ** 0.5 / sum(np.sqrt([60, 15, 5])) * 80)],
)
def test_classes_are_drawn_as_often_as_asked_for(balance: float, shares: Any) -> None:
    sampler = BalancedSampler(dataset(), balance)
    for epoch in (1, 2):
        counts = Counter(LABELS[index] for index in drawn(sampler, epoch))
        assert len(sampler) == sum(counts.values()) == 80
        assert [counts[name] for name in ("nevus", "melanoma", "vascular")] == pytest.approx(list(shares), abs=1)


def test_cases_of_a_class_are_drawn_evenly() -> None:
    counts = Counter(drawn(BalancedSampler(dataset(), 1.0)))
    rare = [counts[number] for number in range(75, 80)]
    assert min(rare) >= 5
    assert max(rare) - min(rare) <= 1
    assert max(counts[number] for number in range(60)) == 1


def test_a_case_that_comes_again_is_varied_anew() -> None:
    items = [{"image": torch.zeros(1, 2, 2), "label": int(n == 0)} for n in range(20)]
    data = SeededDataset(items, RandGaussianNoised("image", prob=1.0))
    loader = data_loader(data, 5, sampler=BalancedSampler(data, 1.0, seed=1))
    loader.set_epoch(1)
    images = [image for batch in loader for image, label in zip(batch["image"], batch["label"], strict=True) if label]
    assert len(images) == 10
    assert len({tuple(image.flatten().tolist()) for image in images}) == 10


def test_order_depends_on_seed_and_epoch_alone() -> None:
    one, other = (BalancedSampler(dataset(), seed=3) for _ in range(2))
    assert drawn(one, 1) == drawn(other, 1) != drawn(one, 2)
    other.set_epoch(1, start=5)
    one.set_epoch(1)
    assert list(other) == list(one)[5:]
    assert drawn(BalancedSampler(dataset(), seed=4)) != drawn(one)


def test_what_cannot_be_balanced_is_refused() -> None:
    with pytest.raises(ConfigError, match="Classes are balanced by 0"):
        BalancedSampler(dataset(), 1.5)
    with pytest.raises(DataError, match="no `label`"):
        BalancedSampler(dataset(["a", None]))
