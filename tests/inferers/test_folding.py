from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from monai.networks.nets import BasicUNet, DynUNet, UNet
from torch import nn

from medresnet3d.inferers.folding import ActivatedConvolution, fold
from medresnet3d.networks.layers.batch_renorm import BatchRenorm3d
from medresnet3d.networks.resnet import ResNetClassifier
from medresnet3d.networks.voxresnet import VoxResNet

SHAPE = (1, 1, 16, 16, 16)


def with_statistics(network: nn.Module) -> nn.Module:
    """As if it had been trained: normalisation that does something."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for value, low, high in ((module.running_mean, -0.3, 0.3), (module.running_var, 0.5, 2.0)):
                assert value is not None
                value.uniform_(low, high)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    return network.eval()


def difference(network: nn.Module, shape: tuple[int, ...] = SHAPE) -> tuple[float, Any]:
    """Largest difference that folding makes, relative to the largest output, and what was done."""
    with_statistics(network)
    folded = copy.deepcopy(network)
    done = fold(folded, shape)
    x = torch.randn(shape)
    with torch.no_grad():
        expected, found = network(x.clone()), folded(x.clone())
    return float((found - expected).abs().max() / expected.abs().max()), done


@pytest.mark.parametrize(
    ("network", "folded", "left"),
    [
        (UNet(3, 1, 3, (4, 8, 16), (2, 2), num_res_units=2, norm="batch", dropout=0.2), 9, 0),
        (BasicUNet(3, 1, 2, (4, 4, 8, 8, 8, 4), norm="batch"), 18, 0),
        (DynUNet(3, 1, 2, [3] * 3, [1, 2, 2], [2] * 2, filters=[4, 8, 8], norm_name="batch"), 10, 0),
        (VoxResNet(3, 1, 4, width=8), 7, 9),
    ],
    ids=["unet", "basic", "dyn", "voxresnet"],
)
def test_the_answers_stay_and_every_norm_that_can_go_goes(network: nn.Module, folded: int, left: int) -> None:
    error, done = difference(network)
    assert error < 1e-5
    assert (done.norms, done.norms_left) == (folded, left)
    assert done.in_place > 0


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kind", [nn.Conv3d, nn.ConvTranspose3d])
@pytest.mark.parametrize("bias", [True, False])
def test_grouped_and_transposed_convolutions(kind: Any, groups: int, bias: bool) -> None:
    network = nn.Sequential(
        kind(1, 4, 3, padding=1), kind(4, 6, 3, groups=groups, bias=bias), nn.BatchNorm3d(6), nn.ReLU()
    )
    error, done = difference(network)
    assert error < 1e-5
    assert (done.norms, done.in_place) == (1, 1)


def renormalising() -> list[tuple[nn.Module, int, int]]:
    return [
        (VoxResNet(3, 1, 4, width=8, norm="batch_renorm"), 7, 9),
        (nn.Sequential(nn.Conv3d(1, 4, 3), BatchRenorm3d(4, affine=False), nn.ReLU()), 1, 0),
        (ResNetClassifier(10, 3, width=0.0625, norm="batch_renorm", act="maxout"), 3, 9),
    ]


@pytest.mark.parametrize(("network", "folded", "left"), renormalising(), ids=["voxresnet", "bare", "maxout"])
def test_batch_renormalisation_goes_as_batch_normalisation_does(network: nn.Module, folded: int, left: int) -> None:
    """After maxout nothing can be folded, but the answers stay; the projections of shortcuts have no maxout."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, BatchRenorm3d):
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_std.uniform_(0.7, 1.5)
    error, done = difference(network)
    assert error < 1e-5
    assert (done.norms, done.norms_left) == (folded, left)


class Skip(nn.Module):
    """The convolution's output is read by the normalisation and by the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(1, 2, 3)
        self.norm = nn.BatchNorm3d(2)
        self.activation = nn.ReLU(inplace=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.convolution(x)
        return y + self.activation(self.norm(y))


def test_a_convolution_that_is_read_twice_is_left_alone() -> None:
    error, done = difference(Skip())
    assert error == 0
    assert (done.norms, done.norms_left, done.in_place) == (0, 1, 1)


class Shared(nn.Module):
    """One convolution before two normalisations."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(1, 1, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm3d(1) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for norm in self.norms:
            x = norm(self.convolution(x))
        return x


def test_a_convolution_that_runs_twice_is_left_alone() -> None:
    error, done = difference(Shared())
    assert error == 0
    assert done.norms == 0


def test_a_hooked_layer_is_left_alone() -> None:
    network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2))
    network[0].register_forward_hook(lambda _module, _args, output: 2 * output)
    error, done = difference(network)
    assert error == 0
    assert done.norms == 0


def test_an_activation_never_overwrites_the_input() -> None:
    network = nn.Sequential(nn.ReLU(inplace=True)).eval()
    fold(network, SHAPE)
    x = -torch.ones(SHAPE)
    network(x)
    assert float(x.max()) == -1


def test_sums_of_final_convolutions_are_not_rounded() -> None:
    network = with_statistics(VoxResNet(3, 1, 4, width=8))
    folded = copy.deepcopy(network)
    assert fold(folded, SHAPE).wide_sums == 4
    low = {name: copy.deepcopy(one).bfloat16() for name, one in (("plain", network), ("folded", folded))}
    x = torch.randn(SHAPE).bfloat16()
    with torch.no_grad():
        exact = network(x.float())
        errors = {name: float((one(x).float() - exact).abs().mean()) for name, one in low.items()}
        assert folded(x.float()).dtype == low["folded"](x).dtype == torch.float32
    assert errors["folded"] < errors["plain"]


def test_a_convolution_inside_a_residual_block_keeps_its_number_type() -> None:
    network = UNet(3, 1, 3, (4, 8, 16), (2, 2), num_res_units=2, norm="batch").eval()
    assert fold(network, SHAPE).wide_sums == 1


def test_convolution_and_activation_become_one_layer_where_nothing_else_reads_between() -> None:
    class Forked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.norm = nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4)
            self.two, self.relu, self.slope = nn.Conv3d(4, 4, 3, padding=1), nn.ReLU(), nn.PReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            first = self.relu(self.norm(self.one(x)))
            second = self.two(first)
            return self.slope(second) + second

    network = Forked().eval()
    image = torch.randn(1, 1, 6, 6, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(image)
        done = fold(network, tuple(image.shape))
        assert done.activated == 1
        assert isinstance(network.one, ActivatedConvolution)
        assert not isinstance(network.two, ActivatedConvolution)
        assert torch.allclose(network(image), expected, atol=1e-6)
