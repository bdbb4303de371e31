from __future__ import annotations

import pytest
import torch
from monai.losses import DiceCELoss
from torch import nn

from medresnet3d.losses.multitask import LabelsAndMasks, MultitaskLoss, OutputLoss

CE = nn.CrossEntropyLoss()


def outputs(classes: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        *(torch.randn(2, 2, generator=generator) for _ in range(3)),
        torch.randn(4, classes, 6, 5, generator=generator),
    ]


def target(missing: int = 0) -> dict[str, torch.Tensor]:
    mask = (torch.rand(2, 2, 6, 5, generator=torch.Generator().manual_seed(1)) > 0.6).float()
    mask[:missing] = -1.0
    return {"label": torch.tensor([0, 1]), "mask": mask}


def test_an_output_is_chosen_in_training_and_the_only_one_otherwise() -> None:
    given = outputs()
    for number in (0, 2):
        assert OutputLoss(CE, number)(given, target()) == CE(given[number], torch.tensor([0, 1]))
    assert OutputLoss(CE, 2)(given[0], torch.tensor([0, 1])) == CE(given[0], torch.tensor([0, 1]))


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_the_sum_is_that_of_both_tasks(weight: float) -> None:
    given, wanted = outputs(2), target()
    dense = DiceCELoss(softmax=True, to_onehot_y=True, include_background=False, batch=True)
    expected = dense(given[3], wanted["mask"].flatten(0, 1)[:, None]) + weight * CE(given[1], wanted["label"])
    torch.testing.assert_close(MultitaskLoss(CE, weight)(given, wanted), expected)


def test_labels_of_parts_count_as_one_foreground() -> None:
    given, wanted = outputs(3), target()
    parts = [*given[:3], torch.stack([given[3][:, 0], given[3][:, 1:].logsumexp(1)], 1)]
    loss = MultitaskLoss(CE)
    torch.testing.assert_close(loss(given, wanted), loss(parts, wanted))
    wanted["mask"] *= 2
    torch.testing.assert_close(loss(given, wanted), loss(parts, wanted))


def test_whoever_has_no_mask_counts_with_the_class_alone() -> None:
    given, loss = outputs(), MultitaskLoss(CE)
    torch.testing.assert_close(loss(given, target(missing=2)), CE(given[1], torch.tensor([0, 1])))
    some = loss(given, target(missing=1))
    given[3] = given[3].clone()
    given[3][:2] += torch.randn(2, 3, 6, 5)
    torch.testing.assert_close(loss(given, target(missing=1)), some)


def test_a_batch_is_taken_apart() -> None:
    image = torch.randn(2, 2, 6, 5)
    taken, both = LabelsAndMasks()({"image": image, **target()}, "cpu", non_blocking=True, extra=1)
    assert torch.equal(taken, image)
    assert torch.equal(both["label"], target()["label"]) and torch.equal(both["mask"], target()["mask"])
