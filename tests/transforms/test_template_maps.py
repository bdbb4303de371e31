from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medresnet3d.transforms.registration import Warp
from medresnet3d.transforms.template_maps import Placed, read_placed, warp_image, warp_label


def placed(shape: tuple[int, ...], affine: np.ndarray, shift: float = 0.0) -> Placed:
    """A scan that lies ``shift`` mm further along x than the template."""
    grid = np.diag([8.0] * len(shape) + [1.0])
    onward = np.zeros((len(shape), *[6] * len(shape)), np.float32)
    onward[0] = shift
    return Placed(shape, affine, Warp(onward, grid), Warp(-onward, grid), np.zeros((1, 258), np.float32))


@pytest.mark.parametrize("dims", [2, 3])
def test_a_shift_through_the_template_is_the_difference_of_both(dims: int) -> None:
    """One lies 4 mm beyond the template and the other 6 mm before it; voxels are 2 mm."""
    affine = np.diag([2.0] * dims + [1.0])
    shape = (20, 18, 16)[:dims]
    values = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0)) + 3
    source, goal = placed(shape, affine, 4.0), placed(shape, affine, -6.0)
    image = MetaTensor(values)
    moved = warp_image(image, source, goal)
    # a point x of the goal lies at x + 6 in the template and at x + 10 in the source: 5 voxels on
    torch.testing.assert_close(moved[:, :-6].as_tensor(), values[:, 5:-1], rtol=0, atol=1e-4)
    torch.testing.assert_close(moved[:, -3:].as_tensor(), values.min().expand(1, 3, *shape[1:]), rtol=0, atol=1e-4)
    label = MetaTensor((values * 2).to(torch.uint8))
    moved_label = warp_label(label, source, goal)
    assert moved_label.dtype == torch.uint8
    assert torch.equal(moved_label[:, :-6].as_tensor(), label[:, 5:-1].as_tensor())
    assert (moved_label[:, -3:] == 0).all()


def test_the_result_has_the_goals_grid() -> None:
    fine, coarse = np.diag([1.0, 1.0, 1.0, 1.0]), np.diag([-2.0, 2.0, 2.0, 1.0])
    coarse[0, 3] = 23.0
    ramp = torch.arange(24.0)[None, :, None, None].expand(1, 24, 20, 20)
    moved = warp_image(MetaTensor(ramp), placed((24, 20, 20), fine), placed((12, 10, 10), coarse))
    assert moved.shape == (1, 12, 10, 10)
    np.testing.assert_allclose(np.asarray(moved.affine), coarse)
    np.testing.assert_allclose(moved[0, :, 3, 3].numpy(), 23 - 2 * np.arange(12), atol=1e-4)


def test_files_hold_everything_and_damage_is_told(tmp_path: Path) -> None:
    before = placed((8, 9, 10), np.diag([1.0, 2.0, 3.0, 1.0]), 2.5)
    before.save(tmp_path / "maps" / "a.npz")
    after = read_placed(tmp_path / "maps" / "a.npz")
    assert after is not None and after.shape == before.shape
    for name in ("affine", "quantiles"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    for name in ("from_template", "to_template"):
        np.testing.assert_array_equal(getattr(after, name).field, getattr(before, name).field)
        np.testing.assert_array_equal(getattr(after, name).affine, getattr(before, name).affine)
    assert read_placed(tmp_path / "none.npz") is None
    (tmp_path / "bad.npz").write_bytes(b"PK no archive")
    with pytest.warns(UserWarning, match="the map is damaged"):
        assert read_placed(tmp_path / "bad.npz") is None
