from __future__ import annotations

from collections.abc import Sequence
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medresnet3d.errors import ConfigError
from medresnet3d.inferers.streams import Target
from medresnet3d.inferers.tiles import TilePass, TilePlan, plan_tiles, volume

CPU = torch.device("cpu")
AXIS = st.tuples(st.integers(1, 60), st.integers(0, 3), st.sampled_from([1, 2, 4]))


@given(st.lists(AXIS, min_size=2, max_size=3), st.integers(100, 20_000))
@settings(max_examples=100, deadline=None)
def test_tiles_divide_the_image(axes: list[tuple[int, int, int]], most: int) -> None:
    sizes, halos, lattice = zip(*axes, strict=True)
    halo = tuple(count * step for count, step in zip(halos, lattice, strict=True))
    plan = plan_tiles(sizes, halo, lattice, most)
    seen = torch.zeros(plan.padded_size, dtype=torch.int32)
    for tile in plan.tiles():
        seen[tuple(slice(*edge) for edge in tile)] += 1
        assert all(start % step == 0 and stop % step == 0 for (start, stop), step in zip(tile, lattice, strict=True))
        assert volume(plan.region(tile)) <= plan.largest
    assert (seen == 1).all()
    assert plan.work == sum(volume(plan.region(tile)) for tile in plan.tiles())
    assert plan.largest <= most or plan.tile_size == lattice
    if prod(plan.padded_size) <= most:
        assert len(plan.tiles()) == 1


def test_tile_is_cut_on_the_lattice_across_its_longest_axis() -> None:
    plan = TilePlan((40, 20), (40, 20), (40, 20), (4, 4), (4, 4))
    assert plan.split(((0, 20), (0, 12))) == [((0, 8), (0, 12)), ((8, 20), (0, 12))]
    assert plan.split(((0, 4), (0, 4))) == [((0, 4), (0, 4))]


def blur(windows: torch.Tensor, boxes: Sequence[tuple[slice, ...]] = ()) -> torch.Tensor:
    return torch.nn.functional.avg_pool2d(windows, 5, stride=1, padding=2)


def test_a_tile_that_does_not_fit_is_cut_and_the_rest_stays() -> None:
    image = torch.randn(1, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    plan = plan_tiles((40, 40), (4, 4), (4, 4), 900)
    calls = []

    def small_device(windows: torch.Tensor, boxes: Sequence[tuple[slice, ...]]) -> torch.Tensor:
        calls.append(windows.shape[2:].numel())
        if len(calls) > 1 and calls[-1] > 500:
            raise torch.OutOfMemoryError("out of memory")
        return blur(windows)

    target = Target("logits", (40, 40), (0, 0), CPU)
    one = TilePass(plan, target, small_device, CPU, splittable=True)
    outputs, rebuild = one.run(image)
    assert torch.allclose(rebuild(outputs), blur(image), atol=1e-6)
    assert one.notes
    with pytest.raises(ConfigError, match="do not fit into the memory of cpu"):
        TilePass(plan, target, small_device, CPU, splittable=False).run(image)


def test_another_grid_is_refused_for_tiles_and_taken_for_the_whole() -> None:
    image = torch.ones(1, 1, 40, 40)

    def half(windows: torch.Tensor, boxes: Sequence[tuple[slice, ...]]) -> torch.Tensor:
        return windows[:, :, ::2, ::2]

    target = Target("labels", (40, 40), (0, 0), CPU)
    whole = TilePass(plan_tiles((40, 40), (0, 0), (4, 4), 1e9), target, half, CPU, splittable=False)
    assert whole.run(image)[0][0].shape == (1, 1, 20, 20)
    with pytest.raises(ConfigError, match="another grid"):
        TilePass(plan_tiles((40, 40), (0, 0), (4, 4), 400), target, half, CPU, splittable=False).run(image)
