from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from medresnet3d.data import SeededDataset
from medresnet3d.engines.candidate_stage import CandidateStage
from medresnet3d.engines.staged import StageContext
from medresnet3d.errors import DataError
from medresnet3d.losses.hard_negatives import HardNegativeLoss
from medresnet3d.networks.attention_resnet import MultiScaleAttentionResNet
from medresnet3d.networks.two_stage_detector import TwoStageDetector

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
AFFINE[:3, 3] = [10, -20, 5]
FINDING, FAR, NEAR = (8, 8, 8), (20, 20, 20), (8, 8, 12)


class Brightness(nn.Module):
    """Centres where the image is bright, no masks."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([20 * x - 10, torch.full_like(x, -5.0)], 1)


def scan(item: dict[str, Any]) -> dict[str, Any]:
    """Three bright voxels: a finding, one beside it and one far away; they fade so that nothing else is a peak."""
    image = torch.arange(28.0**3).reshape(1, 28, 28, 28) * 1e-6
    for place, value in ((FINDING, 0.9), (FAR, 1.0), (NEAR, 0.8)):
        image[(0, *place)] = value
    centre = AFFINE[:3, :3] @ np.array(FINDING) + AFFINE[:3, 3]
    findings = torch.full((4, 5), torch.nan)
    if item["has_finding"]:
        findings[0] = torch.tensor([*centre, 8.0, 0.0])
    return {"image": MetaTensor(image, affine=torch.from_numpy(AFFINE)), "label": findings}


def detector() -> TwoStageDetector:
    torch.manual_seed(0)
    second = MultiScaleAttentionResNet(3, 2, widths=(4, 4), blocks=1)
    return TwoStageDetector(Brightness(), second, [4.0, 8.0], 8, distance=2, reach=2)


def stage(network: TwoStageDetector, has_finding: bool = True, **options: Any) -> CandidateStage:
    data = SeededDataset([{"has_finding": has_finding, "image": str(n)} for n in range(3)], None, cache="none")
    options = {"candidates_per_scan": 3, "shifts": 2, "batch_size": 4, "augmentation": "none", **options}
    return CandidateStage(
        "second",
        network,
        data,
        scan,
        lambda batch, first: first(batch),
        torch.optim.Adam(network.parameters(), 0.01),
        HardNegativeLoss(),
        2,
        **options,
    )


def context(network: nn.Module, folder: Path, resume: bool = False) -> StageContext:
    display = {"tensorboard": False, "progress": False}
    return StageContext(network, torch.device("cpu"), folder, 0, resume, "fp32", 1e9, display)


def test_cubes_are_findings_hits_and_candidates_away_from_any(tmp_path: Path) -> None:
    network = detector()
    cubes = stage(network)._cubes(network, context(network, tmp_path))
    labels = [cube["label"] for cube in cubes]
    assert labels == [1, 1, 1, 0] * 3, "twice the finding, its own candidate, the far one; not that beside the finding"
    prepared = scan({"has_finding": True})
    places = torch.tensor([[FINDING, FINDING, FINDING, FAR]]).float()
    expected = network.cubes(prepared["image"].as_tensor()[None], places)[0].half()
    for number in (0, 2, 3):
        assert torch.equal(cubes[number]["image"], expected[number])
    assert not torch.equal(cubes[1]["image"], expected[1]), "the second time it is shifted"


def test_it_trains_the_second_network_alone_and_lets_it_score(tmp_path: Path) -> None:
    network = detector()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    stage(network).run(context(network, tmp_path))
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert bool(network.scoring)
    assert {name.split(".")[0] for name in changed} == {"second", "scoring"}
    assert "second.classifier.weight" in changed


def test_a_resumed_stage_cuts_and_trains_nothing_again(tmp_path: Path) -> None:
    network, other = detector(), detector()
    stage(network).run(context(network, tmp_path))
    again = stage(other)
    again.transform = lambda item: pytest.fail("cut again")
    again.run(context(other, tmp_path, resume=True))
    for name, value in network.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_scans_without_any_finding_are_refused(tmp_path: Path) -> None:
    network = detector()
    with pytest.raises(DataError, match="no findings"):
        stage(network, has_finding=False).run(context(network, tmp_path))
