"""Ensembles: several classifiers whose probabilities are fused by a rule, in one module.

Paper: B. Harangi. Skin lesion classification with ensembles of deep convolutional neural networks. Journal of
Biomedical Informatics 86 (2018) 25-32: sum, product, maximum, majority vote and a sum weighted by the members'
accuracies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.names import require_name
from medresnet3d.networks.classifier import build_classifier
from medresnet3d.networks.heads.fitted import FittedModule

RULES = ("sum", "product", "max", "majority", "acc_weighted_sum")


def fuse(log_probabilities: Tensor, rule: str = "acc_weighted_sum", weights: Tensor | None = None) -> Tensor:
    r"""Fuse the opinions of M members on B cases; the result is normalised, so that it sums to one.

    ==================== ========================================================================
    rule                 score of class c
    ==================== ========================================================================
    ``sum``              :math:`\sum_m p_m(c)`
    ``product``          :math:`\prod_m p_m(c)`
    ``max``              :math:`\max_m p_m(c)`
    ``majority``         votes for c, plus :math:`\frac{1}{M}\sum_m p_m(c)`, which decides ties only
    ``acc_weighted_sum`` :math:`\sum_m a_m\, p_m(c)` with the members' accuracies :math:`a_m`
    ==================== ========================================================================

    The sum of probabilities added to the votes never reaches one vote, so it changes no majority. A member that finds
    several classes equally probable votes for the first of them.

    Args:
        log_probabilities: (M, B, K), each member's log-softmax.
        rule: one of :data:`RULES`.
        weights: (M,), for ``acc_weighted_sum``; other rules take no notice.

    Returns:
        logarithms of the fused probabilities, (B, K), in fp32 at least.
    """
    logs = log_probabilities if log_probabilities.dtype == torch.float64 else log_probabilities.float()
    if rule == "product":
        return F.log_softmax(logs.sum(0), dim=1)
    probabilities = logs.exp()
    if rule == "max":
        score = probabilities.amax(0)
    elif rule == "majority":
        votes = F.one_hot(probabilities.argmax(2), probabilities.shape[2]).to(logs.dtype)
        score = votes.sum(0) + probabilities.mean(0)
    elif rule == "acc_weighted_sum" and weights is not None:
        score = (weights.to(logs.dtype)[:, None, None] * probabilities).sum(0)
    else:
        score = probabilities.sum(0)
    score = score.clamp_min(1e-30)
    return (score / score.sum(1, keepdim=True)).log()


def member_accuracies(log_probabilities: Tensor, labels: Tensor) -> Tensor:
    """The share of cases that each member has right: the weights of ``acc_weighted_sum``.

    They must come from cases that no member was trained on and that the ensemble is not measured on.

    Args:
        log_probabilities: (M, N, K).
        labels: class numbers, (N,).

    Returns:
        (M,), float32.

    Raises:
        DataError: if there is no case, or no member has any right (weights of zero fuse nothing).
    """
    if labels.numel() == 0:
        raise DataError("There is no validation case to weigh the members of the ensemble by; list some.")
    accuracies = (log_probabilities.argmax(2) == labels[None]).float().mean(1)
    if float(accuracies.max()) == 0:
        raise DataError("No member of the ensemble has any validation case right; train the members first.")
    return accuracies


class Ensemble(FittedModule):
    """Several classifiers and a rule that fuses what they say; see :func:`fuse`.

    The weights are ones until :class:`medresnet3d.engines.fusion_fit.FitFusionWeights` sets them.

    Args:
        members: classifiers, each from (B, C, ...) to (B, K) logits.
        rule: one of :data:`RULES`.
        joint: whether what is fused teaches the members too; otherwise each learns from its own answers alone, as in
            the paper, and as if it were trained by itself.
        picture_channels: channels of one picture, if in training each member may get a picture of its own: a batch with
            as many pictures as members packed as channels is shared out among them. 0: all see the same.

    Shapes: (B, C, ...) to (B, K) log-probabilities. In training mode a list: those, then the logits of each member, so
    that a loss for deep supervision trains all members in one run.

    Raises:
        ConfigError: for an unknown rule or an ensemble without members.
    """

    if TYPE_CHECKING:  # TorchScript cannot read annotations that are strings
        weights: Tensor

    def __init__(
        self,
        members: Sequence[nn.Module],
        rule: str = "acc_weighted_sum",
        joint: bool = True,
        picture_channels: int = 0,
    ) -> None:
        super().__init__()
        self.joint, self.picture_channels = joint, picture_channels
        self.rule = require_name("Fusion rule", rule, RULES)
        if not members:
            raise ConfigError("An ensemble needs at least one member; list architectures.")
        self.members = nn.ModuleList(members)
        self.register_buffer("weights", torch.ones(len(members)))

    def opinions(self, x: Tensor) -> Tensor:
        """Log-softmax of each member, (M, B, K), in fp32 at least."""
        logits = torch.stack([_full(member(x)) for member in self.members])
        return F.log_softmax(logits, dim=2)

    def forward(self, x: Tensor) -> Tensor:
        """Fused log-probabilities, (B, K); in training mode a list, see the class."""
        if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript skips a branch for this condition alone
            if self.training:
                return self.training_outputs(x)  # type: ignore[return-value]
        return fuse(self.opinions(x), self.rule, self.weights)

    @torch.jit.unused
    def training_outputs(self, x: Tensor) -> list[Tensor]:
        """Fused log-probabilities and the logits of each member."""
        logits = [member(picture) for member, picture in zip(self.members, self._pictures(x), strict=True)]
        opinions = torch.stack([F.log_softmax(_full(each), dim=1) for each in logits])
        return [fuse(opinions if self.joint else opinions.detach(), self.rule, self.weights), *logits]

    @torch.jit.unused
    def _pictures(self, x: Tensor) -> list[Tensor]:
        """What each member sees of a batch."""
        count = len(self.members)
        if count > 1 and self.picture_channels and x.shape[1] == count * self.picture_channels:
            return list(x.chunk(count, dim=1))
        return [x] * count


def _full(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def build_ensemble(
    archs: Sequence[str | Mapping[str, Any]],
    spatial_dims: int = 2,
    in_channels: int = 3,
    num_classes: int = 2,
    size: str = "paper",
    rule: str = "acc_weighted_sum",
    joint: bool = True,
    **options: Any,
) -> Ensemble:
    """Build an ensemble of :func:`medresnet3d.networks.classifier.build_classifier` networks.

    Args:
        archs: architecture of each member, or options of its own (``{"arch": "vgg11_bn", "width": 0.125}``), which
            come before ``size`` and ``options``; the same name twice gives two members with their own start.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: number of classes.
        size: ``"paper"`` or ``"slim"``.
        rule: how the members are fused, one of :data:`RULES`.
        joint: see :class:`Ensemble`.
        **options: further options of each member.

    Raises:
        ConfigError: for an unknown architecture, size or rule.
    """
    common = {"spatial_dims": spatial_dims, "in_channels": in_channels, "num_classes": num_classes, "size": size}
    own = [{"arch": arch} if isinstance(arch, str) else dict(arch) for arch in archs]
    members = [build_classifier(**{**common, **options, **each}) for each in own]
    return Ensemble(members, rule, joint)
