from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
import torch
from monai.losses import DiceCELoss
from torch import nn

from medresnet3d.losses.deep_supervision import FadingDeepSupervisionLoss
from medresnet3d.networks.layers.activations import SURVEY
from medresnet3d.networks.layers.choice import LayerChoice
from medresnet3d.networks.layers.maxout import MaxPieces
from medresnet3d.networks.voxresnet import (
    AutoContextVoxResNet,
    VoxRes,
    VoxResNet,
    build_voxresnet,
    start_near_identity,
)
from tests.networks.base import NetworkSuite


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def convolutions(network: nn.Module) -> int:
    return sum(isinstance(module, nn.Conv3d) for module in network.modules())


class TestVoxResNet(NetworkSuite):
    odd_size = (37, 35, 33)
    counts: ClassVar[Any] = (
        ({"width": 64}, 6_930_000),
        ({"width": 64, "in_channels": 3}, 6_931_728),
        ({"width": 16}, 438_432),
    )

    def build(self, spatial_dims: int = 3, **options: Any) -> nn.Module:
        return VoxResNet(spatial_dims, **{"width": 8, **options})

    def output_shape(self, image: torch.Tensor) -> tuple[int, ...]:
        return (image.shape[0], 4, *image.shape[2:])


class TestAutoContextVoxResNet(NetworkSuite):
    odd_size = (19, 17, 18)
    size = 16

    def build(self, spatial_dims: int = 3, **options: Any) -> nn.Module:
        return AutoContextVoxResNet(spatial_dims, **{"width": 8, **options})

    def output_shape(self, image: torch.Tensor) -> tuple[int, ...]:
        return (image.shape[0], 4, *image.shape[2:])


def test_module_has_the_published_number_of_parameters() -> None:
    assert count(VoxRes(LayerChoice(3), 64)) == 221_568


def test_convolutions_are_those_of_the_code_or_of_the_paper() -> None:
    assert convolutions(VoxResNet(width=8)) == 21
    assert convolutions(VoxResNet(width=8, branch_conv=True)) == 25
    assert sum(isinstance(module, nn.ConvTranspose3d) for module in VoxResNet(width=8).modules()) == 4


def test_training_gives_the_sum_and_four_full_size_outputs() -> None:
    main, *auxiliary = VoxResNet(width=8).train()(torch.randn(2, 1, 16, 16, 16))
    assert [output.shape for output in auxiliary] == [(2, 4, 16, 16, 16)] * 4
    assert torch.equal(main, auxiliary[0] + auxiliary[1] + auxiliary[2] + auxiliary[3])


def test_an_image_of_odd_size_is_padded_at_its_far_end() -> None:
    network, image = VoxResNet(width=8).eval(), torch.randn(1, 1, 13, 16, 9)
    with torch.inference_mode():
        padded = network(nn.functional.pad(image, (0, 7, 0, 0, 0, 3)))
        assert torch.equal(network(image), padded[:, :, :13, :, :9])


def test_flat_kernels_are_a_plain_value() -> None:
    network = VoxResNet(width=8, kernel1=(1, 3, 3))
    assert network.stage2[3].block[2].kernel_size == (1, 3, 3)  # type: ignore[union-attr,index]
    assert network.eval()(torch.zeros(1, 1, 16, 16, 16)).shape == (1, 4, 16, 16, 16)


def test_without_auxiliary_weight_the_gradient_is_that_of_the_main_output() -> None:
    image, label = torch.randn(1, 1, 16, 16, 16), torch.randint(4, (1, 1, 16, 16, 16))
    plain = DiceCELoss(softmax=True, to_onehot_y=True)

    def gradients(loss: Any) -> list[torch.Tensor]:
        torch.manual_seed(0)
        network = VoxResNet(width=8).train()
        loss(network(image)).backward()
        return [parameter.grad for parameter in network.parameters() if parameter.grad is not None]

    main = gradients(lambda outputs: plain(outputs[0], label))
    off = gradients(lambda outputs: FadingDeepSupervisionLoss(plain, start=0.0)(outputs, label))
    on = gradients(lambda outputs: FadingDeepSupervisionLoss(plain)(outputs, label))
    assert all(torch.equal(a, b) for a, b in zip(main, off, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(main, on, strict=True))


@pytest.mark.parametrize("norm", ["batch", "batch_renorm"])
def test_frozen_normalisation_keeps_its_statistics_and_lets_weights_learn(norm: str) -> None:
    network = build_voxresnet(width=8, norm=norm).train()
    network(torch.randn(2, 1, 16, 16, 16))
    network.freeze_norm()
    network.train()
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    outputs = network(torch.randn(2, 1, 16, 16, 16))
    outputs[0].sum().backward()
    assert len(outputs) == 5
    assert all(torch.equal(before[name], buffer) for name, buffer in network.named_buffers())
    network.freeze_norm(False)
    network(torch.randn(2, 1, 16, 16, 16))
    assert not all(torch.equal(before[name], buffer) for name, buffer in network.named_buffers())


@pytest.mark.parametrize("auto_context", [False, True])
@pytest.mark.parametrize("act", [*SURVEY, "maxout_relu"])
def test_every_activation_reaches_every_place(act: str, auto_context: bool) -> None:
    torch.manual_seed(0)
    network = build_voxresnet(2, width=8, act=act, norm="batch_renorm", dropout=0.2, auto_context=auto_context).train()
    if act not in ("relu", "maxout_relu"):
        assert not [module for module in network.modules() if isinstance(module, nn.ReLU)]
    generator = torch.Generator().manual_seed(1)
    outputs = network(torch.rand(2, 1, 17, 16, generator=generator))
    sum((output * torch.randn(output.shape, generator=generator)).sum() for output in outputs).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_maxout_doubles_all_convolutions_but_those_of_the_logits() -> None:
    plain, network = VoxResNet(width=8, branch_conv=True), VoxResNet(width=8, branch_conv=True, act="maxout").eval()
    doubled = sum(isinstance(module, MaxPieces) for module in network.modules())
    assert doubled == convolutions(plain) - 8 + 4  # but four branches and four classifiers; and the deconvolutions
    image = torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image))


