"""The figure that a detection network is validated by while it trains, as an ignite metric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from ignite.metrics import Metric

from medresnet3d.metrics.detection import RATES, Matched, froc, match_detections


class DetectionScore(Metric):
    """CPM, or the sensitivity at one rate, over all scans of a validation; a key metric of an evaluator.

    In a configuration::

        "key_metric": {"cpm": {"_target_": "medresnet3d.metrics.DetectionScore",
                               "output_transform": {"_target_": "monai.handlers.from_engine",
                                                    "keys": ["pred", "label"]}}}

    where the postprocessing ends with :class:`~medresnet3d.transforms.detection.DetectionsFromMapd` and the labels
    come from :class:`~medresnet3d.transforms.detection_targets.FindingsFromBoxesd`. NaN where no scan
    has a finding. With several processes all scans count once.

    Args:
        rates: false positives a scan at which the sensitivity is read; the score is their mean.
        output_transform: from the engine's output to lists of detections and of findings, one each a scan.
    """

    def __init__(self, rates: Sequence[float] = RATES, output_transform: Callable[..., Any] = lambda output: output):
        self.rates = tuple(rates)
        self._scans: list[Matched] = []
        super().__init__(output_transform)

    def reset(self) -> None:
        """Forget all scans."""
        self._scans = []

    def update(self, output: tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]]) -> None:
        """Add the scans of a batch: detections (N, 5) and findings (F, 5) of each."""
        for detections, findings in zip(*output, strict=True):
            self._scans.append(match_detections(_array(detections), _array(findings)))

    def compute(self) -> float:
        """Give the score of all scans of all processes."""
        scans = self._scans
        if dist.is_initialized():
            gathered: list[list[Matched]] = [[] for _ in range(dist.get_world_size())]
            dist.all_gather_object(gathered, scans)
            scans = [scan for part in gathered for scan in part]
        return float(froc(scans).at(self.rates).mean())


def _array(rows: torch.Tensor) -> np.ndarray:
    return torch.as_tensor(rows).detach().cpu().double().numpy()
