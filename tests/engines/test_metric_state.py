from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from ignite.metrics import Accuracy
from monai.handlers import ROCAUC, MeanAbsoluteError, MeanDice

from medresnet3d.engines.metric_state import load_metric_states, metric_states


def batch(seed: int, kind: str) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(seed)
    if kind == "dice":
        masks = [(torch.rand(2, 4, 4, 4, generator=generator) > 0.5).float() for _ in range(4)]
        return masks[:2], masks[2:]
    label = torch.nn.functional.one_hot(torch.tensor([0, 1, 1]), 2)
    return torch.rand(3, 2, generator=generator), label if kind != "number" else label.float()


@pytest.mark.parametrize(
    ("metric", "kind"),
    [
        (lambda: MeanDice(save_details=False), "dice"),
        (ROCAUC, "class"),
        (lambda: MeanAbsoluteError(save_details=False), "number"),
        (lambda: Accuracy(is_multilabel=True, output_transform=lambda o: (o[0].round(), o[1])), "class"),
    ],
)
def test_a_metric_goes_on_where_it_was(metric: Any, kind: str) -> None:
    whole, first, second = metric(), metric(), metric()
    for seed in (1, 2):
        whole.update(whole._output_transform(batch(seed, kind)))
        first.update(first._output_transform(batch(seed, kind)))
    buffer = io.BytesIO()
    torch.save(metric_states({"m": first}), buffer)
    buffer.seek(0)
    second.update(second._output_transform(batch(9, kind)))  # forgotten
    load_metric_states({"m": second}, torch.load(buffer, weights_only=True))
    for each in (whole, second):
        each.update(each._output_transform(batch(3, kind)))
    assert second.compute() == pytest.approx(whole.compute(), abs=0)


def test_a_metric_without_updates_and_one_that_is_gone() -> None:
    state = metric_states({"dice": MeanDice(save_details=False), "gone": Accuracy()})
    metric = MeanDice(save_details=False)
    load_metric_states({"dice": metric}, state)
    metric.update(batch(1, "dice"))
    assert 0 < metric.compute() < 1