def test_dropout_drops_whole_channels_in_front_of_the_logits() -> None:
    head = VoxResNet(2, width=8, dropout=0.5).train().head2
    dropped = head.dropout(torch.ones(4, 8, 5, 5)).flatten(2)
    assert set(dropped.amax(2).flatten().tolist()) == {0.0, 2.0}
    assert torch.equal(dropped.amax(2), dropped.amin(2))


@pytest.mark.parametrize(("share", "alone"), [(1.0, True), (0.5, False)])
def test_a_start_at_the_identity_makes_the_full_size_path_look_at_one_voxel(share: float, alone: bool) -> None:
    network = VoxResNet(in_channels=1, out_channels=3, width=8).eval()
    start_near_identity(network, share)
    image = torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    changed = image.clone()
    changed[..., 4, 4, 4] += 3
    with torch.no_grad():
        moved = (network.auxiliary(changed)[0] - network.auxiliary(image)[0]).abs().sum(1)[0]
    assert float(moved[4, 4, 4]) > 0
    moved[4, 4, 4] = 0
    assert (float(moved.max()) == 0) is alone


@pytest.mark.parametrize("norm", ["", "instance", "batch_renorm"])
@pytest.mark.parametrize("act", ["prelu", "maxout"])
def test_a_start_at_the_identity_goes_with_every_normalisation_and_activation(norm: str, act: str) -> None:
    network = build_voxresnet(2, width=8, norm=norm, act=act, identity_share=0.5, auto_context=True).eval()
    with torch.no_grad():
        assert torch.isfinite(network(torch.rand(1, 1, 16, 16))).all()


def test_images_alone_get_the_maps_of_the_first_net() -> None:
    network, image = AutoContextVoxResNet(2, 2, 3, width=8).eval(), torch.randn(1, 2, 16, 16)
    with torch.no_grad():
        maps = torch.softmax(network.first(image), 1)
        assert torch.equal(network(image), network(torch.cat([image, maps], 1)))
        assert not torch.equal(network(image), network(torch.cat([image, maps.flip(1)], 1)))
        network.passes = 1
        assert torch.equal(network(image), network.first(image))


@pytest.mark.parametrize("act", ["relu", "maxout"])
def test_a_second_net_that_starts_as_the_first_answers_as_it_whatever_the_maps(act: str) -> None:
    torch.manual_seed(0)
    network, image = AutoContextVoxResNet(2, 2, 3, width=8, act=act), torch.randn(2, 2, 16, 16)
    network.first.train()(image)  # running statistics are taken over too
    network.eval().start_second()
    with torch.no_grad():
        first = network.first(image)
        for maps in (torch.zeros(2, 3, 16, 16), torch.rand(2, 3, 16, 16)):
            torch.testing.assert_close(network(torch.cat([image, maps], 1)), first)
        torch.testing.assert_close(network(image), first)
    network.train()(torch.cat([image, torch.rand(2, 3, 16, 16)], 1))[0].square().sum().backward()
    gradient = next(p for p in network.second.parameters() if p.ndim > 1 and p.shape[1] == 5).grad
    assert gradient is not None and float(gradient[:, 2:].abs().sum()) > 0  # zeros, but not dead


def _score(network: nn.Module, image: torch.Tensor, label: torch.Tensor, lr: float, steps: int) -> float:
    """Share of correct foreground pixels on a second half of the batch after training on the first."""
    half = len(image) // 2
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network.train()(image[:half])[0], label[:half]).backward()
        optimizer.step()
    with torch.inference_mode():
        answer = network.eval()(image[half:]).argmax(1)
    wanted = label[half:] > 0
    return float((answer == label[half:])[wanted].float().mean())


def _modalities(seed: int, second_is_other: bool, lr: float) -> float:
    """Classes 2 and 3 look the same in channel 1 and differ in channel 2; or channel 2 is the first, with new noise."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(4, (8, 4, 4), generator=generator).repeat_interleave(8, 1).repeat_interleave(8, 2)
    first = [0.0, 1.0, 2.0, 2.0]
    level = torch.tensor([first, [0.0, 0.0, -1.0, 1.0] if second_is_other else first])
    image = level[:, label].transpose(0, 1) + 0.1 * torch.randn((8, 2, 32, 32), generator=generator)
    torch.manual_seed(seed)
    return _score(VoxResNet(2, 2, 4, width=8), image, label, lr, 40)


@pytest.mark.parametrize("seeds", [(0,), pytest.param(range(5), marks=pytest.mark.slow)])
def test_a_second_modality_parts_what_looks_the_same_in_the_first(seeds: Sequence[int]) -> None:
    """Equal parameters and steps, the learning rate of each arm chosen on a toy of its own."""
    scores = {}
    for other in (True, False):
        rate = max((2e-3, 5e-3, 1e-2), key=lambda lr, other=other: _modalities(100, other, lr))
        scores[other] = torch.tensor([_modalities(seed, other, rate) for seed in seeds])
    differences = scores[True] - scores[False]
    print("two modalities", scores[True].tolist(), "one", scores[False].tolist())
    assert scores[True].mean() > 0.9
    if len(seeds) == 1:
        assert differences.item() > 0.15
    else:  # the interval of the mean difference excludes zero: t of 0.975 with 4 degrees of freedom
        assert differences.mean() - 2.776 * differences.std() / len(seeds) ** 0.5 > 0
