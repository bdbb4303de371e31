from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer as MonaiInferer

from medresnet3d.errors import ConfigError
from medresnet3d.inferers import SlidingWindowInferer, TwoStageInferer
from medresnet3d.networks.two_stage_detector import TwoStageDetector, build_two_stage_detector


@pytest.fixture(scope="module")
def network() -> TwoStageDetector:
    torch.manual_seed(3)
    network = build_two_stage_detector(
        3, width=0.25, widths=(16, 32), scales_mm=(8.0, 16.0), cube_size=8, candidates=6, largest_mm=12.0
    )
    network.scoring.fill_(True)
    with torch.no_grad():
        for parameter in network.second.classifier.parameters():
            parameter.mul_(20)  # so that the candidates' scores differ
        network.first.centres.classifier.bias += 4
    return network.eval()


def scan() -> torch.Tensor:
    return torch.rand(1, 1, 48, 40, 44, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("strategy", ["halo", "whole", "auto"])
def test_the_answer_is_that_of_one_pass(network: TwoStageDetector, strategy: str) -> None:
    image = scan()
    inferer = TwoStageInferer(24, strategy=strategy, precision="fp32", memory=4_000_000)
    with torch.no_grad():
        expected = network(image)
    assert 1 < len(expected.unique()) <= 1 + 6
    torch.testing.assert_close(inferer(image, network), expected, atol=1e-3, rtol=1e-3)
    if strategy == "halo":
        assert inferer.report is not None and inferer.report.windows_total > 1


def test_windows_over_the_whole_detector_have_another_answer(network: TwoStageDetector) -> None:
    """Which is why the second stage is not windowed: more candidates than one list, and cut cubes."""
    image = scan()
    with torch.no_grad():
        expected = network(image)
        windows = MonaiInferer(24, overlap=0.5, mode="gaussian")(image, network)
    assert float((windows - expected).abs().max()) > 0.5
    exact = TwoStageInferer(24, overlap=0.5, mode="gaussian", strategy="exact")(image, network)
    assert len(exact.unique()) <= 1 + 6


def test_metadata_stay_and_other_networks_are_windowed_as_ever(network: TwoStageDetector) -> None:
    image = MetaTensor(scan(), affine=torch.diag(torch.tensor([2.0, 2, 2, 1])))
    answer = TwoStageInferer(48, precision="fp32")(image, network)
    assert isinstance(answer, MetaTensor) and torch.equal(answer.affine, image.affine)
    dense = TwoStageInferer(24, precision="fp32")(scan(), network.first)
    torch.testing.assert_close(dense, SlidingWindowInferer(24, precision="fp32")(scan(), network.first))


def test_the_second_stage_needs_logits(network: TwoStageDetector) -> None:
    with pytest.raises(ConfigError, match="needs the logits"):
        TwoStageInferer(24, output="labels")(scan(), network)
