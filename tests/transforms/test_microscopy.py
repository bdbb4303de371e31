from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Flipd

from medresnet3d.data.phantoms.pictures import hep2_cell
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.transforms.load import LoadVolumed
from medresnet3d.transforms.microscopy import (
    BrightestChannel,
    BrightestChanneld,
    CellMinMax,
    CellMinMaxd,
    RandRotationGridd,
    RotationGrid,
)


def test_green_and_grey_pictures_become_the_same_light() -> None:
    grey = hep2_cell()
    green = np.concatenate([grey // 8, grey, grey // 8])
    for picture in (grey, green, np.repeat(grey, 3, axis=0)):
        light = BrightestChannel()(picture)
        assert light.dtype == np.uint8
        np.testing.assert_array_equal(light, grey)
    item = BrightestChanneld("image")({"image": MetaTensor(torch.as_tensor(green)[..., None])})
    assert isinstance(item["image"], MetaTensor) and item["image"].shape == (1, 64, 64, 1)


def test_weak_and_strong_light_look_alike() -> None:
    weak, strong = (CellMinMax()(hep2_cell(strength=strength)) for strength in (0.25, 1.0))
    assert weak.min() == 0 and weak.max() == 1 and weak.dtype == np.float32
    assert np.abs(weak - strong).mean() < 0.02


def test_a_mask_keeps_bright_neighbours_from_deciding() -> None:
    picture = hep2_cell(strength=0.5).astype(np.float32)
    mask = np.zeros_like(picture)
    mask[:, 8:-8, 8:-8] = 1
    neighbour = picture.copy()
    neighbour[:, :3, :3] = 255
    np.testing.assert_array_equal(
        CellMinMax()(neighbour, mask)[:, 8:-8, 8:-8], CellMinMax()(picture, mask)[:, 8:-8, 8:-8]
    )
    with pytest.raises(DataError, match="mask of the cell is empty"):
        CellMinMax()(picture, mask * 0)


def test_channels_and_dimensions() -> None:
    volume = torch.rand(2, 4, 5, 6) * torch.tensor([3.0, 0.0]).reshape(2, 1, 1, 1)
    result = CellMinMaxd("image")({"image": volume})["image"]
    assert result[0].max() == 1 and (result[1] == 0).all()
    hot = np.arange(101, dtype=np.float32)[None]
    np.testing.assert_allclose(CellMinMax((10, 90))(hot)[0, [5, 10, 50, 90, 95]], [0, 0, 0.5, 1, 1], atol=1e-6)
    with pytest.raises(ConfigError, match="two increasing numbers"):
        CellMinMax((90, 10))


def test_the_grid_has_twenty_turns_and_right_angles_are_exact() -> None:
    picture = torch.as_tensor(hep2_cell(33).astype(np.float32))
    turns = RotationGrid()(picture)
    assert turns.shape == (20, 1, 33, 33)
    assert torch.equal(turns[0], picture)
    for quarter in (1, 2, 3):
        exact = torch.rot90(picture, quarter, (1, 2))
        assert min((turns[5 * quarter] - exact).abs().max(), (turns[20 - 5 * quarter] - exact).abs().max()) < 0.01
    with pytest.raises(ConfigError, match="360 is a multiple"):
        RotationGrid(17)


@pytest.mark.parametrize("flat", [False, True])
def test_a_turn_goes_back(flat: bool) -> None:
    values = torch.as_tensor(hep2_cell(48).astype(np.float32))
    picture = MetaTensor(values[..., None] if flat else values)
    grid = RotationGrid(padding_mode="zeros")
    turned = grid.turned(picture, 3)
    assert turned.shape == picture.shape
    back = grid.inverse(turned)
    middle = (slice(None), slice(12, 36), slice(12, 36))
    error, change = ((each.as_tensor()[middle] - picture.as_tensor()[middle]).abs().mean() for each in (back, turned))
    assert error < 0.4 * change  # two interpolations blur the speckles
    assert grid.inverse(picture) is picture


def test_a_chain_with_a_random_turn_goes_back() -> None:
    """Quarter turns lose nothing; the flip before is undone too, turned or not."""
    picture = MetaTensor(torch.as_tensor(hep2_cell(17).astype(np.float32)))
    chain = Compose([Flipd("image", 0), RandRotationGridd("image", prob=0.7, step=90.0)])
    chain.set_random_state(0)
    turns = [chain({"image": picture}) for _ in range(12)]  # before any inverse, which in MONAI seeds a chain anew
    seen = {turned["image"].as_tensor().numpy().round(2).tobytes() for turned in turns}
    for turned in turns:
        back = chain.inverse(turned)["image"]
        torch.testing.assert_close(back.as_tensor(), picture.as_tensor(), rtol=0, atol=0.01)
        assert not back.applied_operations
    assert len(seen) == 4 and not picture.applied_operations


def test_turns_are_drawn_evenly_and_seeded() -> None:
    picture = MetaTensor(torch.as_tensor(hep2_cell(16).astype(np.float32)))
    chain = Compose([RandRotationGridd(["image", "mask"], step=90.0)])
    drawn = []
    for each in (chain, pickle.loads(pickle.dumps(chain))):
        each.set_random_state(0)
        drawn.append([each({"image": picture, "mask": picture}) for _ in range(80)])
    assert all(torch.equal(one["image"], other["mask"]) for one, other in zip(*drawn, strict=True))
    kinds = [item["image"].as_tensor().numpy().round(2).tobytes() for item in drawn[0]]
    counts = [kinds.count(kind) for kind in set(kinds)]
    assert len(counts) == 4 and min(counts) > 8


@pytest.mark.realdata
def test_real_specimens(realdata: Path) -> None:
    item = json.loads((realdata / "hep2_specimen" / "manifest.json").read_text())["training"][0]
    picture = LoadVolumed("image")({"image": str(realdata / "hep2_specimen" / item["image"])})["image"]
    result = CellMinMax((1, 99))(picture)
    assert isinstance(result, MetaTensor) and result.shape == picture.shape
    assert result.min() == 0 and result.max() == 1
