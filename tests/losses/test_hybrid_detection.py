from __future__ import annotations

import pytest
import torch
from monai.losses import DiceLoss
from torch.nn import functional

from medresnet3d.errors import ConfigError
from medresnet3d.losses import build_loss
from medresnet3d.losses.hybrid_detection import HybridDetectionLoss


def sample() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(2, 2, 5, 6, 7, generator=generator)
    heat = torch.rand(2, 1, 5, 6, 7, generator=generator) ** 4
    return output, torch.cat([heat, (heat > 0.4).float()], 1)


def test_its_parts_are_those_of_torch_and_monai() -> None:
    output, target = sample()
    bce = functional.binary_cross_entropy_with_logits(output[:, :1], target[:, :1])
    dice = DiceLoss(sigmoid=True, batch=True)(output[:, 1:], target[:, 1:])
    torch.testing.assert_close(HybridDetectionLoss(["bce"])(output, target), bce)
    torch.testing.assert_close(HybridDetectionLoss(["dice"])(output, target), dice)
    torch.testing.assert_close(HybridDetectionLoss(["dice", "bce"], [0.5, 2.0])(output, target), 0.5 * dice + 2 * bce)


def test_focal_without_focus_is_the_sum_of_cross_entropy_for_each_centre() -> None:
    output, target = sample()
    total = functional.binary_cross_entropy_with_logits(output[:, :1], target[:, :1], reduction="sum")
    expected = total / target[:, :1].sum()
    torch.testing.assert_close(HybridDetectionLoss(["focal"], gamma=0.0)(output, target), expected)


def test_focal_turns_away_from_what_is_told_already() -> None:
    """Far background that is known weighs next to nothing beside an unsure centre."""
    target = torch.zeros(1, 2, 9, 9)
    target[0, 0, 4, 4] = 1
    output = torch.full((1, 2, 9, 9), -4.0)
    output[0, 0, 4, 4] = 0.0
    output.requires_grad_()
    HybridDetectionLoss(["focal"])(output, target).backward()
    assert output.grad is not None
    gradient = output.grad[0, 0].abs()
    assert float(gradient[4, 4]) > 50 * float(gradient.sum() - gradient[4, 4])
    assert not output.grad[0, 1].any(), "a part that is left out does not train its head"


def test_a_perfect_answer_costs_nothing_and_no_centre_is_no_trouble() -> None:
    heat = torch.zeros(1, 1, 8, 8)
    heat[0, 0, 3:5, 3:5] = 1
    target = torch.cat([heat, heat], 1)
    loss = build_loss("hybrid_detection")
    assert float(loss(40 * target - 20, target)) < 1e-3
    empty = loss(torch.zeros(1, 2, 8, 8, requires_grad=True), torch.zeros(1, 2, 8, 8))
    empty.backward()
    assert torch.isfinite(empty)


def test_a_heavier_centre_pulls_harder() -> None:
    output, target = sample()
    light, heavy = (HybridDetectionLoss(["bce"], centre_weight=w)(output, target) for w in (1.0, 10.0))
    assert float(heavy) > float(light)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parts": []}, "bce or focal, and dice"),
        ({"parts": ["bce", "focal"]}, "bce or focal"),
        ({"parts": ["dice", "dice"]}, "dice"),
        ({"parts": ["l1"]}, "l1"),
        ({"weights": [1.0]}, "one for each"),
        ({"weights": [1.0, -1.0]}, "not below 0"),
    ],
)
def test_what_means_nothing_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_loss("hybrid_detection", **options)
