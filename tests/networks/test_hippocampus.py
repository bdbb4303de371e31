from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.networks import start_from
from medresnet3d.networks.hippocampus import (
    HippocampusClassifier,
    PatchDenseNet,
    build_hippocampus_network,
    mask_centre,
)
from medresnet3d.networks.residual_unet import ResidualUNet
from tests.networks.base import ClassifierSuite


def small(spatial_dims: int = 3, **options: Any) -> HippocampusClassifier:
    segmenter = ResidualUNet(spatial_dims, 1, 3, width=8, fine=4, blocks=(1, 1, 1))
    patches = PatchDenseNet(spatial_dims, growth=4, layers=(1, 1))
    return HippocampusClassifier(segmenter, patches, patch_size=[8] * spatial_dims, **options)


def segments(network: HippocampusClassifier, mask: torch.Tensor) -> None:
    """Let the network find this mask whatever it is given."""
    logits = torch.stack([0.5 - mask, mask - 0.5], 1)
    network.segmenter.decode = lambda features: logits  # type: ignore[method-assign]


class TestHippocampusClassifier(ClassifierSuite):
    in_channels = 2
    learning_rate = 3e-3
    scriptable = False
    counts: ClassVar[Any] = (({"spatial_dims": 3}, 108_873),)

    def build(self, spatial_dims: int = 3, **options: Any) -> nn.Module:
        return small(spatial_dims, **options)

    def training_logits(self, output: Any) -> torch.Tensor:
        """The first of the outputs of training."""
        logits: torch.Tensor = output[0]
        return logits


def dense(mask: np.ndarray) -> torch.Tensor:
    """Logits (1, 2, ...) of which the mask is the likelier class."""
    inside = torch.from_numpy(mask).float()
    return torch.stack([1 - inside, inside])[None]


@given(st.integers(0, 2**31), st.integers(2, 3))
def test_the_centre_is_the_rounded_centroid(seed: int, dims: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(3, 9, dims)) < 0.3
    mask.flat[rng.integers(mask.size)] = True
    centroid = np.argwhere(mask).mean(0)
    found = mask_centre(dense(mask))[0].numpy()
    assert np.abs(found - centroid).max() <= 0.5 + 1e-4


def test_every_part_counts_and_a_mask_of_one_voxel_is_that_voxel() -> None:
    logits = torch.zeros(2, 3, 9, 9)
    logits[:, 0] = 1.0
    logits[0, 1, 2, 5] = 2.0
    logits[1, 1, 2, 2] = logits[1, 2, 6, 8] = 2.0
    assert mask_centre(logits).tolist() == [[2, 5], [4, 5]]


def test_an_empty_mask_has_its_centre_in_the_middle() -> None:
    logits = torch.stack([torch.ones(3, 8, 9, 7), torch.zeros(3, 8, 9, 7)], 1)
    assert mask_centre(logits).tolist() == [[4, 4, 3]] * 3


def test_patches_are_cut_around_the_mask_of_each_side() -> None:
    network, image = small(2).eval(), torch.randn(1, 2, 32, 32)
    mask = torch.zeros(2, 32, 32)
    mask[0, 10:13, 20:23] = 1.0
    mask[1, 24:27, 7:10] = 1.0
    segments(network, mask)
    seen: list[torch.Tensor] = []
    network.patches.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network(image)
    assert torch.equal(seen[0][0, 0], image[0, 0, 7:15, 17:25])
    assert torch.equal(seen[0][1, 0], image[0, 1, 21:29, 4:12])


def test_without_a_mask_the_patch_comes_from_the_middle_and_there_is_an_answer() -> None:
    network, image = small(2).eval(), torch.randn(1, 2, 32, 32)
    segments(network, torch.zeros(2, 32, 32))
    seen: list[torch.Tensor] = []
    network.patches.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        assert torch.isfinite(network(image)).all()
    assert torch.equal(seen[0][:, 0], image[0, :, 12:20, 12:20])


def test_training_gives_the_fused_logits_those_of_each_branch_and_the_mask() -> None:
    network = small(num_classes=3).train()
    fused, shape, texture, mask = network(torch.randn(2, 2, 16, 24, 16))
    assert fused.shape == shape.shape == texture.shape == (2, 3)
    assert mask.shape == (4, 3, 16, 24, 16)


def test_weights_of_the_segmentation_start_the_classifier_and_may_be_frozen(tmp_path: Path) -> None:
    torch.manual_seed(0)
    segmenter = build_hippocampus_network("segmentation")
    torch.save(segmenter.state_dict(), tmp_path / "model.pt")
    network = build_hippocampus_network("classification", num_classes=3)
    start_from(network, tmp_path / "model.pt", "stage3")
    assert isinstance(network, HippocampusClassifier)
    for name, value in segmenter.state_dict().items():
        assert torch.equal(network.segmenter.state_dict()[name], value), name
    frozen = {name.split(".")[0] for name, each in network.named_parameters() if not each.requires_grad}
    assert frozen == {"segmenter"}
    assert all(each.requires_grad for each in network.patches.parameters())
    assert not network.train().segmenter.down1.training
    whole = tmp_path / "whole.pt"
    torch.save(network.state_dict(), whole)
    again = start_from(build_hippocampus_network("classification", num_classes=3), whole)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))


def test_a_classifier_has_the_segmentation_network_of_its_size() -> None:
    with torch.device("meta"):
        for size in ("slim", "paper"):
            alone = build_hippocampus_network("segmentation", size=size)
            both = build_hippocampus_network("classification", size=size)
            assert isinstance(both, HippocampusClassifier)
            shapes = [{n: v.shape for n, v in each.state_dict().items()} for each in (alone, both.segmenter)]
            assert shapes[0] == shapes[1]


@pytest.mark.parametrize("options", [{"task": "regression"}, {"size": "huge"}])
def test_an_unknown_task_or_size_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"segmentation|slim"):
        build_hippocampus_network(**options)  # type: ignore[arg-type]


def test_a_patch_has_two_or_three_axes() -> None:
    with pytest.raises(ConfigError, match="two or three"):
        HippocampusClassifier(ResidualUNet(width=8), PatchDenseNet(), patch_size=[8])
