"""Two levels of classes: p(fine) = p(coarse) p(fine | coarse), so the children's probabilities add up to the parent's.

Qin et al. (2018) adjust the topology of a residual network to the lineages of leukocytes; how, is not known to us.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn, tensor

from medresnet3d.errors import ConfigError


def checked_groups(groups: Sequence[int]) -> list[int]:
    """The group of each class, if every group from 0 on has a class.

    Raises:
        ConfigError: if one has none.
    """
    if not groups or sorted(set(groups)) != list(range(max(groups) + 1)):
        raise ConfigError(f"groups is {list(groups)}; give each class one of the groups 0, 1, ..., and use each group.")
    return list(groups)


def groups_of(class_names: Sequence[str], lineages: Mapping[str, str]) -> list[int]:
    """The group of each class, from what each class belongs to.

    Args:
        class_names: names of the classes in their order.
        lineages: what each class belongs to, by its name, in any case and order; names that are no class do no harm.

    Returns:
        group numbers, counted as the groups first appear among the classes.

    Raises:
        ConfigError: if a class has no lineage; the message names it.

    Example:
        >>> groups_of(["Monocyte", "Eosinophil", "Basophil"],
        ...           {"basophil": "granulocyte", "eosinophil": "granulocyte", "monocyte": "agranulocyte"})
        [0, 1, 1]
    """
    known = {name.casefold(): lineage for name, lineage in lineages.items()}
    unknown = [name for name in class_names if name.casefold() not in known]
    if unknown:
        raise ConfigError(
            f"lineages says nothing of the class(es) {', '.join(unknown)}, but only of {', '.join(lineages)}; set "
            "lineages to an object with a lineage for each class."
        )
    own = [known[name.casefold()] for name in class_names]
    order = list(dict.fromkeys(own))
    return [order.index(lineage) for lineage in own]


def log_sum_of_groups(values: Tensor, group: Tensor, count: int) -> Tensor:
    """Logarithm of the sum of exponentials over the classes of each group.

    Args:
        values: (B, K).
        group: the group of each class, int64, (K,).
        count: of groups.

    Returns:
        (B, count).
    """
    outside = F.one_hot(group, count).T == 0
    return values[:, None, :].masked_fill(outside, -float("inf")).logsumexp(2)


class HierarchicalHead(nn.Module):
    r"""A last layer that decides on a group first, and then on the class within the group.

    .. math:: \log p(k) = \log\operatorname{softmax}(u)_{g(k)} + v_k - \log \sum_{j: g(j) = g(k)} e^{v_j}

    with group logits u and class logits v, both linear in the features.

    Args:
        in_features: F.
        groups: g, the group (0, 1, ...) of each class.
        make_layer: makes a linear layer of (features, outputs), one with DropConnect for instance.

    Shapes: (B, F) to (B, K) log-probabilities of the classes, in fp32 at least.

    Raises:
        ConfigError: if a group has no class.
    """

    if TYPE_CHECKING:  # TorchScript cannot read annotations that are strings
        group: Tensor

    def __init__(
        self, in_features: int, groups: Sequence[int], make_layer: Callable[[int, int], nn.Linear] = nn.Linear
    ) -> None:
        super().__init__()
        groups = checked_groups(groups)
        self.coarse = make_layer(in_features, max(groups) + 1)
        self.fine = make_layer(in_features, len(groups))
        self.register_buffer("group", tensor(groups), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Log-probabilities of the classes, (B, K)."""
        coarse, fine = self.coarse(features).float(), self.fine(features).float()
        within = fine - log_sum_of_groups(fine, self.group, coarse.shape[1])[:, self.group]
        return F.log_softmax(coarse, dim=1)[:, self.group] + within
