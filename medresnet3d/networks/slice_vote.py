"""A 2D classifier that looks at every slice of a stack, and one answer of all of them."""

from __future__ import annotations

import math

import torch
from torch import nn

from medresnet3d.names import require_name

VOTES = ("mean", "product", "majority")


class SliceVote(nn.Module):
    r"""Slices packed as channels go through one 2D network each; their votes make the logits of the stack.

    With :math:`p_s` the softmax of slice s out of S, the logits are :math:`\log q` where q is

    =========  ===========================================================================
    mean       :math:`\frac{1}{S} \sum_s p_s`, the mean probability
    product    :math:`\propto (\prod_s p_s)^{1/S}`, the geometric mean
    majority   the share of slices that each class wins; the mean probability breaks ties
    =========  ===========================================================================

    A stack of one slice has the logits of that slice, up to a constant, under each rule but the majority. So training
    on single slices, each with the label of its subject, needs nothing else.

    Args:
        network: a classifier of single slices, (B, 1, h, w) to (B, K), with ``forward_features`` and ``classifier``.
        vote: ``"mean"``, ``"product"`` or ``"majority"`` (eval mode alone; it has no gradient, and training takes the
            mean).

    Shapes: (B, S, h, w) to (B, K), for any S.

    Raises:
        ConfigError: if there is no such vote.
    """

    __jit_unused_properties__ = ("classifier",)

    def __init__(self, network: nn.Module, vote: str = "mean") -> None:
        super().__init__()
        self.network = network
        self.vote = require_name("Vote of slices", vote, VOTES)

    @property
    def classifier(self) -> nn.Module:
        """The last layer, of a single slice."""
        layer: nn.Module = self.network.classifier  # type: ignore[assignment]
        return layer

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Features (B, F), the mean over the slices."""
        features: torch.Tensor = self.network.forward_features(x.flatten(0, 1).unsqueeze(1))  # type: ignore[operator]
        return features.unflatten(0, x.shape[:2]).mean(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of the stacks, (B, K)."""
        logits = self.network(x.flatten(0, 1).unsqueeze(1))
        log_prob = logits.float().log_softmax(1).reshape(x.shape[0], x.shape[1], -1)
        if self.vote == "product":
            return log_prob.mean(1)
        mean = log_prob.logsumexp(1) - math.log(x.shape[1])
        if self.vote == "mean" or self.training:
            return mean
        winners = torch.zeros_like(log_prob).scatter_(2, log_prob.argmax(2, keepdim=True), 1.0)
        # the mean probability, below a hundredth of a vote of a thousand slices, decides between equal shares
        return torch.log(winners.mean(1) + 1e-5 * mean.exp())
