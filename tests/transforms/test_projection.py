from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from sklearn.metrics import roc_auc_score
from torch import nn

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.metrics.paired import paired_test
from medresnet3d.transforms.projection import (
    KINDS,
    IntermediateDenseProjectiond,
    intermediate_dense_projection,
    projection_offsets,
    projection_weights,
)

PLANES = ("gaussian", "mip", "mean")


@given(st.integers(0, 12).map(lambda half: 2 * half + 1), st.integers(0, 3))
def test_offsets_are_symmetric_and_gaps_grow_outwards(count: int, growth: int) -> None:
    offsets = np.array(projection_offsets(count, growth))
    assert len(set(offsets)) == count and (offsets == -offsets[::-1]).all()
    gaps = np.diff(offsets[count // 2 :])
    assert (np.diff(gaps) == growth).all()


def test_weights_are_those_of_a_gaussian_over_nine_slices() -> None:
    half = [0.0276, 0.0663, 0.1238, 0.1802, 0.2042]
    assert projection_weights(9, 2.0).tolist() == pytest.approx([*half, *half[-2::-1]], abs=5e-5)


@pytest.mark.parametrize("kind", PLANES)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_constant_volume_has_a_constant_projection(kind: str, axis: int) -> None:
    plane = intermediate_dense_projection(torch.full((2, 21, 22, 23), 0.7), axis, kind=kind)
    assert plane.shape == (2, *(size for n, size in enumerate((21, 22, 23)) if n != axis))
    torch.testing.assert_close(plane, torch.full_like(plane, 0.7))


def test_the_middle_slice_has_the_largest_weight() -> None:
    seen = []
    for offset in projection_offsets(9):
        volume = torch.zeros(9, 9, 21)
        volume[5, 6, 10 + offset] = 1.0
        seen.append(intermediate_dense_projection(volume, 2)[5, 6].item())
    assert seen == pytest.approx(projection_weights(9).tolist())
    assert max(seen) == seen[4]


def test_a_lesion_beside_the_middle_slice_is_seen_by_a_projection_alone() -> None:
    volume = torch.zeros(9, 9, 21)
    volume[8, 8, 13] = 1.0
    assert not intermediate_dense_projection(volume, 2, count=1).any()
    for kind in PLANES:
        assert intermediate_dense_projection(volume, 2, kind=kind)[8, 8] > 0
    assert intermediate_dense_projection(volume, 2, kind="stack")[6, 8, 8] == 1


def test_the_three_axes_become_three_channels() -> None:
    cube = torch.zeros(1, 9, 9, 9)
    cube[0, 2, 4, 7] = 1.0
    planes = IntermediateDenseProjectiond("image", count=9, kind="mip", growth=0)({"image": cube})["image"]
    assert planes.shape == (3, 9, 9)
    assert torch.nonzero(planes).tolist() == [[0, 2, 4], [1, 2, 7], [2, 4, 7]]
    stack = IntermediateDenseProjectiond("image", count=5, kind="stack")({"image": cube})["image"]
    assert stack.shape == (15, 9, 9)


def test_one_slice_is_the_orthogonal_views_and_the_affine_stays() -> None:
    cube = MetaTensor(torch.rand(1, 8, 8, 8, generator=torch.Generator().manual_seed(0)), affine=2 * torch.eye(4))
    planes = IntermediateDenseProjectiond("image", count=1)({"image": cube})["image"]
    plain = cube.as_tensor()[0]
    for plane, expected in zip(planes.as_tensor(), (plain[:, :, 4], plain[:, 4], plain[4]), strict=True):
        torch.testing.assert_close(plane, expected)
    assert torch.equal(planes.affine, cube.affine)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "median"}, "use gaussian, mip, mean, stack"),
        ({"count": 4}, "odd number"),
        ({"count": 31}, "out of a volume of 21"),
        ({"sigma": 0.0}, "sigma is 0.0"),
    ],
)
def test_impossible_projections_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        intermediate_dense_projection(torch.zeros(21, 21, 21), 0, **options)  # type: ignore[arg-type]
    assert set(PLANES) < set(KINDS)


def test_only_cubes_are_projected() -> None:
    with pytest.raises(DataError, match=r"not the shape \(1, 4, 4, 5\)"):
        IntermediateDenseProjectiond("image", count=1)({"image": torch.zeros(1, 4, 4, 5)})


def lesions(count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy cubes; every second one has a ball that reaches none of the three middle planes."""
    place = torch.stack(torch.meshgrid(*[torch.arange(22.0) - 11] * 3, indexing="ij"))
    cubes = 0.3 * torch.randn(count, 1, 22, 22, 22, generator=generator)
    label = torch.arange(count) % 2
    for cube, wanted in zip(cubes, label.tolist(), strict=True):
        if wanted:
            side = 6 * torch.randint(2, (3, 1, 1, 1), generator=generator) - 3
            cube[0] += ((place - side).square().sum(0) < 2.5**2).float()
    return cubes, label


def area_under_curve(slices: int, seed: int, rate: float) -> float:
    """Of a small network on unseen cubes, after the same number of steps whatever it sees of them."""
    generator = torch.Generator().manual_seed(seed)
    project = IntermediateDenseProjectiond("image", count=slices)
    sets = [lesions(count, generator) for count in (64, 64)]
    (train, label), (test, truth) = [
        (torch.stack([project({"image": cube})["image"] for cube in cubes]), labels) for cubes, labels in sets
    ]
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, 8, 5), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate)
    for _ in range(60):
        part = torch.randperm(64, generator=generator)[:32]
        loss = nn.functional.cross_entropy(network(train[part]), label[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        return float(roc_auc_score(truth, network(test).softmax(1)[:, 1]))


RATES = (0.003, 0.01)


def best(slices: int, seed: int) -> float:
    """The better of two learning rates, for each arm of its own."""
    return max(area_under_curve(slices, seed, rate) for rate in RATES)


def test_the_projection_decides_where_the_middle_slice_is_blind() -> None:
    assert best(9, 0) - best(1, 0) > 0.2


@pytest.mark.slow
def test_the_projection_decides_over_five_seeds() -> None:
    nine, one = ([best(slices, seed) for seed in range(5)] for slices in (9, 1))
    gain = paired_test(nine, one).difference
    print(f"\nAUC of nine slices {np.round(nine, 3).tolist()}, of one {np.round(one, 3).tolist()}")
    print(f"gained {gain.value:.3f} ({gain.low:.3f} to {gain.high:.3f})", flush=True)
    assert gain.low > 0
