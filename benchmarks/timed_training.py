"""The training that the benchmarks of segmentation share: so many seconds of processor time, whatever the network.

AdamW with warm-up and a cosine over the time, clipped gradients, and the exponential moving average of the weights,
which answers.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping

import torch
from torch import nn


class TimedTraining:
    """One network's training; a loop over :meth:`progress` computes a loss and hands it to :meth:`descend`.

    Args:
        network: trained from here on.
        rate: the highest learning rate.
        seconds: of this process's time (``time.process_time``), counted from the first step.
        weight_decay: of AdamW.
        warm_up: iterations until the rate is reached.
        averaging: decay of the average of weights.
        fused: one kernel for all parameters.

    Attributes:
        average: the network of averaged weights.
        iteration: steps made.
    """

    def __init__(
        self,
        network: nn.Module,
        rate: float,
        seconds: float,
        *,
        weight_decay: float = 1e-2,
        warm_up: int = 30,
        averaging: float = 0.995,
        fused: bool | None = None,
    ) -> None:
        self.network = network.train()
        self.average = copy.deepcopy(network)
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=weight_decay, fused=fused)
        self.rate, self.seconds, self.warm_up, self.averaging = rate, seconds, warm_up, averaging
        self.iteration, self.recent = 0, 0.0

    def progress(self) -> Iterator[float]:
        """The share of the time that is over, from 0 to below 1, with the learning rate set for it."""
        begin = time.process_time()
        while (share := (time.process_time() - begin) / self.seconds) < 1:
            rate = self.rate * min(1.0, (self.iteration + 1) / self.warm_up) * 0.5 * (1 + math.cos(math.pi * share))
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            yield share

    def descend(self, loss: torch.Tensor) -> None:
        """Take one step down a loss, and move the average toward the weights."""
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        update_average(self.average, self.network, self.iteration, self.averaging)
        value = float(loss.detach())
        self.recent = 0.98 * self.recent + 0.02 * value if self.iteration else value
        self.iteration += 1

    def tell(self, share: float, every: int, name: str = "") -> None:
        """Print, after every so many iterations, how far it is and the mean loss of late."""
        if self.iteration % every == 0:
            print(f"{name}{share:.0%} of the time, {self.iteration} iterations, loss {self.recent:.3f}", flush=True)


def update_average(average: nn.Module, network: nn.Module, iteration: int, decay: float = 0.995) -> None:
    """Move the exponential moving average of weights and statistics toward the network."""
    share = 1 - min(decay, (1 + iteration) / (10 + iteration))
    with torch.no_grad():
        for kept, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(new, share)
            else:
                kept.copy_(new)


def half_precision(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights as they ship; what measurements are standardised by keeps its digits, since some are very small."""
    exact = ("mean", "deviation")
    return {
        name: tensor.half().contiguous() if tensor.is_floating_point() and name not in exact else tensor
        for name, tensor in state.items()
    }
