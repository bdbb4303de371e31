"""Decision trees as index tensors, and meta-decision trees whose leaves name the classifier to be trusted.

Papers: L. Todorovski, S. Dzeroski. Combining classifiers with meta decision trees. Machine Learning 50 (2003) 223-249.
Z. Gandomkar et al. MuDeRN. Artificial Intelligence in Medicine 88 (2018) 14-24, which joins the ResNets of several
magnifications that way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.networks.heads.fitted import FittedModule


class TreeHead(FittedModule):
    """A fitted decision tree: which feature each node asks for, its threshold, and where to go on.

    A leaf is its own child, so every case takes ``max_depth`` steps and nothing depends on values in Python: the tree
    can be traced, scripted and exported. Unfitted, it is one leaf that finds all outputs equally probable.

    Args:
        outputs: K, number of classes.
        max_depth: largest depth that a fitted tree may have.

    Shapes: (B, F) to (B, K) log-probabilities, the logarithms of the class shares of the leaf.
    """

    fitted = ("feature", "threshold", "left", "right", "value")
    if TYPE_CHECKING:  # TorchScript cannot read annotations that are strings
        feature: Tensor
        threshold: Tensor
        left: Tensor
        right: Tensor
        value: Tensor

    def __init__(self, outputs: int = 2, max_depth: int = 5) -> None:
        super().__init__()
        if not 0 <= max_depth <= 14:
            raise ConfigError(f"max_depth is {max_depth}; give 0 to 14, since each level doubles the size of the tree.")
        self.max_depth = max_depth
        nodes = 2 ** (max_depth + 1) - 1
        self.register_buffer("feature", torch.zeros(nodes, dtype=torch.int64))
        self.register_buffer("threshold", torch.zeros(nodes))
        self.register_buffer("left", torch.arange(nodes))
        self.register_buffer("right", torch.arange(nodes))
        self.register_buffer("value", torch.full((nodes, outputs), 1 / outputs))

    @torch.jit.unused
    def adopt_shapes(self, state: Mapping[str, Any], prefix: str = "") -> None:
        """See :class:`FittedModule`; the number of nodes says how deep the tree may be."""
        super().adopt_shapes(state, prefix)
        self.max_depth = (len(self.feature) + 1).bit_length() - 2

    def leaf(self, features: Tensor) -> Tensor:
        """Number of the leaf that each case (B, F) ends in, int64, (B,)."""
        features = features if features.dtype == torch.float64 else features.float()
        node = torch.zeros(features.shape[0], dtype=torch.int64, device=features.device)
        for _ in range(self.max_depth):
            asked = features.gather(1, self.feature[node][:, None])[:, 0]
            node = torch.where(asked <= self.threshold[node], self.left[node], self.right[node])
        return node

    def forward(self, features: Tensor) -> Tensor:
        """Log-probabilities, (B, K)."""
        return self.value[self.leaf(features)].clamp_min(1e-30).log()

    @torch.jit.unused
    def set_nodes(
        self, feature: Any, threshold: Any, left: Any, right: Any, value: Any, *, what: str = "The tree"
    ) -> None:
        """Take over a tree in scikit-learn's arrays (a leaf has the children -1), filled up to the capacity.

        Args:
            feature: (nodes,).
            threshold: (nodes,); a case goes left where its feature is not larger.
            left: (nodes,), index of the left child, which has a larger index than its parent.
            right: (nodes,).
            value: (nodes, K), shares of the classes.
            what: name of the tree in messages.

        Raises:
            DataError: if the tree is deeper than ``max_depth``.
        """
        left, right = np.asarray(left), np.asarray(right)
        deepest, capacity = _depth(left, right), len(self.feature)
        if deepest > self.max_depth:
            raise DataError(f"{what} has the depth {deepest}, but there is room for {self.max_depth}; limit its depth.")
        own, is_leaf = np.arange(len(left)), left < 0
        self.left[: len(own)] = torch.as_tensor(np.where(is_leaf, own, left))
        self.right[: len(own)] = torch.as_tensor(np.where(is_leaf, own, right))
        self.feature[: len(own)] = torch.as_tensor(np.where(is_leaf, 0, np.asarray(feature)))
        self.threshold[: len(own)] = torch.as_tensor(round_down(np.where(is_leaf, 0.0, np.asarray(threshold))))
        self.value[: len(own)] = torch.as_tensor(np.asarray(value, dtype=np.float32))
        for buffer, rest in ((self.left, own), (self.right, own)):
            buffer[len(rest) :] = torch.arange(len(rest), capacity)

    @torch.jit.unused
    def from_sklearn(self, tree: Any) -> TreeHead:
        """Take over a fitted ``sklearn.tree.DecisionTreeClassifier`` of one output; its answers are the same.

        scikit-learn compares single-precision features with double-precision thresholds; a threshold rounded down to
        single precision decides every such comparison alike.

        Raises:
            DataError: if the tree is deeper than ``max_depth``.
        """
        fitted = tree.tree_
        shares = fitted.value[:, 0] / fitted.value[:, 0].sum(1, keepdims=True)
        self.set_nodes(fitted.feature, fitted.threshold, fitted.children_left, fitted.children_right, shares)
        return self


def round_down(values: NDArray[Any]) -> NDArray[np.float32]:
    """The largest single-precision number that is not above each value."""
    single = np.asarray(values, dtype=np.float64).astype(np.float32)
    above = single.astype(np.float64) > values
    return np.where(above, np.nextafter(single, np.float32(-np.inf)), single)


def _depth(left: NDArray[Any], right: NDArray[Any]) -> int:
    depth = np.zeros(len(left), dtype=int)
    for node in range(len(left)):  # a child has a larger number than its parent
        if left[node] >= 0:
            depth[[left[node], right[node]]] = depth[node] + 1
    return int(depth.max())


def meta_features(log_probabilities: Tensor) -> Tensor:
    """What a meta-decision tree asks: how sure each of M classifiers is.

    Args:
        log_probabilities: (B, M, K).

    Returns:
        (B, M * (K + 2)): for each classifier its K probabilities, the largest of them, and their entropy in nats.
    """
    logs = log_probabilities if log_probabilities.dtype == torch.float64 else log_probabilities.float()
    probabilities = logs.exp()
    entropy = -(probabilities * logs.clamp_min(-80)).sum(2, keepdim=True)
    return torch.cat([probabilities, probabilities.amax(2, keepdim=True), entropy], dim=2).flatten(1)


class MetaDecisionTree(TreeHead):
    """A tree that looks at how sure several classifiers are and picks the one to be trusted.

    Args:
        classifiers: M, number of classifiers.
        max_depth: largest depth.

    Shapes: (B, M, K) log-probabilities of the classifiers to those of the chosen one, (B, K).
    """

    def __init__(self, classifiers: int = 2, max_depth: int = 3) -> None:
        super().__init__(classifiers, max_depth)

    def choose(self, log_probabilities: Tensor) -> Tensor:
        """Number of the classifier to be trusted in each case, int64, (B,)."""
        return self.value[self.leaf(meta_features(log_probabilities))].argmax(1)

    def forward(self, log_probabilities: Tensor) -> Tensor:
        """Log-probabilities of the chosen classifiers, (B, K)."""
        batch = torch.arange(log_probabilities.shape[0], device=log_probabilities.device)
        return log_probabilities[batch, self.choose(log_probabilities)]

    @torch.jit.unused
    def fit(self, log_probabilities: Tensor, labels: Tensor, min_leaf: int = 5) -> MetaDecisionTree:
        """Learn which classifier to trust where, from out-of-fold opinions.

        Args:
            log_probabilities: (N, M, K), of cases that the classifiers were not trained on.
            labels: class numbers, (N,).
            min_leaf: fewest cases in a leaf.
        """
        right = (log_probabilities.argmax(2) == labels[:, None]).double()
        truth = log_probabilities.gather(2, labels[:, None, None].expand(-1, right.shape[1], 1))[:, :, 0]
        # the share of right answers decides; among equals the one that was surer of the truth
        worth = right + 1e-3 * truth.double().clamp_min(-20) / 20
        tree = grow_choice_tree(
            meta_features(log_probabilities).cpu().numpy(), worth.cpu().numpy(), self.max_depth, min_leaf
        )
        self.set_nodes(*tree, what="The meta-decision tree")
        return self


Nodes = tuple[list[int], list[float], list[int], list[int], list[Sequence[float]]]


def grow_choice_tree(features: NDArray[Any], worth: NDArray[Any], max_depth: int, min_leaf: int = 5) -> Nodes:
    r"""Grow a tree whose leaves choose one of M options so that the cases' worth is large.

    A split into L and R is the better the larger :math:`\max_m \sum_{n \in L} w_{nm} + \max_m \sum_{n \in R} w_{nm}`.
    With w = 1 where classifier m is right on case n this is the measure of Todorovski and Dzeroski (2003), the accuracy
    of the best classifier in each part. A node that no split makes better is a leaf.

    Args:
        features: (N, F).
        worth: (N, M).
        max_depth: largest depth.
        min_leaf: fewest cases in a leaf.

    Returns:
        feature, threshold, left, right (-1 at leaves) and value (one-hot choice) of each node.

    Raises:
        DataError: if there is no case.
    """
    if not len(features):
        raise DataError("There is no case to learn from which classifier to trust; list more.")
    nodes: Nodes = ([], [], [], [], [])
    _grow(nodes, np.asarray(features, dtype=np.float32), np.asarray(worth, dtype=np.float64), max_depth, min_leaf)
    return nodes


def _grow(nodes: Nodes, features: NDArray[Any], worth: NDArray[Any], depth: int, min_leaf: int) -> int:
    feature, threshold, left, right, _ = nodes
    node = len(feature)
    choice = np.eye(worth.shape[1])[worth.sum(0).argmax()]
    for column, entry in zip(nodes, (0, 0.0, -1, -1, choice), strict=True):
        column.append(entry)  # type: ignore[attr-defined]
    split = _best_split(features, worth, min_leaf) if depth else None
    if split is not None:
        feature[node], threshold[node] = split
        goes_left = features[:, split[0]] <= split[1]
        left[node] = _grow(nodes, features[goes_left], worth[goes_left], depth - 1, min_leaf)
        right[node] = _grow(nodes, features[~goes_left], worth[~goes_left], depth - 1, min_leaf)
    return node


def _best_split(features: NDArray[Any], worth: NDArray[Any], min_leaf: int) -> tuple[int, float] | None:
    best, found = worth.sum(0).max() + 1e-9, None
    count = len(features)
    for column in range(features.shape[1]):
        order = np.argsort(features[:, column], kind="stable")
        ordered = features[order, column]
        below = np.cumsum(worth[order], axis=0)[:-1]
        gain = below.max(1) + (worth.sum(0) - below).max(1)
        size = np.arange(1, count)
        gain[(np.diff(ordered) <= 0) | (size < min_leaf) | (count - size < min_leaf)] = -np.inf
        if len(gain) and gain.max() > best:
            at = int(gain.argmax())
            best, found = gain[at], (column, float((np.float64(ordered[at]) + ordered[at + 1]) / 2))
    return found
