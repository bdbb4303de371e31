from __future__ import annotations

import numpy as np
import pytest

from medresnet3d.reports import classification_card, failed_card, regression_card, segmentation_card
from medresnet3d.reports.cards import structure_volumes
from tests.reports.samples import AFFINE, ball, labels

VOXEL_ML = 0.8 * 1.5 * 3.0 / 1000


def test_volumes_are_in_millilitres() -> None:
    found = structure_volumes(labels(), affine=AFFINE, labels=["background", "rim", "core"])
    assert found == {
        "rim": pytest.approx((labels() == 1).sum() * VOXEL_ML),
        "core": pytest.approx((labels() == 2).sum() * VOXEL_ML),
    }
    assert structure_volumes(labels() * 0, affine=AFFINE) == {}


def test_segmentation_card_shows_truth_and_prediction() -> None:
    card = segmentation_card("c", ball(), labels(), affine=AFFINE, truth=labels(), rows={"Dice": 1.0})
    assert card.view is not None and list(card.view.layers) == ["prediction", "truth"]
    assert list(card.rows) == ["label 1, ml", "label 2, ml", "Dice"]


@pytest.mark.parametrize(("truth", "tone", "badge"), [(None, "", "b"), ("b", "good", "b"), ("a", "bad", "b, truth: a")])
def test_classification_card_says_whether_the_answer_is_right(truth: str | None, tone: str, badge: str) -> None:
    card = classification_card("c", ball(), [0.3, 0.7], ["a", "b"], truth=truth, heat=np.abs(ball()))
    assert (card.tone, card.badge) == (tone, badge)
    assert card.bars is not None and card.bars.truth == truth
    assert card.view is not None and list(card.view.layers) == ["attention"]


def test_a_card_without_image() -> None:
    assert classification_card("c", None, [0.3, 0.7], ["a", "b"]).view is None


def test_regression_card_shows_the_difference() -> None:
    card = regression_card("c", None, 61.234, unit="years", truth=58.0)
    assert card.rows == {"estimate": "61.2 years", "truth": "58.0 years", "difference": "+3.2 years"}


def test_failed_card_says_why() -> None:
    card = failed_card("c", "c.nii.gz is truncated.")
    assert (card.error, card.tone) == ("c.nii.gz is truncated.", "bad")
