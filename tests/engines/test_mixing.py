"""Mixing of images: shares, boxes, the loss of both labels, and a training with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from medresnet3d.engines.mixing import KINDS, MixedLoss, Mixing
from medresnet3d.errors import ConfigError
from medresnet3d.losses import build_loss
from medresnet3d.losses.deep_supervision import FadingDeepSupervisionLoss
from tests.engines.toy import make_trainer


def levels(count: int, *shape: int) -> torch.Tensor:
    """Images (count, 1, ...) each of one value, its number."""
    return torch.arange(count).float().reshape(-1, 1, *[1] * len(shape)).expand(count, 1, *shape).clone()


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("shape", [(8, 6), (4, 5, 6)], ids=["2D", "3D"])
def test_the_share_says_how_much_of_each_image_there_is(name: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    mixing = Mixing(name, prob=1.0)
    images = levels(5, *shape)
    shares = []
    for _ in range(20):
        mixed = mixing.mix(images)
        own, other = images, images[mixing.partner]
        expected = mixing.share * own + (1 - mixing.share) * other
        torch.testing.assert_close(mixed.flatten(1).mean(1), expected.flatten(1).mean(1))
        if name == "cutmix":
            assert ((mixed == own) | (mixed == other)).all()
        if name == "mixup":
            torch.testing.assert_close(mixed, expected)
        assert 0 <= mixing.share <= 1
        shares.append(mixing.share)
    assert torch.equal(images, levels(5, *shape)), "the batch itself stays"
    assert (len(set(shares)) == 1) == (name == "none")


def test_how_often() -> None:
    torch.manual_seed(0)
    mixing = Mixing("mixup", prob=0.25)
    mixed = 0
    for _ in range(400):
        mixing.mix(levels(4, 2, 2))
        mixed += mixing.share < 1
    assert 70 < mixed < 130


def test_the_loss_is_that_of_both_labels_by_their_shares() -> None:
    mixing = Mixing("mixup", prob=1.0)
    torch.manual_seed(1)
    mixing.mix(levels(6, 2, 2))
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    both = mixing.share * nn.functional.one_hot(labels, 3) + (1 - mixing.share) * nn.functional.one_hot(
        labels[mixing.partner], 3
    )
    expected = nn.functional.cross_entropy(logits, both)
    torch.testing.assert_close(MixedLoss(nn.functional.cross_entropy, mixing)(logits, labels), expected)


def test_a_loss_that_counts_its_steps_counts_one() -> None:
    fading = FadingDeepSupervisionLoss(nn.CrossEntropyLoss(), steps=10)
    mixing = Mixing("mixup", prob=1.0)
    mixing.mix(levels(4, 2, 2))
    loss = MixedLoss(fading, mixing)
    loss([torch.randn(4, 2), torch.randn(4, 2)], torch.tensor([0, 1, 0, 1]))
    assert int(fading.step) == 1 and fading.training


def test_a_training_with_it_repeats(tmp_path: Path) -> None:
    def weights(folder: str, name: str) -> torch.Tensor:
        trainer = make_trainer(tmp_path / folder, epochs=2, trainer_options={"mixing": Mixing(name, prob=1.0)})
        trainer.run()
        return torch.cat([each.detach().flatten() for each in trainer.network.parameters()])

    first = weights("first", "both")
    assert torch.equal(first, weights("second", "both"))
    assert not torch.equal(first, weights("third", "none"))


def test_what_cannot_be_mixed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="CosFaceLoss works on features"):
        make_trainer(tmp_path, loss=build_loss("cosface"), trainer_options={"mixing": Mixing("mixup")})
    with pytest.raises(ConfigError, match="'blend'"):
        Mixing("blend")
    with pytest.raises(ConfigError, match="alpha is above 0"):
        Mixing("mixup", alpha=0)
