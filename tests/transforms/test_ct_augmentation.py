from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, RandAffined, RandCoarseDropoutd

from medresnet3d.errors import ConfigError
from medresnet3d.transforms.ct_augmentation import STRENGTHS, nodule_cube_augmentation

SIZE = 16


def cube() -> torch.Tensor:
    """A soft ball beside the middle, on a floor of 0.2."""
    grid = np.stack(np.meshgrid(*[np.arange(SIZE)] * 3, indexing="ij")) - np.array([9.0, 6.0, 7.0])[:, None, None, None]
    return torch.as_tensor(0.2 + 0.7 * np.exp(-(grid**2).sum(0) / 8), dtype=torch.float32)[None]


def looks(strength: str, count: int = 60) -> list[torch.Tensor]:
    transform = Compose(nodule_cube_augmentation(strength, SIZE))
    transform.set_random_state(0)
    return [torch.as_tensor(transform({"image": MetaTensor(cube())})["image"]) for _ in range(count)]


def test_none_is_none() -> None:
    assert nodule_cube_augmentation("none", SIZE) == []


@pytest.mark.parametrize("strength", STRENGTHS[1:])
def test_cubes_keep_their_shape_and_scale_and_repeat_by_seed(strength: str) -> None:
    varied, again = looks(strength), looks(strength)
    assert all(torch.equal(one, other) for one, other in zip(varied, again, strict=True))
    for each in varied:
        assert each.shape == (1, SIZE, SIZE, SIZE)
        assert torch.isfinite(each).all() and each.min() > -0.2 and each.max() < 1.3
    assert len({each.numpy().tobytes() for each in varied}) > 48  # in a few only a symmetry of the ball is drawn


def test_stronger_is_further_from_the_symmetries_of_the_cube() -> None:
    """Sorted values do not see flips and turns; contrast, deformation and holes change them more and more."""
    plain = cube().flatten().sort().values
    distance = [
        np.mean([(each.flatten().sort().values - plain).abs().mean().item() for each in looks(strength)])
        for strength in STRENGTHS[1:]
    ]
    assert distance[0] < distance[1] < distance[2]


def test_holes_are_air_and_small() -> None:
    strong = Compose(
        [each for each in nodule_cube_augmentation("strong", SIZE) if isinstance(each, RandCoarseDropoutd)]
    )
    strong.set_random_state(1)
    shares = [(strong({"image": cube()})["image"] == 0).float().mean().item() for _ in range(40)]
    assert 0 < max(shares) < 0.1
    assert 5 < sum(share > 0 for share in shares) < 35


def test_deformation_keeps_the_outside_filled() -> None:
    bend = Compose([each for each in nodule_cube_augmentation("strong", SIZE) if isinstance(each, RandAffined)])
    bend.set_random_state(0)
    for _ in range(20):
        assert torch.as_tensor(bend({"image": MetaTensor(cube())})["image"]).min() > 0.15


def test_unknown_strength_lists_the_names() -> None:
    with pytest.raises(ConfigError, match="no augmentation 'heavy'; use none, light, medium, strong, shape"):
        nodule_cube_augmentation("heavy", SIZE)


def test_shape_keeps_values_and_fills_with_nothing() -> None:
    """A label map is turned and scaled, never brightened: its volume changes by the scaling alone."""
    block = torch.zeros(1, SIZE, SIZE, SIZE)
    block[:, 5:12, 6:11, 7:10] = 1
    transform = Compose(nodule_cube_augmentation("shape", SIZE))
    transform.set_random_state(0)
    looks = [torch.as_tensor(transform({"image": MetaTensor(block.clone())})["image"]) for _ in range(60)]
    volumes = np.array([float(look.sum() / block.sum()) for look in looks])
    assert all(look.min() >= 0 and look.max() <= 1 + 1e-5 for look in looks)
    assert all(look[:, 0].max() == 0 and look[:, :, :, -1].max() == 0 for look in looks)
    assert 0.69 < volumes.min() < 0.95 and 1.05 < volumes.max() < 1.4
    exact = [look for look in looks if set(look.unique().tolist()) == {0.0, 1.0}]
    assert 3 <= len(exact) <= 25  # in two of ten, nothing is interpolated
    assert len({each.numpy().tobytes() for each in looks}) > 50


@pytest.mark.parametrize("strength", STRENGTHS[1:])
def test_a_plane_is_varied_within_itself(strength: str) -> None:
    plane = cube()[..., 7]
    transform = Compose(nodule_cube_augmentation(strength, SIZE, spatial_dims=2))
    transform.set_random_state(0)
    found = [torch.as_tensor(transform({"image": MetaTensor(plane)})["image"]) for _ in range(20)]
    assert all(image.shape == plane.shape for image in found)
    peaks = {tuple(np.unravel_index(int(image[0].argmax()), plane.shape[1:])) for image in found}
    assert len(peaks) >= 4, "the ball comes to lie in several quarters"
