"""The members of an ensemble are weighed by what they have right on the cases given, and on no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medresnet3d.engines.fusion_fit import FitFusionWeights
from medresnet3d.errors import ConfigError
from medresnet3d.networks.ensembles import Ensemble


class Constant(nn.Module):
    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, x: Tensor) -> Tensor:
        return self.logits.expand(len(x), -1)


class Cases:
    def __init__(self, labels: list[int]) -> None:
        self.data: list[dict[str, Any]] = [
            {"image": torch.zeros(1, 2, 2), "label": label, "patient": f"p{number}"}
            for number, label in enumerate(labels)
        ]

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.data[index]


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_weights_are_the_accuracies_on_validation(batch_size: int, tmp_path: Path) -> None:
    ensemble = Ensemble([Constant(5.0, 0.0, 0.0), Constant(0.0, 5.0, 0.0)]).train()
    FitFusionWeights(Cases([0, 0, 0, 1]), batch_size)(ensemble, tmp_path)
    assert ensemble.weights.tolist() == [0.75, 0.25]
    assert ensemble.training
    answer = ensemble.eval()(torch.zeros(1, 1, 2, 2)).exp()[0]
    assert answer[0] > 2 * answer[1]


def test_a_network_without_members_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no members to weigh"):
        FitFusionWeights(Cases([0]))(Constant(1.0), tmp_path)
