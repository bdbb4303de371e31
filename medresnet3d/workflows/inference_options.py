"""What a run may change about how a bundle computes: exactness, number format, and answering in label maps at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from monai.transforms import Activationsd, AsDiscreted, CastToTyped, Compose, EnsureTyped, MapTransform

from medresnet3d.engines import Precision
from medresnet3d.engines.inferer import PrecisionInferer
from medresnet3d.errors import ConfigError
from medresnet3d.inferers import SlidingWindowInferer

if TYPE_CHECKING:
    from medresnet3d.inferers import InferenceReport
    from medresnet3d.workflows.bundle_parts import BundleParts

LEFT_OUT = 0.001
"""Share of an image from which on a reader is told that it was left out."""


def with_precision(inferer: Callable[..., Any], precision: Precision, exact: bool = False) -> Callable[..., Any]:
    """Let an inferer compute in a number format.

    Args:
        inferer: the package's sliding window has a number format of its own, which stays; any other is run under
            automatic mixed precision.
        precision: the number format.
        exact: compute in fp32 as MONAI would, whatever ``precision`` says.
    """
    if not isinstance(inferer, SlidingWindowInferer):
        return PrecisionInferer(inferer, Precision("fp32") if exact else precision)
    if exact:
        inferer.strategy = "exact"
    return inferer


def use_precision(parts: BundleParts, name: str) -> None:
    """Let a bundle compute in another number format than it would.

    Raises:
        ConfigError: if there is no such format, or the bundle's inferer chooses its own.
    """
    precision = Precision(name)
    precision.resolve(parts.device)
    if isinstance(parts.inferer, SlidingWindowInferer):
        parts.inferer.precision = name
    elif isinstance(parts.inferer, PrecisionInferer):
        parts.inferer.precision = precision
    elif precision.resolve(parts.device) != "fp32":
        raise ConfigError(
            f"--precision {name}: the inferer of this bundle ({type(parts.inferer).__name__}) has no number format to "
            "choose; leave --precision out."
        )
    parts.precision = precision


def answer_labels_directly(parts: BundleParts) -> bool:
    """Let the sliding window give label maps instead of logits, where the bundle takes the largest channel anyway.

    That is so where the bundle's answer begins with an argmax over the channels (a softmax or sigmoid before it changes
    nothing). The logits of all channels are then never in memory together.

    Returns:
        whether it could be done.
    """
    inferer, answer = parts.inferer, parts.answer
    if not isinstance(inferer, SlidingWindowInferer) or inferer.strategy == "exact" or inferer.output != "logits":
        return False
    if parts.task != "segmentation" or parts.outputs != ("pred",) or type(answer) is not Compose:
        return False
    rest = _behind_argmax(answer.transforms)
    if rest is None:
        return False
    inferer.output = "labels"
    # Transforms that follow get the type that the argmax would have given them; by itself a label map stays small.
    parts.answer = Compose([CastToTyped("pred", dtype=torch.float32), *rest] if rest else [], log_stats=False)
    return True


def _behind_argmax(steps: Sequence[Any]) -> Sequence[Any] | None:
    """Give what follows the argmax with which a chain begins; ``None`` where it begins otherwise."""
    for number, step in enumerate(steps):
        if not isinstance(step, MapTransform) or tuple(step.keys) != ("pred",):
            return None
        if type(step) is AsDiscreted:
            plain = not any((*step.to_onehot, *step.threshold, *step.rounding))
            return steps[number + 1 :] if plain and all(step.argmax) else None
        if type(step) is not EnsureTyped and not (type(step) is Activationsd and not any(step.other)):
            return None
    return None


def what_was_left_out(report: InferenceReport | None, background: str = "background") -> list[str]:
    """Say in sentences what a reader must know of how an image was computed.

    Args:
        report: of the inferer; ``None`` for one that gives none.
        background: name of the answer for what was left out.
    """
    if report is None:
        return []
    notes = [f"{note[:1].upper()}{note[1:].rstrip('.')}." for note in report.notes]
    if report.left_out >= LEFT_OUT:
        notes.append(
            f"{100 * report.left_out:.1f} % of the image is empty; the network did not see it and its answer is "
            f"{background}."
        )
    return notes
