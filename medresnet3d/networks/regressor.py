"""From a classification network to one number: its scale, and the correction of its bias.

A network that is trained to estimate age by its error leans to the mean: the young come out too old and the old too
young. If the estimate is ``slope * age + intercept`` on average, ``(estimate - intercept) / slope`` has no such slope;
both numbers are fitted on validation cases, never on the cases that are measured. This form needs no true age of the
case at hand. Papers: J. H. Cole et al. Brain age predicts mortality. Molecular Psychiatry 23 (2018); A.-M. G. de Lange,
J. H. Cole. Commentary: correction procedures in brain-age prediction. NeuroImage: Clinical 26 (2020).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.networks.classifier import build_classifier

LEAST_SLOPE = 0.2
"""Estimates that follow the truth less than this carry too little of it: division would blow up their noise."""

LEAST_CASES = 3


class NumberRegressor(nn.Module):
    """A network with one output, on the scale of the truth, with a linear correction that acts in eval mode.

    Args:
        backbone: a network of :func:`~medresnet3d.networks.classifier.build_classifier` with one output, which need
            only give numbers around 0.
        mean: what the output 0 means, in the unit of the truth.
        deviation: what the output 1 adds to it.

    Shapes: (B, in_channels, ...) to (B, 1).

    Raises:
        ConfigError: if the deviation is not positive.
    """

    if TYPE_CHECKING:  # TorchScript would read these
        mean: torch.Tensor
        deviation: torch.Tensor
        slope: torch.Tensor
        intercept: torch.Tensor
    fitted_names: ClassVar[str] = r"(slope|intercept)$"  # that no training starts from
    __jit_unused_properties__ = ("classifier",)

    def __init__(self, backbone: nn.Module, mean: float, deviation: float) -> None:
        super().__init__()
        if deviation <= 0:
            raise ConfigError(f"The deviation of the truth is {deviation}; it must be positive.")
        self.backbone = backbone
        self.register_buffer("mean", torch.tensor(float(mean)))
        self.register_buffer("deviation", torch.tensor(float(deviation)))
        self.register_buffer("slope", torch.tensor(1.0))
        self.register_buffer("intercept", torch.tensor(0.0))

    @property
    def classifier(self) -> nn.Module:
        """The last layer."""
        layer: nn.Module = self.backbone.classifier  # type: ignore[assignment]
        return layer

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Features in front of the last layer, (B, F)."""
        return self.backbone.forward_features(x)  # type: ignore[no-any-return, operator]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Estimates, (B, 1); corrected in eval mode."""
        estimate = self.mean + self.deviation * self.backbone(x)
        if self.training:
            return estimate
        return (estimate - self.intercept) / self.slope

    @torch.jit.unused
    def reset_correction(self) -> None:
        """Let estimates pass as they are."""
        self.slope.fill_(1.0)
        self.intercept.fill_(0.0)

    @torch.jit.unused
    def fit_correction(self, estimate: torch.Tensor, truth: torch.Tensor) -> None:
        """Fit slope and intercept to uncorrected estimates of cases that the network was not trained on.

        Args:
            estimate: (N,), of the network without correction.
            truth: (N,).

        Raises:
            DataError: if there are too few cases, their truth is all the same, or the estimates hardly follow it; the
                correction is then left as it was.
        """
        x, y = truth.double().flatten(), estimate.double().flatten()
        if len(x) < LEAST_CASES or float(x.std()) == 0:
            raise DataError(
                f"{len(x)} validation cases with {len(x.unique())} different true values cannot show a bias; "
                f"give at least {LEAST_CASES} that differ, or set `bias_correction` to false."
            )
        slope = float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
        if slope < LEAST_SLOPE:
            raise DataError(
                f"The estimates of the validation cases rise by {slope:.2f} for each unit of the truth, too little to "
                "be corrected; train longer or on more cases."
            )
        self.slope.fill_(slope)
        self.intercept.fill_(float(y.mean()) - slope * float(x.mean()))


def build_regressor(
    arch: str = "resnet18", mean: float = 0.0, deviation: float = 1.0, **options: Any
) -> NumberRegressor:
    """Build a network for one number; all further options are those of :func:`build_classifier`.

    Args:
        arch: a key of :data:`~medresnet3d.networks.classifier.ARCHITECTURES`.
        mean: about the mean of the truth.
        deviation: about its standard deviation.
        **options: of :func:`~medresnet3d.networks.classifier.build_classifier`, but the number of classes.
    """
    return NumberRegressor(build_classifier(arch, num_classes=1, **options), mean, deviation)
