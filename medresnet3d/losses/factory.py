"""All losses by name: the one door for bundles."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from monai.losses import (
    DeepSupervisionLoss,
    DiceCELoss,
    DiceFocalLoss,
    DiceLoss,
    GeneralizedDiceFocalLoss,
    GeneralizedDiceLoss,
    TverskyLoss,
)
from torch import nn
from torch.nn.modules.loss import _Loss

from medresnet3d.errors import ConfigError
from medresnet3d.losses.a_softmax import ASoftmaxLoss
from medresnet3d.losses.absolute import AbsoluteErrorLoss, HuberLoss
from medresnet3d.losses.center import CenterLoss
from medresnet3d.losses.contrastive import ContrastiveLoss
from medresnet3d.losses.cosface import CosFaceLoss
from medresnet3d.losses.cross_entropy import CrossEntropyLoss
from medresnet3d.losses.deep_supervision import FadingDeepSupervisionLoss
from medresnet3d.losses.euclidean import EuclideanLoss
from medresnet3d.losses.focal import FocalLoss
from medresnet3d.losses.hard_negatives import HardNegativeLoss
from medresnet3d.losses.hierarchical import HierarchicalLoss
from medresnet3d.losses.hinge import HingeLoss
from medresnet3d.losses.hybrid_detection import HybridDetectionLoss
from medresnet3d.losses.l2_softmax import L2SoftmaxLoss
from medresnet3d.losses.l_softmax import LSoftmaxLoss
from medresnet3d.losses.mean_square import MeanSquareLoss
from medresnet3d.losses.merged_cross_entropy import MergedCrossEntropyLoss
from medresnet3d.names import require_name

LOGIT_LOSSES: dict[str, Callable[..., nn.Module]] = {
    "cross_entropy": CrossEntropyLoss,
    "softmax": CrossEntropyLoss,
    "merged_cross_entropy": MergedCrossEntropyLoss,
    "mean_square": MeanSquareLoss,
    "euclidean": EuclideanLoss,
    "hinge": HingeLoss,
    "focal": FocalLoss,
}
FEATURE_LOSSES: dict[str, Callable[..., nn.Module]] = {
    "l_softmax": LSoftmaxLoss,
    "a_softmax": ASoftmaxLoss,
    "l2_softmax": L2SoftmaxLoss,
    "cosface": CosFaceLoss,
    "center": CenterLoss,
    "contrastive": ContrastiveLoss,
}
REGION_LOSSES: dict[str, Callable[..., nn.Module]] = {
    "dice": DiceLoss,
    "generalized_dice": GeneralizedDiceLoss,
    "dice_ce": DiceCELoss,
    "dice_focal": DiceFocalLoss,
    "generalized_dice_focal": GeneralizedDiceFocalLoss,
    "tversky": TverskyLoss,
}
NUMBER_LOSSES: dict[str, Callable[..., nn.Module]] = {"huber": HuberLoss, "absolute": AbsoluteErrorLoss}
DETECTION_LOSSES: dict[str, Callable[..., nn.Module]] = {
    "hybrid_detection": HybridDetectionLoss,
    "hard_negatives": HardNegativeLoss,
}
LOSSES = {**LOGIT_LOSSES, **FEATURE_LOSSES, **REGION_LOSSES, **NUMBER_LOSSES, **DETECTION_LOSSES}


def build_loss(
    name: str = "cross_entropy",
    *,
    auxiliary_steps: int | None = None,
    auxiliary_start: float = 1.0,
    auxiliary_end: float = 1e-3,
    groups: Sequence[int] | None = None,
    group_weight: float = 1.0,
    output_weights: Sequence[float] | None = None,
    **options: Any,
) -> nn.Module:
    """Build a loss by its name.

    There are five kinds: losses of logits, called with (output, label), for classification and, with dense logits,
    segmentation; losses of features (margin, centre, contrastive) for classifiers, which are a
    :class:`medresnet3d.losses.margin.MarginLoss` and fed by :class:`medresnet3d.engines.Trainer`; MONAI's region losses
    for segmentation, with softmax over the output and labels as class numbers unless the options say otherwise
    (``sigmoid: true`` for one output); losses of one estimated number, for regression (``mean_square`` does that too);
    and those of the two stages of a detector, ``hybrid_detection`` and ``hard_negatives``.

    Args:
        name: a key of :data:`LOSSES`.
        auxiliary_steps: for a network with auxiliary outputs, the steps over which their weight fades; wraps the loss
            in :class:`medresnet3d.losses.deep_supervision.FadingDeepSupervisionLoss`.
        auxiliary_start: first auxiliary weight.
        auxiliary_end: last auxiliary weight.
        groups: the group (0, 1, ...) of each class; adds the cross-entropy of the group to a loss of logits, see
            :class:`medresnet3d.losses.hierarchical.HierarchicalLoss`.
        group_weight: weight of that.
        output_weights: for a network with auxiliary outputs, a fixed weight for each output, the main one's first;
            wraps the loss in MONAI's ``DeepSupervisionLoss``.
        **options: arguments of the loss; every loss of logits or features, and most region losses, has
            ``class_weights``, a list of one positive number for each class; these have ``reduction`` too.

    Raises:
        ConfigError: if the name or an option is unknown (the message lists the choices), or a value is impossible.

    Example:
        >>> build_loss("cosface", margin=0.2).margin
        0.2
    """
    constructor = LOSSES[require_name("Loss", name, LOSSES)]
    if name in REGION_LOSSES:
        options = _region_options(name, options)
    choices = list(inspect.signature(constructor).parameters)
    for option in options:
        require_name(f"Loss {name!r}: option", option, choices)
    loss = constructor(**options)
    if groups is not None:
        loss = HierarchicalLoss(groups, group_weight, loss)
    if auxiliary_steps is None and output_weights is None:
        return loss
    if name in FEATURE_LOSSES:
        raise ConfigError(
            f"Loss {name!r} works on the features of one last layer, so it cannot weigh auxiliary outputs; "
            f"choose one of {', '.join((*LOGIT_LOSSES, *REGION_LOSSES))}."
        )
    if auxiliary_steps is None:
        # any module will do, though MONAI says otherwise
        return DeepSupervisionLoss(cast(_Loss, loss), weights=[float(weight) for weight in output_weights or ()])
    if output_weights is not None:
        raise ConfigError("auxiliary_steps and output_weights were given: the weights fade or are fixed, not both.")
    return FadingDeepSupervisionLoss(loss, auxiliary_steps, auxiliary_start, auxiliary_end)


def _region_options(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options of MONAI's loss: ours of class weights by its name, and softmax over class numbers by default."""
    options = dict(options)
    if not options.get("sigmoid", False):
        options = {"softmax": True, "to_onehot_y": True, **options}
    if (weights := options.pop("class_weights", None)) is not None:
        if "weight" not in inspect.signature(REGION_LOSSES[name]).parameters:
            raise ConfigError(f"Loss {name!r} has no class weights; use dice, dice_ce or dice_focal with them.")
        options["weight"] = torch.tensor([float(weight) for weight in weights])
    return options
