"""MuDeRN: a diagnosis in two steps at each magnification, and a tree that says which magnification to trust.

Paper: Z. Gandomkar, P. C. Brennan, C. Mello-Thoms. MuDeRN: Multi-category classification of breast histopathological
image using deep residual networks. Artificial Intelligence in Medicine 88 (2018) 14-24.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medresnet3d.errors import ConfigError
from medresnet3d.names import require_name
from medresnet3d.networks.classifier import build_classifier
from medresnet3d.networks.classifier_base import ClassifierBase
from medresnet3d.networks.heads.fitted import FittedModule
from medresnet3d.networks.heads.trees import MetaDecisionTree

#: Which questions one trunk answers.
SHARES = ("none", "magnification", "all")
DECISIONS = ("tree", "average")
QUESTIONS = 3  # benign or malignant; which benign type; which malignant type


class MuDeRN(FittedModule):
    """Networks for several magnifications of one tissue, each of which asks for the nature first and then for the type.

    An image is classified patch by patch, and the probabilities of its patches are averaged: each cell of ``grid``,
    laid over the last feature map, is a patch. If the image is found benign, the network of benign types says which,
    and the network of malignant types is not asked, and the other way round; the types of the other nature share
    equally what probability that nature has, so that none of them can win.

    A magnification whose channels are all zero is not there. It has no say, and the tree sees it as an opinion that
    finds all types equally probable.

    Args:
        trunks: as many as ``share`` asks for; their last layers are taken off. ``none``: one for each magnification and
            question (12 in the paper), magnification by magnification; ``magnification``: one for each of these;
            ``all``: a single one.
        magnifications: M, images a case.
        types: numbers of benign and of malignant types; the benign classes come first.
        share: which questions one trunk answers.
        grid: patches along the axes of an image.
        decision: ``tree``: that of the magnification which the meta-decision tree picks, once it is fitted; the
            ``average`` of all magnifications that are there until then, and always if so named.
        max_depth: of the tree.

    Shapes: (B, 3 M, i, j) to (B, K) log-probabilities of the types. In training mode a list: the average over
    magnifications, which teaches nothing, then the log-probabilities of each magnification, whose cross-entropy is that
    of the nature plus, for the true nature alone, that of the type.

    Raises:
        ConfigError: for an unknown ``share`` or ``decision``, or another number of trunks.
    """

    if TYPE_CHECKING:  # TorchScript cannot read annotations that are strings
        fitted_tree: Tensor

    fitted_names: ClassVar[str] = r"tree\.|fitted_tree"  # that no training starts from

    def __init__(
        self,
        trunks: list[ClassifierBase],
        magnifications: int = 4,
        types: tuple[int, int] = (4, 4),
        share: str = "magnification",
        grid: tuple[int, int] = (3, 2),
        decision: str = "tree",
        max_depth: int = 3,
    ) -> None:
        super().__init__()
        wanted = number_of_trunks(share, magnifications)
        if len(trunks) != wanted:
            raise ConfigError(
                f"{len(trunks)} trunks for share {share!r} of {magnifications} magnifications; give {wanted}."
            )
        self.decision = require_name("Decision", decision, DECISIONS)
        self.magnifications, self.types, self.grid = magnifications, tuple(types), (int(grid[0]), int(grid[1]))
        features = trunks[0].classifier.in_features
        heads = [trunks[0].make_classifier(features, count) for _ in range(magnifications) for count in (2, *types)]
        self.heads = nn.ModuleList(heads)
        for trunk in trunks:
            trunk.classifier = nn.Identity()  # type: ignore[assignment]
        self.trunks = nn.ModuleList(trunks)
        self.tree = MetaDecisionTree(magnifications, max_depth)
        self.register_buffer("fitted_tree", torch.zeros((), dtype=torch.bool))

    def answers(self, x: Tensor, magnification: int) -> list[Tensor]:
        """What one magnification answers to the three questions, log-probabilities (B, 2), (B, benign), (B, malignant).

        Args:
            x: case (B, 3 M, i, j).
            magnification: 0 to M - 1.
        """
        image = x[:, 3 * magnification : 3 * magnification + 3]
        found: list[Tensor] = []
        features = torch.empty(0)
        for question in range(QUESTIONS):
            place = trunk_of(magnification, question, len(self.trunks), self.magnifications)
            if question == 0 or len(self.trunks) > self.magnifications:
                features = self._patches(self.trunks[place], image)
            logits = self.heads[QUESTIONS * magnification + question](features)
            found.append(torch.logsumexp(F.log_softmax(_full(logits), 2), 1) - math.log(math.prod(self.grid)))
        return found

    def _patches(self, trunk: Any, image: Tensor) -> Tensor:
        """Features of each patch, (B, patches, F)."""
        maps = F.adaptive_avg_pool2d(trunk.feature_map(image), self.grid)
        features: Tensor = trunk.dropout(maps.flatten(2).transpose(1, 2))
        return features

    def present(self, x: Tensor) -> Tensor:
        """Which magnifications are there, (B, M), bool."""
        return (x.unflatten(1, (self.magnifications, 3)) != 0).flatten(2).any(2)

    def opinions(self, x: Tensor, routed: bool = True) -> Tensor:
        """Log-probabilities of the types at each magnification, (B, M, K), all alike where there is no image.

        Args:
            x: case (B, 3 M, i, j).
            routed: only the network of the nature that was found is asked for the type; otherwise both are, each
                weighed by the probability of its nature, which is what gradients come from.
        """
        each = []
        for magnification in range(self.magnifications):
            nature, benign, malignant = self.answers(x, magnification)
            each.append(self._routed(nature, benign, malignant) if routed else _joint(nature, benign, malignant))
        logs = torch.stack(each, 1)
        return torch.where(self.present(x)[:, :, None], logs, torch.full_like(logs, -math.log(sum(self.types))))

    def _routed(self, nature: Tensor, benign: Tensor, malignant: Tensor) -> Tensor:
        unknown = [
            torch.full_like(one, -math.log(count)) for one, count in zip((benign, malignant), self.types, strict=True)
        ]
        is_malignant = (nature[:, 1] > nature[:, 0])[:, None]
        return torch.where(is_malignant, _joint(nature, unknown[0], malignant), _joint(nature, benign, unknown[1]))

    def decide(self, logs: Tensor, present: Tensor) -> Tensor:
        """Make one diagnosis of the opinions of the magnifications.

        Args:
            logs: log-probabilities (B, M, K).
            present: which magnifications are there, (B, M).

        Returns:
            Log-probabilities (B, K): those of the magnification that the tree picks, or the average of all that are
            there: where the tree is not fitted or not wanted, or picks one that is not there.
        """
        average = _average(logs, present)
        if self.decision == "average":
            return average
        chosen = self.tree.choose(logs)
        batch = torch.arange(logs.shape[0], device=logs.device)
        trusted = present[batch, chosen] & self.fitted_tree
        return torch.where(trusted[:, None], logs[batch, chosen], average)

    def forward(self, x: Tensor) -> Tensor:
        """Log-probabilities of the types, (B, K); in training mode a list, see the class."""
        if self.training:
            logs = self.opinions(x, routed=False)
            return [_average(logs.detach(), self.present(x)), *logs.unbind(1)]  # type: ignore[return-value]
        return self.decide(self.opinions(x), self.present(x))


def _joint(nature: Tensor, benign: Tensor, malignant: Tensor) -> Tensor:
    return torch.cat([nature[:, :1] + benign, nature[:, 1:] + malignant], 1)


def _average(logs: Tensor, present: Tensor) -> Tensor:
    weight = present.to(logs.dtype)
    weight = torch.where(weight.sum(1, keepdim=True) > 0, weight, torch.ones_like(weight))
    return ((logs.exp() * weight[:, :, None]).sum(1) / weight.sum(1, keepdim=True)).clamp_min(1e-30).log()


def _full(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def number_of_trunks(share: str, magnifications: int) -> int:
    """How many trunks a :class:`MuDeRN` has.

    Raises:
        ConfigError: for an unknown ``share``.
    """
    require_name("Share of trunks", share, SHARES)
    return {"none": QUESTIONS * magnifications, "magnification": magnifications, "all": 1}[share]


def trunk_of(magnification: int, question: int, trunks: int, magnifications: int) -> int:
    """Which trunk answers a question about an image of a magnification."""
    if trunks == 1:
        return 0
    return magnification if trunks == magnifications else QUESTIONS * magnification + question


def build_mudern(
    arch: str = "resnet152",
    magnifications: int = 4,
    types: tuple[int, int] = (4, 4),
    share: str = "none",
    grid: tuple[int, int] = (3, 2),
    decision: str = "tree",
    max_depth: int = 3,
    **options: Any,
) -> MuDeRN:
    """Build the networks of all magnifications and the tree above them.

    Args:
        arch: of the trunks, a key of :data:`~medresnet3d.networks.classifier.ARCHITECTURES`.
        magnifications: see :class:`MuDeRN`, as for the next five.
        types: numbers of benign and of malignant types.
        share: which questions one trunk answers.
        grid: patches along the axes of an image.
        decision: ``tree`` or ``average``.
        max_depth: of the tree.
        **options: of :func:`~medresnet3d.networks.classifier.build_classifier`.

    Raises:
        ConfigError: for an unknown architecture, share or decision.
    """
    count = number_of_trunks(share, magnifications)
    trunks = [build_classifier(arch, 2, 3, 2, **options) for _ in range(count)]
    return MuDeRN(trunks, magnifications, types, share, grid, decision, max_depth)
