"""A network run over an image slab after slab, each layer keeping the planes that its next slab still needs.

The result is that of one pass over the whole image, and every voxel is computed once in every layer; what has to be
kept is a slab of each tensor and the few planes between two slabs. It works for networks whose halo is bounded (see
:mod:`~medresnet3d.inferers.receptive_field`): their layers look at a few planes only, so a layer computes what it can
from the planes that have arrived, and its output lags behind. When the image has ended, the layers go on with what they
have, no more at a time than before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from medresnet3d.errors import ConfigError
from medresnet3d.inferers.plane_steps import (
    ASSIGNMENTS,
    AXIS,
    STEPS,
    Call,
    Join,
    Planes,
    Step,
    is_marked,
    mark,
    planes_of,
)
from medresnet3d.inferers.tracing import tensors_in

MOST_IDLE = 256
"""Calls without an output, after the image has ended, that no network needs to empty its layers."""


class PlaneStream:
    """Give a network slabs of planes one after the other; get the planes of its outputs as they become final.

    Args:
        network: maps (B, C, planes, ...) to one or several tensors of as many planes.
    """

    def __init__(self, network: Callable[[torch.Tensor], Any]) -> None:
        self.network = network

    def run(self, slabs: Iterable[torch.Tensor]) -> Iterator[Any]:
        """Go through an image.

        Args:
            slabs: each (B, C, planes, ...), of a number of planes that the network takes (a multiple of its coarsest
                grid) and not larger than the first.

        Yields:
            The network's output in its own structure, each tensor with the planes that have become final: after those
            returned before, and possibly none.

        Raises:
            ConfigError: if a layer cannot be computed in slabs, or the network computes something else for another
                slab.
        """
        steps: list[Step] = []
        waiting = iter(slabs)
        slab = next(waiting)
        nominal = slab.shape[AXIS]
        ended, idle = False, 0
        while not ended:
            following = next(waiting, None)
            output = self._next(slab, nominal, following is None, steps)
            ended = all(planes_of(tensor).ended for tensor in tensors_in(output))
            idle = idle + 1 if slab.shape[AXIS] == 0 and not _any_planes(output) else 0
            if idle > MOST_IDLE:
                raise ConfigError("the network's output does not go on slab by slab.")
            yield output
            slab = slab.narrow(AXIS, 0, 0) if following is None else following

    def _next(self, slab: torch.Tensor, nominal: int, last: bool, steps: list[Step]) -> Any:
        slab = slab.view_as(slab)  # a tensor of our own, to be marked
        mark(slab, Planes(Fraction(1), last))
        with _Interception(steps, slab.shape[AXIS], nominal):
            output = self.network(slab)
        if not all(is_marked(tensor) for tensor in tensors_in(output)):
            raise ConfigError("an output of the network does not depend on the image, or is no tensor of its planes.")
        return output


def _any_planes(output: Any) -> bool:
    return any(tensor.shape[AXIS] for tensor in tensors_in(output))


class _Interception(TorchFunctionMode):
    """Send the calls of one forward pass through the steps that know the planes before; the n-th to the n-th step."""

    def __init__(self, steps: list[Step], planes: int, nominal: int) -> None:
        super().__init__()
        self.steps = steps
        self.planes = planes
        self.nominal = nominal
        self.number = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        call = Call(func, args, kwargs or {}, self.nominal)
        name = getattr(func, "__name__", "").strip("_")
        marked = [tensor for tensor in tensors_in((args, call.kwargs)) if is_marked(tensor)] if name != "get" else []
        if not marked:
            return func(*args, **call.kwargs)
        result, planes = self._run(name, call, marked)
        mark(result, planes)
        return result

    def _run(self, name: str, call: Call, marked: list[torch.Tensor]) -> tuple[Any, Planes]:
        if name == "narrow" and call.args[1] == AXIS:
            return self._uncropped(*call.args), planes_of(marked[0])
        kind = STEPS.get(name, Join if len(marked) > 1 and name not in ASSIGNMENTS else None)
        if kind is None:
            return call.function(*call.args, **call.kwargs), planes_of(marked[0])
        if self.number == len(self.steps):
            self.steps.append(kind(name))
        step = self.steps[self.number]
        self.number += 1
        if step.name != name:
            raise ConfigError(f"the network calls {name} for one slab of the image where it calls {step.name} before.")
        return step.run(call)

    def _uncropped(self, tensor: torch.Tensor, axis: int, start: int, length: int) -> torch.Tensor:
        """A crop to the size of the input, which has the size that the network wants."""
        if start == 0 and length == self.planes:
            return tensor.view_as(tensor)
        raise ConfigError("the network crops planes of the image; that cannot be done slab by slab.")
