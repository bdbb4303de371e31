"""L1 regularisation, which ``torch.optim`` does not have: as a penalty, or as its proximal step with exact zeros."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def l1_penalty(parameters: Sequence[torch.Tensor], strength: float) -> torch.Tensor:
    r"""The penalty :math:`\lambda \sum |w|` to add to a loss.

    Its gradient is :math:`\lambda\,\mathrm{sign}(w)`, which makes weights small but hardly ever exactly zero.

    Args:
        parameters: usually the :func:`medresnet3d.optimizers.regularised_parameters` of a network; not empty.
        strength: :math:`\lambda`.

    Returns:
        Scalar, float32.
    """
    return strength * torch.stack([parameter.float().abs().sum() for parameter in parameters]).sum()


@torch.no_grad()
def soft_threshold(optimizer: torch.optim.Optimizer, parameters: Sequence[torch.Tensor], strength: float) -> None:
    r"""The proximal step of L1, after the optimizer's: :math:`w \leftarrow \mathrm{sign}(w)\max(|w| - \eta\lambda, 0)`.

    Weights that the loss does not hold up become exactly zero. With plain gradient descent this is ISTA (Daubechies et
    al., Comm. Pure Appl. Math. 57 (2004) 1413); with adaptive rules the threshold is the same for all weights,
    decoupled from their scaling as the decay of AdamW is.

    Args:
        optimizer: its learning rates are the :math:`\eta`, of each parameter group its own.
        parameters: those to shrink, in place; the optimizer's other parameters stay as they are.
        strength: :math:`\lambda`.
    """
    chosen = {id(parameter) for parameter in parameters}
    for group in optimizer.param_groups:
        threshold = float(group["lr"]) * strength
        for parameter in group["params"]:
            if id(parameter) in chosen and parameter.grad is not None:
                parameter.copy_(torch.nn.functional.softshrink(parameter, threshold))
