"""What several trainings of one network begin from."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

from torch import nn


class Beginning:
    """The states of network, optimiser, schedule and loss before the first stage.

    Args:
        network: without a wrapper for distribution.
        others: optimiser, schedule, loss; what has no state is passed over.
    """

    def __init__(self, network: nn.Module, others: Iterable[Any]) -> None:
        self.network = network
        self.others = [part for part in others if hasattr(part, "load_state_dict")]
        self._weights = deepcopy(network.state_dict())
        self._states = [deepcopy(part.state_dict()) for part in self.others]

    def restore(self, network: bool = True) -> None:
        """Put everything back, or all but the network."""
        if network:
            self.network.load_state_dict(self._weights)
        for part, state in zip(self.others, self._states, strict=True):
            part.load_state_dict(deepcopy(state))
