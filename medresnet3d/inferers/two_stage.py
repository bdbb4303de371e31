"""Whole scans through a detector whose second stage looks at places that its first stage finds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.data import MetaTensor

from medresnet3d.errors import ConfigError
from medresnet3d.inferers.sliding_window import SlidingWindowInferer


class TwoStageInferer(SlidingWindowInferer):
    """A sliding window over the first stage of a two-stage detector, then its second stage once.

    Windows over the whole detector would differ from one pass in three ways: each window would have its own list of
    best candidates in place of the scan's; a cube that reaches out of its window would be filled with air in place of
    the neighbouring tissue; and the scores of a candidate that several windows see would be averaged, with those in
    which it lies at the border. The exact halo of the whole detector (the first stage's, half a cube and a mask's
    reach) would be a hundred voxels. So only the dense stage is computed in windows, tiles or slabs, with the halo
    that it has itself; its logits of the whole scan, two numbers a voxel, go through the network's ``refine`` at once,
    in float32. The result is the detector's own in one pass, as far as the first stage's is.

    A network without ``refine`` is computed as by the base class, whose arguments these are.

    Raises:
        ConfigError: when called, if ``output`` is not ``logits``, which the second stage needs.
    """

    @torch.no_grad()
    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Give the network's output for a whole image; see the base class."""
        refine = getattr(network, "refine", None)
        if refine is None:
            return super().__call__(inputs, network, *args, **kwargs)
        if self.output != "logits":
            raise ConfigError(
                f"output is {self.output!r}, but a two-stage detector needs the logits of its first stage."
            )
        dense = super().__call__(inputs, network.first, *args, **kwargs)  # type: ignore[attr-defined]
        plain = [each.as_tensor() if isinstance(each, MetaTensor) else each for each in (inputs, dense)]
        with torch.autocast(plain[0].device.type, enabled=False):
            output = refine(plain[0].float(), plain[1].to(plain[0].device).float())
        return MetaTensor(output).copy_meta_from(inputs) if isinstance(inputs, MetaTensor) else output
