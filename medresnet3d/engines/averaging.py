"""The moving average of a network's weights, which answers better than the last weights do when the data are few.

Papers: B. T. Polyak, A. B. Juditsky. Acceleration of stochastic approximation by averaging. SIAM J. Control Optim. 30
(1992) 838-855; A. Tarvainen, H. Valpola. Mean teachers are better role models. NeurIPS 2017, where it is exponential.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from medresnet3d.engines.device import undistributed
from medresnet3d.errors import ConfigError

_WARM_UP = 10


class WeightAverage:
    r"""Exponential moving average of all weights and statistics of a network.

    After iteration s each floating-point tensor of the state becomes :math:`d_s \bar w + (1 - d_s) w` with
    :math:`d_s = \min(d, \frac{1 + s}{10 + s})`, so that the first weights are soon forgotten; whole numbers are those
    of the network.

    Args:
        network: perhaps wrapped for distribution; its state is copied.
        decay: d, from 0 (the last weights) to below 1; about the last 1 / (1 - d) iterations count.

    Raises:
        ConfigError: for another decay.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(f"average_weights is {decay}; give 0 or more and less than 1, or null for no average.")
        self.network, self.decay, self.updates = network, decay, 0
        self.begin()

    def begin(self) -> None:
        """Start from the network's present weights, which an earlier stage of the training may have changed."""
        if not self.updates:
            self.average = {name: tensor.detach().clone() for name, tensor in self._live().items()}

    def _live(self) -> dict[str, Tensor]:
        return dict(undistributed(self.network).state_dict())

    @torch.no_grad()
    def update(self) -> None:
        """Take the network's present weights into the average."""
        self.updates += 1
        share = 1 - min(self.decay, (1 + self.updates) / (_WARM_UP + self.updates))
        live = self._live()
        moving = [name for name, tensor in live.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self.average[name] for name in moving], [live[name] for name in moving], share)
        for name in live.keys() - set(moving):
            self.average[name].copy_(live[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the network have the averaged weights inside the block, and its own again afterwards."""
        own = {name: tensor.detach().clone() for name, tensor in self._live().items()}
        undistributed(self.network).load_state_dict(self.average)
        try:
            yield
        finally:
            undistributed(self.network).load_state_dict(own)

    def state_dict(self) -> dict[str, object]:
        """The average and how many weights are in it."""
        return {"average": self.average, "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Take over what :meth:`state_dict` returned."""
        for name, tensor in dict(state["average"]).items():  # type: ignore[call-overload]
            self.average[name].copy_(tensor)
        self.updates = int(state["updates"])  # type: ignore[call-overload]
