from __future__ import annotations

import pytest
import torch
from monai.losses import DeepSupervisionLoss, DiceCELoss
from torch import nn

from medresnet3d.losses.cosface import CosFaceLoss
from medresnet3d.losses.deep_supervision import FadingDeepSupervisionLoss


def outputs(count: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 4, 5, 5, generator=generator) for _ in range(count)]


TARGET = torch.randint(4, (2, 5, 5), generator=torch.Generator().manual_seed(1))


def test_weight_fades_geometrically_from_one_to_a_thousandth_and_stays() -> None:
    loss = FadingDeepSupervisionLoss(nn.CrossEntropyLoss(), steps=4)
    weights = []
    for _ in range(6):
        weights.append(loss.weight)
        loss(outputs(), TARGET)
    assert weights == pytest.approx([1, 10**-0.75, 10**-1.5, 10**-2.25, 1e-3, 1e-3])


def test_first_step_agrees_with_monai_at_equal_weights() -> None:
    plain, target = DiceCELoss(softmax=True, to_onehot_y=True), TARGET[:, None]
    ours = FadingDeepSupervisionLoss(plain, start=0.5, end=0.5)(outputs(), target)
    theirs = DeepSupervisionLoss(plain, weights=[1.0, 0.5, 0.5])(outputs(), target)
    assert torch.allclose(ours, theirs)


def test_without_weight_only_the_main_output_counts() -> None:
    loss = FadingDeepSupervisionLoss(nn.CrossEntropyLoss(), start=0.0)
    assert torch.equal(loss(outputs(), TARGET), nn.CrossEntropyLoss()(outputs()[0], TARGET))
    assert loss.weight == 0.0


def test_a_single_output_is_the_plain_loss_and_no_step() -> None:
    loss = FadingDeepSupervisionLoss(nn.CrossEntropyLoss())
    assert torch.equal(loss(outputs()[0], TARGET), nn.CrossEntropyLoss()(outputs()[0], TARGET))
    assert int(loss.step) == 0


def test_evaluation_does_not_count() -> None:
    loss = FadingDeepSupervisionLoss(nn.CrossEntropyLoss()).eval()
    loss(outputs(), TARGET)
    assert int(loss.step) == 0


def test_saved_state_goes_on_where_it_stopped() -> None:
    loss = FadingDeepSupervisionLoss(nn.CrossEntropyLoss(), steps=10)
    for _ in range(3):
        loss(outputs(), TARGET)
    other = FadingDeepSupervisionLoss(nn.CrossEntropyLoss(), steps=10)
    other.load_state_dict(loss.state_dict())
    assert other.weight == loss.weight
    assert torch.equal(other(outputs(), TARGET), loss(outputs(), TARGET))


@pytest.mark.parametrize("options", [{"steps": 0}, {"start": -1.0}, {"end": -0.1}])
def test_impossible_settings_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        FadingDeepSupervisionLoss(nn.CrossEntropyLoss(), **options)  # type: ignore[arg-type]


def test_a_loss_on_features_is_refused() -> None:
    with pytest.raises(ValueError, match="CosFaceLoss works on the features of one last layer"):
        FadingDeepSupervisionLoss(CosFaceLoss())
