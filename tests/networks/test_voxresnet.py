from __future__ import annotations

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


def test_frozen_first_net_neither_learns_nor_changes_its_statistics() -> None:
    network = AutoContextVoxResNet(width=8, freeze_first=True).train()
    before = {name: value.clone() for name, value in network.first.state_dict().items()}
    network(torch.randn(1, 1, 16, 16, 16))[0].sum().backward()
    assert all(parameter.grad is None for parameter in network.first.parameters())
    assert all(parameter.grad is not None for parameter in network.second.parameters() if parameter.requires_grad)
    assert all(torch.equal(before[name], value) for name, value in network.first.state_dict().items())


def _fit(network: nn.Module, image: torch.Tensor, label: torch.Tensor, steps: int) -> float:
    """Share of correct foreground voxels on a second half of the batch after training on the first."""
    half = len(image) // 2
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=5e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network.train()(image[:half])[0], label[:half]).backward()
        optimizer.step()
    with torch.inference_mode():
        answer = network.eval()(image[half:]).argmax(1)
    wanted = label[half:] > 0
    return float((answer == label[half:])[wanted].float().mean())


def test_multimodal_net_uses_the_channel_that_separates_the_classes() -> None:
    """Classes 2 and 3 look the same in channel 1 and differ in channel 2 alone."""
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(4, (8, 4, 4), generator=generator).repeat_interleave(8, 1).repeat_interleave(8, 2)
    level = torch.tensor([[0.0, 1.0, 2.0, 2.0], [0.0, 0.0, -1.0, 1.0]])
    image = level[:, label].transpose(0, 1) + 0.1 * torch.randn((8, 2, 32, 32), generator=generator)
    scores = {}
    for channels in (1, 2):
        torch.manual_seed(0)
        scores[channels] = _fit(VoxResNet(2, channels, 4, width=8), image[:, :channels], label, 40)
    assert scores[2] > 0.9
    assert scores[1] < scores[2] - 0.15


@pytest.mark.slow
def test_auto_context_is_no_worse_where_shape_decides() -> None:
    """Discs are class 1 and squares of the same brightness class 2: only the shape as a whole tells them apart."""
    generator = torch.Generator().manual_seed(1)
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    label = torch.zeros(32, 24, 24, dtype=torch.long)
    for index in range(32):
        cy, cx = (torch.rand(2, generator=generator) * 6 + 9).tolist()
        disc = (y - cy) ** 2 + (x - cx) ** 2 < 64
        square = ((y - cy).abs() < 5) & ((x - cx).abs() < 5)
        label[index][disc if index % 2 else square] = 1 + (index + 1) % 2
    image = (label > 0).float()[:, None] + 0.5 * torch.randn((32, 1, 24, 24), generator=generator)
    scores = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        first = VoxResNet(2, 1, 3, width=8)
        single = _fit(first, image, label, 60)
        second = AutoContextVoxResNet(2, 1, 3, width=8, freeze_first=True)
        second.first.load_state_dict(first.state_dict())
        scores.append((single, _fit(second, image, label, 60)))
    singles, pairs = zip(*scores, strict=True)
    assert min(singles) > 0.7
    assert sum(pairs) >= sum(singles)
