from __future__ import annotations

from collections.abc import Sequence
from math import prod

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks.nets import BasicUNet, UNet
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.inferers import slabs
from medresnet3d.inferers.execution import prepare
from medresnet3d.inferers.slabs import SlabPass, check_slabs, in_image_order, plan_slabs
from medresnet3d.inferers.streams import Target

CPU = torch.device("cpu")
AXIS = st.tuples(st.integers(1, 60), st.sampled_from([1, 2, 4]))


@given(st.lists(AXIS, min_size=2, max_size=3), st.integers(500, 20_000))
@settings(max_examples=100, deadline=None)
def test_slabs_divide_the_longest_axis(axes: list[tuple[int, int]], most: int) -> None:
    sizes, lattice = zip(*axes, strict=True)
    try:
        plan = plan_slabs(sizes, lattice, most)
    except ConfigError:
        padded = [-(-size // step) * step for size, step in axes]
        first = padded.index(max(padded))
        assert prod(padded) // padded[first] * lattice[first] > most
        return
    first = plan.order[0]
    assert plan.padded_size[first] == max(plan.padded_size)
    planes = [plane for start, stop in plan.slabs() for plane in range(start, stop)]
    assert planes == list(range(plan.padded_size[first]))
    assert all((stop - start) % lattice[first] == 0 for start, stop in plan.slabs())
    assert plan.planes * prod(plan.padded_size) // plan.padded_size[first] <= most
    assert sorted(plan.order) == list(range(len(sizes)))


def test_thickness_does_not_depend_on_the_length() -> None:
    assert {plan_slabs((40, 40, length), (8, 8, 8), 30_000).planes for length in (80, 800, 8000)} == {16}
    assert plan_slabs((40, 40, 80), (8, 8, 8), 60_000, first_axis=1).order == (1, 0, 2)


class Aniso(nn.Module):
    """Kernels, strides and a second output, each axis of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body = UNet(3, 1, 4, (4, 8), ((1, 2, 2),), kernel_size=(5, 3, 3), num_res_units=1, norm="batch")
        self.head = nn.Conv3d(4, 2, (1, 3, 5), padding=(0, 1, 2))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.body(x)
        return features, self.head(features)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("value", [0.0, 3.0])
@torch.no_grad()
def test_pass_in_slabs_equals_the_whole_padded_image(axis: int, value: float) -> None:
    torch.manual_seed(0)
    network = Aniso().eval()
    image = torch.randn(1, 1, 21, 30, 27)
    plan = plan_slabs((21, 30, 27), (1, 2, 2), 8000, first_axis=axis)
    assert len(plan.slabs()) > 1
    target = Target("logits", (21, 30, 27), (0, 0, 0), CPU)
    seen: list[int] = []
    ready = prepare(network, device="cpu", precision="fp32", order=plan.order)
    outputs, rebuild = SlabPass(plan, target, ready, value, seen.append).run(image)
    padded = F.pad(image, [0, 1, 0, 0, 0, 0], value=value)
    for found, expected in zip(rebuild(outputs), network(padded), strict=True):
        assert torch.allclose(found, expected[..., :27], atol=1e-5)
    assert seen == [1] * len(plan.slabs())


def test_order_of_the_image_comes_back() -> None:
    tensor = torch.randn(1, 2, 3, 4, 5)
    assert in_image_order(tensor.permute(0, 1, 4, 2, 3), (2, 0, 1)).equal(tensor)


class Global(nn.Module):
    """Looks at the mean of all that it is given, which no rule of slabs knows."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv3d(1, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) * x.mean()


@pytest.mark.parametrize(
    ("network", "lattice", "reason"),
    [
        (Global().eval(), (2, 2, 2), "its output differs"),
        (BasicUNet(3, 1, 2, (4, 4, 4, 4, 4, 4), norm="batch").eval(), (16, 16, 16), "padding with the image's own"),
    ],
)
def test_what_does_not_agree_is_refused_once_and_again(
    network: nn.Module, lattice: tuple[int, ...], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        with pytest.raises(ConfigError, match=f"is not computed slab by slab: .*{reason}"):
            check_slabs(network, 1, lattice, (2, 0, 1), CPU)
        monkeypatch.setattr(slabs, "_difference", lambda *args: pytest.fail("compared twice"))


def test_what_agrees_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Aniso().eval()
    orders: Sequence[tuple[int, ...]] = [(0, 1, 2), (2, 0, 1)]
    for order in orders:
        check_slabs(network, 1, (1, 2, 2), order, CPU)
    monkeypatch.setattr(slabs, "_difference", lambda *args: pytest.fail("compared twice"))
    check_slabs(network, 1, (1, 2, 2), (2, 0, 1), CPU)
