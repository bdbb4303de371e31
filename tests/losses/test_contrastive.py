from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import ContrastiveLoss as TheirContrastiveLoss
from pytorch_metric_learning.reducers import DoNothingReducer

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.losses.contrastive import ContrastiveLoss, contrastive
from medresnet3d.losses.margin import MarginLoss
from tests.losses.base import BATCH, MarginSuite


class TestContrastiveLoss(MarginSuite):
    def build(self, **options: object) -> MarginLoss:
        return ContrastiveLoss(**{"margin": 3.0, **options})  # type: ignore[arg-type]

    def plain(self) -> MarginLoss:
        return ContrastiveLoss(weight=0.0)

    def test_a_class_of_double_weight_counts_as_if_its_samples_were_there_twice(self) -> None:
        """True of the softmax term; pairs have no weights."""
        options = {"class_weights": [1, 2, 1]}
        features, weight, bias = self.inputs()
        both = self.call(self.fresh(**options), self.inputs())
        pairs = self.call(self.fresh(softmax_weight=0.0), self.inputs())
        weights = torch.tensor([1.0, 2.0, 1.0])
        softmax = F.cross_entropy(F.linear(features, weight, bias), self.classes(), weights)
        torch.testing.assert_close(both, pairs + softmax)

    def test_reductions(self) -> None:
        mean = self.call(self.fresh(softmax_weight=0.0), self.inputs())
        total = self.call(self.fresh(softmax_weight=0.0, reduction="sum"), self.inputs())
        torch.testing.assert_close(total, mean * BATCH * (BATCH - 1) / 2)
        with pytest.raises(ConfigError, match="not as many pairs as samples"):
            self.build(reduction="none")

    def test_all_pairs_of_a_batch(self) -> None:
        features, label = self.inputs()[0], self.classes()
        expected = [
            contrastive(features[i : i + 1], features[j : j + 1], label[i : i + 1] != label[j : j + 1], 3.0)
            for i, j in itertools.combinations(range(BATCH), 2)
        ]
        value = self.call(self.fresh(softmax_weight=0.0), self.inputs())
        torch.testing.assert_close(value, torch.cat(expected).mean())

    def test_pairs_that_the_loader_gives(self) -> None:
        features, label = self.inputs()[0], self.classes()
        expected = contrastive(features[::2], features[1::2], label[::2] != label[1::2], 3.0).mean()
        loss = self.fresh(softmax_weight=0.0, pairs="adjacent")
        torch.testing.assert_close(self.call(loss, self.inputs()), expected)
        with pytest.raises(DataError, match="batch of 3 samples is no set of pairs"):
            self.call(loss, self.inputs(batch=3))

    def test_agrees_with_pytorch_metric_learning(self) -> None:
        """Theirs has neither squares nor halves, so its value of each pair is taken."""
        features, label = self.inputs()[0], self.classes()
        distance = LpDistance(normalize_embeddings=False)
        theirs = TheirContrastiveLoss(neg_margin=3.0, distance=distance, reducer=DoNothingReducer())
        pairs = theirs(features, label)
        squares = [pairs[kind]["losses"].square().sum() / 2 for kind in ("pos_loss", "neg_loss")]
        ours = self.call(self.fresh(softmax_weight=0.0, reduction="sum"), self.inputs())
        torch.testing.assert_close(ours, 0.5 * (squares[0] + squares[1]))  # theirs has each pair twice


@pytest.mark.parametrize(
    ("distance", "dissimilar", "value"), [(0.5, False, 0.125), (0.5, True, 0.125), (2.0, True, 0.0), (2.0, False, 2.0)]
)
def test_reference_values(distance: float, dissimilar: bool, value: float) -> None:
    first, second = torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 1.0 + distance]])
    assert float(contrastive(first, second, torch.tensor([dissimilar]))) == pytest.approx(value)


def test_a_batch_of_one_has_no_pairs() -> None:
    loss = ContrastiveLoss(softmax_weight=0.0)
    assert float(loss(torch.ones(1, 2), torch.eye(2), torch.tensor([0]))) == 0.0


def test_unknown_pairs_are_named() -> None:
    with pytest.raises(ConfigError, match="pairs 'some' is unknown; choose one of all, adjacent"):
        ContrastiveLoss(pairs="some")
