from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.inferers.foreground import CELL, Foreground
from medresnet3d.inferers.layout import Layout, LayoutOptions, choose_layout
from medresnet3d.inferers.runner import Runner
from medresnet3d.inferers.windows import WindowPlan

CPU = torch.device("cpu")


def network(*extra: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), *extra, nn.Conv2d(4, 2, 3, padding=1)).eval()


def layout(
    net: Any = None, size: tuple[int, int] = (100, 80), foreground: Foreground | None = None, **options: Any
) -> Layout:
    net = net or network()
    chosen = {"strategy": "auto", "roi_size": 32, "overlap": 0.5, "margin": 8, **options}
    runner = Runner(net, CPU, precision="fp32" if isinstance(net, nn.Module) else "auto")
    return choose_layout(size, 1, net, runner, LayoutOptions(**chosen), foreground)


def in_the_middle(size: tuple[int, int]) -> Foreground:
    cells = np.zeros([-(-length // CELL) for length in size], bool)
    cells[10:13, 8:11] = True
    return Foreground(cells, size)


def test_auto_takes_one_pass_where_it_is_less_work() -> None:
    chosen = layout()
    assert (chosen.strategy, chosen.total, chosen.cropped) == ("whole", 1, False)
    assert "of the work of windows (1.00 times the voxels" in chosen.reason


class OwnSize(nn.Module):
    """Pads to the size of another tensor, which slabs do not know."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(nn.functional.pad(x, [1, 1, 1, 1], mode="replicate"))


def test_auto_takes_slabs_where_one_pass_does_not_fit() -> None:
    chosen = layout(memory=150_000)
    assert (chosen.strategy, chosen.plan.order[0]) == ("slabs", 0)
    assert chosen.total > 1
    assert chosen.covered(chosen.kept(in_the_middle((100, 80)))) == 8000
    explicit = layout(strategy="slabs", memory=150_000)
    assert explicit.plan == chosen.plan
    assert layout(strategy="slabs", memory=150_000, first_axis=1).plan.order == (1, 0)


def test_auto_takes_tiles_where_slabs_do_not_work_and_windows_where_tiles_are_more_work() -> None:
    tiles = layout(OwnSize().eval(), memory=100_000)
    assert tiles.strategy == "halo"
    assert tiles.total > 1
    windows = layout(OwnSize().eval(), overlap=0, roi_size=(50, 40), memory=100_000)
    assert windows.strategy == "windows"
    assert "times the work" in windows.reason
    with pytest.raises(ConfigError, match="is not computed slab by slab"):
        layout(OwnSize().eval(), strategy="slabs", memory=100_000)


def test_auto_says_why_it_takes_windows() -> None:
    assert "instance normalisation" in layout(network(nn.InstanceNorm2d(4))).reason
    assert "needs a torch.nn.Module" in layout(lambda window: window).reason
    assert "give more memory" in layout(memory=100).reason


def test_halo_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="looks 2 x 2 voxels around each voxel"):
        layout(strategy="halo", memory=100)


def test_grid_is_laid_over_the_foreground_and_a_margin() -> None:
    size = (100, 80)
    for strategy, box in (
        ("windows", ((30, 62), (22, 54))),  # one window
        ("whole", ((32, 60), (24, 52))),
        ("auto", ((32, 60), (24, 52))),
    ):
        chosen = layout(strategy=strategy, size=size, foreground=in_the_middle(size))
        assert chosen.cropped
        assert chosen.box == box
        assert chosen.covered(None) == np.prod([stop - start for start, stop in box])


def test_lattice_of_the_network_decides_the_size_of_one_pass() -> None:
    pooling = network(nn.MaxPool2d(4), nn.Upsample(scale_factor=4))
    for net in (pooling, network(nn.MaxPool2d(4), nn.InstanceNorm2d(4), nn.Upsample(scale_factor=4))):
        chosen = layout(net, strategy="whole", size=(33, 30), roi_size=(12, 12))
        assert isinstance(chosen.plan.padding, tuple)
        assert chosen.plan.padded_size == (36, 32)
        cropped = layout(net, strategy="whole", roi_size=12, foreground=in_the_middle((100, 80)), margin=1)
        assert cropped.box == ((39, 55), (31, 47))
        assert cropped.plan.padding == ((0, 0), (0, 0))


def test_kept_windows_hold_something() -> None:
    size = (100, 80)
    found = in_the_middle(size)
    chosen = layout(strategy="windows", size=size, roi_size=16)
    assert isinstance(chosen.plan, WindowPlan)
    kept = chosen.kept(found)
    for index in chosen.plan.indices():
        inside = all(part.start < high and part.stop > low for part, (low, high) in zip(
            chosen.plan.slices(index), ((40, 52), (32, 44)), strict=True))  # fmt: skip
        assert (index in kept) == inside
    assert chosen.covered(kept) < 100 * 80 == chosen.covered(None)
    tiles = layout(strategy="halo", size=size, memory=20_000)
    assert 1 <= len(tiles.kept(found)) < tiles.total
    assert tiles.covered(None) == 100 * 80 > tiles.covered(tiles.kept(found))


def test_an_image_with_nothing_in_it_leaves_one_window_in_the_middle() -> None:
    nothing = Foreground(np.zeros((25, 20), bool), (100, 80))
    chosen = layout(strategy="windows", foreground=nothing)
    assert chosen.box == ((34, 66), (24, 56))
    assert len(chosen.kept(nothing)) == 1
