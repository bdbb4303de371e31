from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medresnet3d.errors import ConfigError
from medresnet3d.networks.classifier import build_classifier
from medresnet3d.networks.slice_vote import VOTES, SliceVote
from tests.networks.base import NetworkSuite


class TestSliceVote(NetworkSuite):
    dims = (2,)
    in_channels = 5

    def build(self, spatial_dims: int = 2, vote: str = "mean", **options: Any) -> nn.Module:
        return SliceVote(build_classifier("resnet10", spatial_dims, width=0.0625, **options), vote)


class _Given(nn.Module):
    """Gives as logits what the first pixels of each slice hold."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0, 0]

    def forward_features(self, x: Tensor) -> Tensor:
        return self.forward(x)


LOGITS = torch.tensor([[2.0, 0.0, -1.0], [2.0, 1.5, 0.0], [-3.0, 4.0, 0.5]])
STACK = LOGITS[None, :, None, :]


def votes(vote: str) -> Tensor:
    return SliceVote(_Given(), vote).eval()(STACK)[0].softmax(0)


def test_each_rule_is_what_it_says() -> None:
    prob = LOGITS.softmax(1)
    torch.testing.assert_close(votes("mean"), prob.mean(0))
    geometric = prob.log().mean(0).exp()
    torch.testing.assert_close(votes("product"), geometric / geometric.sum())
    torch.testing.assert_close(votes("majority"), torch.tensor([2 / 3, 1 / 3, 0.0]), atol=1e-4, rtol=0)


def test_the_mean_probability_breaks_a_tie_of_the_majority() -> None:
    tied = torch.tensor([[1.0, 0.0], [0.0, 3.0]])[None, :, None, :]
    answer = SliceVote(_Given(), "majority").eval()(tied)[0]
    assert answer.argmax() == 1


@pytest.mark.parametrize("vote", VOTES)
def test_a_stack_of_one_slice_is_that_slice(vote: str) -> None:
    voted = SliceVote(_Given(), vote)(STACK[:, :1])  # in training
    torch.testing.assert_close(voted.softmax(1), LOGITS[:1].softmax(1))


def test_slices_are_exchangeable_and_features_are_their_mean() -> None:
    network = SliceVote(_Given(), "mean").eval()
    torch.testing.assert_close(network(STACK), network(STACK[:, [2, 0, 1]]))
    torch.testing.assert_close(network.forward_features(STACK), LOGITS.mean(0)[None])


def test_an_unknown_vote_lists_the_choices() -> None:
    with pytest.raises(ConfigError, match="choose one of mean, product, majority"):
        SliceVote(_Given(), "loudest")
