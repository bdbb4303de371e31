from __future__ import annotations

import pytest
import torch

from medresnet3d.errors import DataError
from medresnet3d.losses.class_weights import ClassWeightedLoss, class_numbers, to_full


def test_class_numbers_in_all_forms() -> None:
    output = torch.zeros(2, 3, 4)
    flat = torch.tensor([[0, 1, 2, 0], [1, 1, 2, 2]])
    for target in (flat, flat[:, None], flat[:, None].float(), flat.to(torch.uint8)):
        numbers = class_numbers(target, output)
        assert numbers.dtype == torch.int64 and torch.equal(numbers, flat)


def test_labels_of_another_shape_are_named() -> None:
    with pytest.raises(DataError, match=r"target has the shape \(2, 5\), but .* \(2, 3, 4\) have the shape \(2, 4\)"):
        class_numbers(torch.zeros(2, 5), torch.zeros(2, 3, 4))


def test_only_short_number_formats_are_widened() -> None:
    formats = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
    assert [to_full(torch.ones(1, dtype=dtype)).dtype for dtype in formats] == [torch.float32] * 3 + [torch.float64]


def test_weights_are_of_the_configuration_and_not_of_the_state() -> None:
    assert not ClassWeightedLoss([1, 2]).state_dict()
