"""Support vector machines as tensors: what scikit-learn fitted, in a module that is saved, exported and runs on a GPU.

Papers: B. E. Boser, I. M. Guyon, V. N. Vapnik. A training algorithm for optimal margin classifiers. COLT 1992.
J. Platt. Probabilistic outputs for support vector machines (1999). T.-F. Wu, C.-J. Lin, R. C. Weng. Probability
estimates for multi-class classification by pairwise coupling. JMLR 5 (2004) 975-1005, its second method, as libsvm
computes it.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.names import require_name
from medresnet3d.networks.heads.fitted import FittedModule, full_precision_linear

KERNELS = ("linear", "rbf")


class NoRoomError(DataError):
    """A fitted machine has more support vectors than its tensors have room for."""


@torch.jit.script
def couple(pairwise: Tensor) -> Tensor:
    """Class probabilities from those of pairs, by libsvm's iteration and stopping rule (Wu, Lin and Weng, 2004).

    Args:
        pairwise: r, (B, K, K); ``r[:, i, j]`` is the probability of i if it is i or j. The diagonal does not count.

    Returns:
        (B, K), float64.
    """
    r = pairwise.double()
    number = r.shape[1]
    eye = torch.eye(number, dtype=torch.bool, device=r.device)
    r = r.masked_fill(eye, 0.0)
    q = -r.transpose(1, 2) * r
    q = q + torch.diag_embed((r.transpose(1, 2) ** 2).sum(2))
    p = torch.full((r.shape[0], number), 1.0 / number, dtype=r.dtype, device=r.device)
    going = torch.ones(r.shape[0], dtype=torch.bool, device=r.device)
    for _ in range(max(100, number)):
        qp = torch.bmm(q, p[:, :, None])[:, :, 0]
        pqp = (p * qp).sum(1)
        going = going & ((qp - pqp[:, None]).abs().amax(1) >= 0.005 / number)
        if not bool(going.any()):
            break
        new = p
        for t in range(number):
            step = (pqp - qp[:, t]) / q[:, t, t]
            grown = F.one_hot(torch.tensor(t, device=r.device), number).to(r.dtype) * step[:, None] + new
            pqp = (pqp + step * (step * q[:, t, t] + 2 * qp[:, t])) / (1 + step) / (1 + step)
            qp = (qp + step[:, None] * q[:, t]) / (1 + step)[:, None]
            new = grown / (1 + step)[:, None]
        p = torch.where(going[:, None], new, p)
    return p


class SVMHead(FittedModule):
    r"""A fitted support vector machine on standardised features.

    Each pair of classes i < j has a decision

    .. math:: d_{ij}(x) = \sum_s \alpha_{ij,s}\, k\!\left(\frac{x - \mu}{\sigma}, v_s\right) + b_{ij}

    that is positive for i, and a probability :math:`r_{ij} = 1 / (1 + e^{A_{ij} d_{ij} + B_{ij}})` (Platt), which
    pairwise coupling turns into class probabilities (of two classes too, as in libsvm, whose rule to stop leaves an
    error of up to half a percent). A linear machine is folded into one vector for each pair.

    Args:
        in_features: F.
        num_classes: K.
        kernel: ``"linear"`` or ``"rbf"``, :math:`k(x, v) = e^{-\gamma \lVert x - v \rVert^2}`.
        capacity: support vectors that a fitted RBF machine may have; free places hold zeros. 1000 vectors of 2048
            features are 8 MB in single precision.

    Shapes: (B, F) to (B, K) log-probabilities, in fp32 at least. Unfitted, all classes are equally probable; the buffer
    ``ready`` tells whether it is fitted.

    Raises:
        ConfigError: for an unknown kernel, fewer than two classes or no capacity.
    """

    fitted = ("vectors", "coefficients")
    if TYPE_CHECKING:  # TorchScript cannot read annotations that are strings
        mean: Tensor
        scale: Tensor
        vectors: Tensor
        coefficients: Tensor
        intercept: Tensor
        slope: Tensor
        offset: Tensor
        gamma: Tensor
        first: Tensor
        second: Tensor
        ready: Tensor

    def __init__(self, in_features: int, num_classes: int = 2, kernel: str = "linear", capacity: int = 512) -> None:
        super().__init__()
        if num_classes < 2 or capacity < 1:
            raise ConfigError(
                f"An SVM of {num_classes} classes with room for {capacity} vectors; give 2 and 1 or more."
            )
        self.kernel = require_name("Kernel", kernel, KERNELS)
        self.num_classes = num_classes
        pairs = num_classes * (num_classes - 1) // 2
        places = pairs if kernel == "linear" else capacity
        first, second = zip(*combinations(range(num_classes), 2), strict=True)
        self.register_buffer("first", torch.tensor(first), persistent=False)
        self.register_buffer("second", torch.tensor(second), persistent=False)
        self.register_buffer("mean", torch.zeros(in_features))
        self.register_buffer("scale", torch.ones(in_features))
        self.register_buffer("vectors", torch.zeros(places, in_features))
        self.register_buffer("coefficients", torch.zeros(pairs, places))
        self.register_buffer("intercept", torch.zeros(pairs))
        self.register_buffer("slope", -torch.ones(pairs))
        self.register_buffer("offset", torch.zeros(pairs))
        self.register_buffer("gamma", torch.ones(()))
        self.register_buffer("ready", torch.zeros((), dtype=torch.bool))

    def pair_decisions(self, features: Tensor) -> Tensor:
        """Decision of each pair (0, 1), (0, 2), ..., (1, 2), ...: (B, pairs), positive for the first class.

        It is computed in the number format of the buffers, whatever the surrounding precision: rounded support vectors
        with large coefficients of both signs would leave little of it.
        """
        x = (features.to(self.mean.dtype) - self.mean) / self.scale
        if self.kernel == "rbf":
            distance = torch.cdist(x, self.vectors, compute_mode="donot_use_mm_for_euclid_dist")
            values = torch.exp(-self.gamma * distance**2)
            return full_precision_linear(values, self.coefficients) + self.intercept
        return full_precision_linear(x, self.vectors) + self.intercept

    def decision_function(self, features: Tensor) -> Tensor:
        """What ``sklearn.svm.SVC.decision_function`` gives: (B,) for two classes, else one-vs-rest (B, K)."""
        pairs = self.pair_decisions(features)
        return -pairs[:, 0] if self.num_classes == 2 else self.one_vs_rest(pairs)

    def one_vs_rest(self, pairs: Tensor) -> Tensor:
        """Each class's votes and, below one vote, how clear they are: (B, pairs) to (B, K)."""
        zeros = torch.zeros(pairs.shape[0], self.num_classes, dtype=pairs.dtype, device=pairs.device)
        votes = zeros.index_add(1, self.first, (pairs >= 0).to(pairs.dtype))
        votes = votes.index_add(1, self.second, (pairs < 0).to(pairs.dtype))
        confidence = zeros.index_add(1, self.first, pairs).index_add(1, self.second, -pairs)
        return votes + confidence / (3 * (confidence.abs() + 1))

    def probabilities(self, features: Tensor) -> Tensor:
        """Class probabilities, (B, K), by Platt's sigmoids and pairwise coupling."""
        pairs = torch.sigmoid(-(self.slope * self.pair_decisions(features) + self.offset))
        pairs = pairs.clamp(1e-7, 1 - 1e-7)  # as libsvm does
        square = torch.zeros(
            pairs.shape[0], self.num_classes * self.num_classes, dtype=pairs.dtype, device=pairs.device
        )
        square = square.index_copy(1, self.first * self.num_classes + self.second, pairs)
        square = square.index_copy(1, self.second * self.num_classes + self.first, 1 - pairs)
        return couple(square.view(-1, self.num_classes, self.num_classes)).to(pairs.dtype)

    def forward(self, features: Tensor) -> Tensor:
        """Log-probabilities, (B, K)."""
        return self.probabilities(features).clamp_min(1e-7).log()

    @torch.jit.unused
    def from_sklearn(self, machine: Any, scaler: Any = None) -> SVMHead:
        """Take over a fitted ``sklearn.svm.SVC`` of the same kernel, with its probabilities if it has them.

        Args:
            machine: fitted on classes 0 to K - 1.
            scaler: the fitted ``sklearn.preprocessing.StandardScaler`` in front of it; ``None``: none.

        Raises:
            DataError: if it has another kernel or other classes.
            NoRoomError: if it has more support vectors than there is room for.
        """
        self._check(machine)
        vectors, coefficients, intercept = _pairs_of(machine)
        if self.kernel == "linear":
            vectors, coefficients = coefficients @ vectors, np.eye(len(intercept))
        places = self.coefficients.shape[1]
        if len(vectors) > places:
            raise NoRoomError(
                f"The fitted SVM has {len(vectors)} support vectors, but there is room for {places}; raise the "
                "capacity, or change C so that fewer are needed."
            )
        free = places - len(vectors)
        self.put("vectors", np.pad(vectors, ((0, free), (0, 0))))
        self.put("coefficients", np.pad(coefficients, ((0, 0), (0, free))))
        self.put("intercept", intercept)
        self.put("gamma", float(getattr(machine, "_gamma", 1.0)))
        self.put("mean", np.zeros(vectors.shape[1]) if scaler is None else scaler.mean_)
        self.put("scale", np.ones(vectors.shape[1]) if scaler is None else scaler.scale_)
        if machine.get_params()["probability"] is True:
            self.set_sigmoids(machine.probA_, machine.probB_)
        self.put("ready", True)
        return self

    @torch.jit.unused
    def set_sigmoids(self, slope: Any, offset: Any) -> None:
        """Set Platt's A and B of each pair, (pairs,)."""
        self.put("slope", slope)
        self.put("offset", offset)

    @torch.jit.unused
    def _check(self, machine: Any) -> None:
        if machine.kernel != self.kernel or list(machine.classes_) != list(range(self.num_classes)):
            raise DataError(
                f"The fitted SVM has the kernel {machine.kernel} and the classes {list(machine.classes_)}, but "
                f"{self.kernel} and 0 to {self.num_classes - 1} are expected; every class needs a training case."
            )


def _pairs_of(machine: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Support vectors, coefficients (pairs, vectors) and intercepts (pairs,), positive for the pair's first class."""
    vectors = np.asarray(machine.support_vectors_)
    number = len(machine.classes_)
    owner = np.repeat(np.arange(number), machine.n_support_)
    dual, intercept = np.asarray(machine.dual_coef_), np.asarray(machine.intercept_)
    if number == 2:  # scikit-learn turns the sign of libsvm's decision of two classes
        return vectors, -dual, -intercept
    rows = []
    for first, second in combinations(range(number), 2):
        rows.append(np.where(owner == first, dual[second - 1], 0) + np.where(owner == second, dual[first], 0))
    return vectors, np.stack(rows), intercept
