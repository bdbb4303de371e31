"""Mixing of training images and their labels, against fitting few cases by heart.

Papers: H. Zhang et al. mixup: beyond empirical risk minimization. ICLR 2018; S. Yun et al. CutMix: regularization
strategy to train strong classifiers with localizable features. ICCV 2019.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from medresnet3d.errors import ConfigError
from medresnet3d.names import require_name

KINDS = ("none", "mixup", "cutmix", "both")


class Mixing:
    r"""Mix each image of a batch with another one; the loss is that of both labels, by their shares.

    With :math:`\lambda \sim \text{Beta}(\alpha, \alpha)`, ``mixup`` gives :math:`\lambda x + (1 - \lambda) x'`;
    ``cutmix`` a box of x' in x, of the share :math:`1 - \lambda` of the volume; ``both`` one or the other, evenly. The
    loss is :math:`\lambda \ell(f, y) + (1 - \lambda) \ell(f, y')`, so every loss of logits can be had with it. What is
    drawn comes from torch's global generator, which :func:`medresnet3d.engines.train_handlers` seeds in each iteration.

    Args:
        name: one of :data:`KINDS`; ``none`` changes nothing.
        alpha: of the Beta distribution; 1 makes every share equally probable, small ones mostly leave one of the two.
        prob: share of the batches that are mixed.

    Raises:
        ConfigError: for an unknown kind, or a number out of range.

    Example:
        >>> mixing = Mixing("mixup")
        >>> prepare, loss = mixing.prepares(default_prepare_batch), MixedLoss(loss, mixing)  # doctest: +SKIP
    """

    def __init__(self, name: str = "none", alpha: float = 1.0, prob: float = 0.5) -> None:
        self.name = require_name("Mixing", name, KINDS)
        if alpha <= 0 or not 0 <= prob <= 1:
            raise ConfigError(f"mixing has alpha {alpha} and prob {prob}; alpha is above 0, prob from 0 to 1.")
        self.alpha, self.prob = alpha, prob
        self.share, self.partner = 1.0, torch.zeros(0, dtype=torch.int64)

    def mix(self, images: Tensor) -> Tensor:
        """Draw a mixture, and give the mixed images (B, C, ...)."""
        self.share, self.partner = 1.0, torch.randperm(len(images)).to(images.device)
        if self.name == "none" or float(torch.rand(())) >= self.prob:
            return images
        self.share = float(torch.distributions.Beta(self.alpha, self.alpha).sample())
        cut = self.name == "cutmix" or (self.name == "both" and float(torch.rand(())) < 0.5)
        if not cut:
            return torch.lerp(images[self.partner], images, self.share)
        return self._cut(images)

    def _cut(self, images: Tensor) -> Tensor:
        """Put a box of the partner into each image; the share becomes that of whole pixels."""
        shape = images.shape[2:]
        edge = (1 - self.share) ** (1 / len(shape))
        sizes = [round(edge * size) for size in shape]
        begins = [int(torch.randint(size - length + 1, ())) for size, length in zip(shape, sizes, strict=True)]
        box: tuple[Any, ...] = (
            ...,
            *(slice(begin, begin + length) for begin, length in zip(begins, sizes, strict=True)),
        )
        mixed = images.clone()
        mixed[box] = images[self.partner][box]
        self.share = 1 - images[0, 0][box].numel() / images[0, 0].numel()
        return mixed

    def prepares(self, prepare_batch: Callable[..., Any]) -> Callable[..., Any]:
        """A ``prepare_batch`` that mixes the images; labels stay those of the first image of each pair."""

        def prepare(*args: Any, **kwargs: Any) -> Any:
            image, *rest = prepare_batch(*args, **kwargs)
            return (self.mix(image), *rest)

        return prepare


class MixedLoss(nn.Module):
    """A loss of (output, label) for mixed images: that of both labels, by their shares.

    Args:
        loss: of one label; if it is a module, its second call counts as no training step.
        mixing: what mixed the images.
    """

    def __init__(self, loss: Callable[..., Tensor], mixing: Mixing) -> None:
        super().__init__()
        self.loss, self.mixing = loss, mixing

    def forward(self, output: Any, label: Tensor) -> Tensor:
        """Give the loss, of the shape of the wrapped one's."""
        own = self.loss(output, label)
        if self.mixing.share == 1.0:
            return own
        counting = self.loss if isinstance(self.loss, nn.Module) and self.loss.training else nn.Identity()
        counting.eval()
        other = self.loss(output, label[self.mixing.partner])
        counting.train()
        return self.mixing.share * own + (1 - self.mixing.share) * other
