"""The network as the passes call it: made fast where that is allowed, with its further arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.inferers.execution import PreparedNetwork, prepare
from medresnet3d.inferers.transfer import Boxes, gather
from medresnet3d.inferers.views import Views


@dataclass
class Extras:
    """What a network is given beside the window.

    Attributes:
        args: further arguments.
        kwargs: further named arguments.
        condition: (B, C, ...) an image of which the network gets the same windows by the name ``condition``, padded and
            cropped like the image; ``None``: there is none.
        with_coord: the network's second argument says where the windows lie, as MONAI does it.
    """

    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    condition: torch.Tensor | None = None
    with_coord: bool = False

    @property
    def any(self) -> bool:
        """Whether there is anything."""
        return bool(self.args or self.kwargs or self.condition is not None or self.with_coord)


class Runner:
    """Calls the network for windows of an image.

    Args:
        network: a module, or any function of a batch.
        device: where to compute.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        fold: fold batch normalisation into convolutions.
        backend: ``torch`` or ``openvino``.
        exact: call the network as it is, in fp32.
        views: mirrored and turned views to average.
        extras: further arguments of the network.

    Attributes:
        prepared: whether a fast copy of the network runs.
        precision: the number format of the computations.

    Raises:
        ConfigError: if a function, which cannot be changed, is to be computed in another precision or backend.
    """

    def __init__(
        self,
        network: Callable[..., Any],
        device: torch.device,
        *,
        precision: str = "auto",
        fold: bool = True,
        backend: str = "torch",
        exact: bool = False,
        views: Views | None = None,
        extras: Extras | None = None,
    ) -> None:
        self.device = device
        self.views = Views() if views is None else views
        self.extras = Extras() if extras is None else extras
        self.network = network
        self._options: dict[str, Any] = {}
        self._original: nn.Module | None = None
        self._ready: list[PreparedNetwork] = []
        self.prepared = isinstance(network, nn.Module) and not exact
        self.precision, self.backend = "fp32", "torch"
        if self.prepared:
            assert isinstance(network, nn.Module)
            self._options = {"device": device, "precision": precision, "fold": fold, "backend": backend}
            self._original = network
            ready = prepare(network, **self._options)
            self.network, self.precision, self.backend = ready, ready.precision, ready.backend
            self._ready.append(ready)
        elif not exact and (precision not in ("auto", "fp32") or backend != "torch"):
            raise ConfigError(
                f'precision "{precision}" with backend "{backend}" needs a torch.nn.Module, and the network is a '
                f"{type(network).__name__}; give the module itself, or precision auto and backend torch."
            )

    def reordered(self, order: Sequence[int]) -> PreparedNetwork:
        """Return the fast copy of the network for images whose axes come in another order."""
        assert self._original is not None  # only modules are computed in another order
        self._ready.append(prepare(self._original, **self._options, order=order))
        return self._ready[-1]

    @property
    def fallbacks(self) -> list[str]:
        """What could not be done to make the network fast, with the reason; known after the first window."""
        return [words for ready in self._ready for words in ready.fallbacks]

    def forward(self, windows: torch.Tensor, boxes: Boxes, image: int = 0) -> Any:
        """Return the network's output for windows (N, C, ...), averaged over the views.

        Args:
            windows: on :attr:`device`.
            boxes: where each lies in the padded image.
            image: the number of the image in its batch.
        """
        if not self.prepared and not windows.is_floating_point():
            windows = windows.float()
        args, kwargs = list(self.extras.args), dict(self.extras.kwargs)
        if self.extras.with_coord:
            args.insert(0, [[slice(image, image + 1), slice(None), *box] for box in boxes])
        if self.extras.condition is not None:
            kwargs["condition"] = gather(self.extras.condition[image : image + 1], boxes).to(self.device)
        # A fast copy has the number format of its own; what is active around the call must not change it again.
        with torch.autocast(self.device.type, enabled=False) if self.prepared else nullcontext():
            return self.views.forward(windows, lambda view: self.network(view, *args, **kwargs))


def home(network: Any, image: torch.Tensor) -> torch.device:
    """Return the device of the network's parameters, or the image's if it has none."""
    parameter = next(network.parameters(), None) if isinstance(network, nn.Module) else None
    return image.device if parameter is None else parameter.device
