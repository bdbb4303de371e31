from __future__ import annotations

import re

import pytest
import torch
from monai.losses import DiceCELoss

from medresnet3d.errors import ConfigError
from medresnet3d.losses import build_loss
from medresnet3d.losses.deep_supervision import FadingDeepSupervisionLoss
from medresnet3d.losses.factory import FEATURE_LOSSES, LOGIT_LOSSES, LOSSES, REGION_LOSSES
from medresnet3d.losses.margin import MarginLoss

SURVEY = (
    "cross_entropy mean_square euclidean contrastive hinge softmax l_softmax a_softmax l2_softmax cosface center focal"
)


def dense() -> tuple[torch.Tensor, torch.Tensor]:
    output = torch.randn(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    return output, torch.randint(3, (2, 1, 4, 4, 4), generator=torch.Generator().manual_seed(1)).float()


def test_the_survey_s_twelve_losses_are_there() -> None:
    assert set(SURVEY.split()) <= LOSSES.keys()


@pytest.mark.parametrize("name", LOGIT_LOSSES)
def test_losses_of_logits_classify_and_segment(name: str) -> None:
    loss = build_loss(name, class_weights=[1, 2, 3])
    for output, target in (dense(), (torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))):
        value = loss(output.requires_grad_(), target)
        value.backward()
        assert value.ndim == 0 and torch.isfinite(value) and output.grad.any()


@pytest.mark.parametrize("name", REGION_LOSSES)
def test_region_losses_segment(name: str) -> None:
    loss = build_loss(name)
    output, target = dense()
    value = loss(output.requires_grad_(), target)
    value.backward()
    assert value.ndim == 0 and output.grad.any()
    truth = torch.nn.functional.one_hot(target[:, 0].long(), 3).movedim(-1, 1).float()
    perfect = loss(200 * truth - 100, target)
    assert float(perfect) < 0.01 < float(value)


@pytest.mark.parametrize("name", FEATURE_LOSSES)
def test_losses_of_features(name: str) -> None:
    assert isinstance(build_loss(name, class_weights=[1, 2]), MarginLoss)


def test_options_reach_monai() -> None:
    theirs = DiceCELoss(softmax=True, to_onehot_y=True, include_background=False, batch=True)
    ours = build_loss("dice_ce", include_background=False, batch=True)
    assert torch.equal(ours(*dense()), theirs(*dense()))
    weighted = DiceCELoss(softmax=True, to_onehot_y=True, weight=torch.tensor([1.0, 2.0, 3.0]))
    assert torch.equal(build_loss("dice_ce", class_weights=[1, 2, 3])(*dense()), weighted(*dense()))
    single = torch.randn(2, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(build_loss("dice", sigmoid=True)(single, (single > 0).float()))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "cosfase",
            {},
            "Loss 'cosfase' is unknown; choose one of cross_entropy, .*hard_negatives. Did you mean 'cosface'?",
        ),
        (
            "cosface",
            {"margine": 1},
            "Loss 'cosface': option 'margine' is unknown; choose one of scale, margin, class",
        ),
        ("focal", {"alfa": 1}, "Did you mean 'alpha'?"),
        ("tversky", {"class_weights": [1, 2]}, "'tversky' has no class weights"),
        ("center", {"auxiliary_steps": 5}, "cannot weigh auxiliary outputs"),
    ],
)
def test_errors_list_the_choices_and_the_nearest(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", re.escape("?"))):
        build_loss(name, **options)  # type: ignore[arg-type]


def test_auxiliary_outputs() -> None:
    loss = build_loss("dice_ce", auxiliary_steps=10, auxiliary_start=0.5, auxiliary_end=0.1)
    assert isinstance(loss, FadingDeepSupervisionLoss) and loss.weight == 0.5
    output, target = dense()
    plain = build_loss("dice_ce")(output, target)
    torch.testing.assert_close(loss([output, output], target), 1.5 * plain)


def test_fixed_weights_of_outputs() -> None:
    output, target = dense()
    plain = build_loss("dice_ce")(output, target)
    loss = build_loss("dice_ce", output_weights=[1.0, 0.5, 0.25])
    torch.testing.assert_close(loss([output, output, output], target), 1.75 * plain)
    torch.testing.assert_close(loss(output, target), plain)
    with pytest.raises(ConfigError, match="fade or are fixed, not both"):
        build_loss("dice_ce", auxiliary_steps=5, output_weights=[1.0])
