"""The last layer of every classifier: linear, or cosine where the network was trained so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LinearHead(nn.Linear):
    r"""A linear layer that may measure features and weights by their direction.

    .. math:: z = \tilde W \tilde x + b, \qquad
              \tilde x = \begin{cases} x & s = 0 \\ s\,x / \lVert x \rVert & s > 0 \end{cases}, \qquad
              \tilde W_j = \begin{cases} W_j & \\ W_j / \lVert W_j \rVert & \text{unit weights} \end{cases}

    A network trained with CosFace, A-Softmax or L2-Softmax needs this at inference too. The mode (s and whether weights
    are of unit length) is kept in two buffers, so no configuration has to say how a network was trained. Their entries
    appear in a state dict only where they differ from the ordinary mode: a state dict of an ordinary head is that of
    ``nn.Linear``, and one without the entries sets the head to the ordinary mode. In that mode outputs and gradients
    are those of ``nn.Linear``, bit for bit. Nothing in ``forward`` depends on values in Python, so it can be
    traced, scripted and exported.

    Args:
        in_features: F, the number of features.
        out_features: K, the number of logits.
        bias: whether there is a bias.

    Shapes: (B, F) to (B, K).
    """

    if TYPE_CHECKING:  # TorchScript cannot read annotations that are strings
        feature_scale: Tensor
        unit_weights: Tensor

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias)
        self._add_mode()

    def _add_mode(self) -> None:
        self.register_buffer("feature_scale", torch.zeros(()), persistent=False)
        self.register_buffer("unit_weights", torch.zeros((), dtype=torch.bool), persistent=False)

    @classmethod
    def from_linear(cls, linear: nn.Linear) -> LinearHead:
        """Make a head in the ordinary mode that has the parameters of ``linear`` (not copies of them)."""
        head = cls.__new__(cls)  # without nn.Linear's start, which would draw random numbers
        nn.Module.__init__(head)
        head.in_features, head.out_features = linear.in_features, linear.out_features
        head.weight, head.bias = linear.weight, linear.bias
        head._add_mode()
        return head

    @torch.jit.unused
    def set_mode(self, feature_scale: float = 0.0, unit_weights: bool = False, bias: bool = True) -> None:
        """Choose how logits are computed; the parameters stay, except that a bias that is not wanted becomes zero.

        Args:
            feature_scale: length that features are brought to; 0: features as they are. A learned scale (see
                :meth:`learn_feature_scale`) is left as it is.
            unit_weights: whether each class's weights are brought to unit length.
            bias: whether the bias may be other than zero.
        """
        with torch.no_grad():
            if not isinstance(self.feature_scale, nn.Parameter):
                self.feature_scale.fill_(feature_scale)
            self.unit_weights.fill_(unit_weights)
            if not bias and self.bias is not None:
                self.bias.zero_()

    @torch.jit.unused
    def learn_feature_scale(self, start: float) -> None:
        """Make the length of the features a parameter; to be called before optimizer and distribution are set up.

        A head without this loads the state dict of one with it.
        """
        del self.feature_scale
        self.feature_scale = nn.Parameter(torch.tensor(float(start), device=self.weight.device))

    def forward(self, input: Tensor) -> Tensor:
        """Logits, (B, K)."""
        eps = 1e-6  # a shorter length counts as zero; fp16 has this number
        length = torch.linalg.vector_norm(input, dim=-1, keepdim=True).clamp_min(eps)
        features = torch.where(self.feature_scale > 0, input / length * self.feature_scale, input)
        weight = torch.where(self.unit_weights, F.normalize(self.weight, dim=1, eps=eps), self.weight)
        return F.linear(features, weight, self.bias)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.weight.is_meta:  # a network without values has no mode either
            return
        if bool(self.unit_weights) or float(self.feature_scale.detach()) > 0:
            destination[f"{prefix}unit_weights"] = self.unit_weights.clone()
            destination.setdefault(f"{prefix}feature_scale", self.feature_scale.clone())

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        self.unit_weights.fill_(bool(state_dict.pop(f"{prefix}unit_weights", False)))
        if not isinstance(self.feature_scale, nn.Parameter):
            self.feature_scale.fill_(float(state_dict.pop(f"{prefix}feature_scale", 0.0)))
        super()._load_from_state_dict(state_dict, prefix, *args)
