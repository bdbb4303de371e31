from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.networks.two_stage_detector import LEAST, TwoStageDetector, build_two_stage_detector
from tests.networks.base import NetworkSuite


class Dense(nn.Module):
    """Logits that are the image itself (centres) and whether it is above a half (masks)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.logit(x.clamp(1e-3, 1 - 1e-3)), x - 0.5], 1)


class Brightest(nn.Module):
    """The logit of a cube is 4 where its mean is above a threshold, else -4."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, cubes: torch.Tensor) -> torch.Tensor:
        return torch.where(cubes.flatten(1).mean(1, keepdim=True) > self.threshold, 4.0, -4.0)


def detector(**options: Any) -> TwoStageDetector:
    return TwoStageDetector(Dense(), Brightest(0.2), [9.0], 9, distance=3, reach=6, **options).eval()


def blobs() -> torch.Tensor:
    """A large and a small bright square, and a dim one."""
    image = torch.zeros(1, 1, 40, 40)
    image[0, 0, 4:11, 4:11], image[0, 0, 7, 7] = 0.9, 0.95
    image[0, 0, 20:22, 30:32], image[0, 0, 20, 30] = 0.8, 0.85
    image[0, 0, 33, 5] = 0.05
    return image


def probability(network: nn.Module, image: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return network(image).sigmoid()[0, 0]


class TestTwoStageDetector(NetworkSuite):
    size = 16
    odd_size = (19, 17, 18)
    batch = 2
    counts: ClassVar[Any] = (({"width": 1.0}, 7_687_179), ({"width": 0.5}, 1_926_123))
    scriptable = False

    def build(self, spatial_dims: int = 3, **options: Any) -> nn.Module:
        small: dict[str, Any] = {"width": 0.25, "scales_mm": (6.0, 9.0), "cube_size": 8, "candidates": 4}
        small |= {"candidate_threshold": 0.0}  # so that a network that has learnt nothing has candidates
        return build_two_stage_detector(spatial_dims, **(options or {**small, "largest_mm": 3.0}))

    def output_shape(self, image: torch.Tensor) -> tuple[int, ...]:
        return image.shape

    def test_backward_reaches_every_parameter(self, spatial_dims: int) -> None:
        """Of both networks, each by itself, as they are trained."""
        network = self.seeded(spatial_dims).train()
        image = self.image(spatial_dims)
        centres = torch.tensor([[[4] * spatial_dims, [9] * spatial_dims]]).expand(len(image), -1, -1)
        network(image).square().sum().backward()
        network.second(network.cubes(image, centres).flatten(0, 1)).square().sum().backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None and float(parameter.grad.abs().sum()) > 0, name

    def test_bf16(self, spatial_dims: int) -> None:
        """Which voxel is a peak may turn over by rounding; the numbers that it is found by may not move far."""
        network, image = self.seeded(spatial_dims), self.image(spatial_dims)
        with torch.no_grad():
            full = network.train()(image)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                half, answer = network(image), network.eval()(image)
        assert (half.float() - full).abs().max() <= self.bf16_tolerance * full.abs().max()
        assert torch.isfinite(answer).all()


def test_before_the_second_stage_is_trained_candidates_keep_the_first_s_probability() -> None:
    found = probability(detector(), blobs())
    assert torch.allclose(found[4:11, 4:11], torch.tensor(0.95), atol=1e-3)
    assert torch.allclose(found[20:22, 30:32], torch.tensor(0.85), atol=1e-3)
    assert int((found > 2 * LEAST).sum()) == 49 + 6, "their masks and the voxels beside their peaks, and nothing else"
    assert float(found[33, 5]) == pytest.approx(LEAST, rel=0.01), "below the threshold"


@pytest.mark.parametrize(
    ("fusion", "large", "small"),
    [("second", 0.982, 0.018), ("mean", 0.966, 0.434), ("product", 0.933, 0.0153), ("first", 0.95, 0.85)],
)
def test_the_second_stage_scores_each_candidate(fusion: str, large: float, small: float) -> None:
    network = detector(fusion=fusion)
    network.scoring.fill_(True)
    found = probability(network, blobs())
    assert float(found[7, 7]) == pytest.approx(large, abs=2e-3)
    assert float(found[20, 30]) == pytest.approx(small, abs=2e-3)
    assert float(found[33, 5]) == pytest.approx(LEAST, rel=0.01)


def test_only_the_best_candidates_of_an_image_are_kept() -> None:
    found = probability(detector(count=1), blobs())
    assert float(found[7, 7]) > 0.9 and float(found[20, 30]) < 2 * LEAST


def test_scoring_is_part_of_the_state() -> None:
    network, other = detector(), detector()
    network.scoring.fill_(True)
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(blobs()), network(blobs()))


def test_in_training_it_is_the_first_network() -> None:
    image = blobs()
    assert torch.equal(detector().train()(image), Dense()(image))


def test_lengths_are_given_in_millimetres() -> None:
    network = build_two_stage_detector(2, width=0.25, voxel_size_mm=2.0)
    assert (network.edges, network.distance, network.reach) == ([10.0, 15.0, 20.0], 2, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fusion": "sum"}, "second, mean, product"),
        ({"voxel_size_mm": 0.0}, "above 0 mm"),
        ({"candidate_threshold": 1.0}, "threshold 1.0"),
        ({"candidates": 0}, "count 0"),
    ],
)
def test_what_means_nothing_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_two_stage_detector(2, **options)


def test_a_traced_detector_takes_images_of_other_sizes() -> None:
    torch.manual_seed(0)
    network = build_two_stage_detector(
        2, width=0.25, widths=(16, 32), cube_size=8, candidates=5, candidate_threshold=0.0, largest_mm=4.0
    ).eval()
    with torch.no_grad():
        traced = torch.jit.trace(network, torch.rand(1, 1, 32, 32))
        other = torch.rand(2, 1, 40, 24)
        assert len(network(other).unique()) > 5
        torch.testing.assert_close(traced(other), network(other))
