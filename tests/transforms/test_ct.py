from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from medresnet3d.errors import AmbiguousInputError, ConfigError, DataError
from medresnet3d.transforms.ct import INTENSITIES, CropAtPositiond, nodule_cube_inference, nodule_cube_training

SHAPE = (40, 36, 30)


def affine_of(
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    angles: tuple[float, float, float] = (0.0, 0.0, 0.0),
    signs: tuple[int, int, int] = (1, 1, 1),
    order: tuple[int, int, int] = (0, 1, 2),
    offset: tuple[float, float, float] = (-20.0, 10.0, 55.0),
) -> NDArray[np.float64]:
    """Flipped, permuted, oblique and anisotropic."""
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    affine[:3, :3] = turn @ np.eye(3)[:, order] @ np.diag(np.array(signs) * spacing)
    affine[:3, 3] = offset
    return affine


def item_of(array: NDArray, affine: NDArray, position: object = None) -> dict:
    image = MetaTensor(torch.as_tensor(array, dtype=torch.float32)[None], affine=torch.as_tensor(affine))
    return {"image": image} if position is None else {"image": image, "position": position}


affines = st.builds(
    affine_of,
    spacing=st.tuples(*[st.floats(0.6, 2.5)] * 3),
    angles=st.tuples(*[st.floats(-40, 40)] * 3),
    signs=st.tuples(*[st.sampled_from((-1, 1))] * 3),
    order=st.permutations((0, 1, 2)).map(tuple),
)


@settings(max_examples=40, deadline=None)
@given(
    affine=affines, voxel=st.tuples(st.integers(2, 37), st.integers(2, 33), st.integers(2, 27)), size=st.integers(4, 21)
)
def test_the_voxel_at_the_point_lands_in_the_middle_of_the_cube(
    affine: NDArray, voxel: tuple[int, int, int], size: int
) -> None:
    scan = np.full(SHAPE, -1000.0)
    scan[voxel] = 500.0
    point = (affine @ [*voxel, 1.0])[:3]
    cube = CropAtPositiond("image", size)(item_of(scan, affine, point.tolist()))["image"]
    middle = (0, *[size // 2] * 3)
    assert cube.shape == (1, size, size, size)
    assert cube[middle].item() == pytest.approx(500.0, abs=1.0)
    assert cube.max() == cube[middle]


@settings(max_examples=25, deadline=None)
@given(affine=affines, shift=st.tuples(*[st.floats(-12, 12)] * 3), spacing=st.sampled_from((0.8, 1.0, 1.5)))
def test_cube_has_the_values_of_an_independent_interpolation(
    affine: NDArray, shift: tuple[float, float, float], spacing: float
) -> None:
    """Against scipy, voxel by voxel, wherever the cube lies inside of the scan; -1000 far outside of it."""
    rng = np.random.default_rng(0)
    scan, size = rng.normal(0, 100, SHAPE), 12
    reach = np.abs(affine[:3, :3]).sum(1).min()
    point = (affine @ [20, 18, 15, 1.0])[:3] + np.clip(shift, -3 * reach, 3 * reach)
    cube = CropAtPositiond("image", size, spacing)(item_of(scan, affine, point.tolist()))["image"]
    world = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), 0).reshape(3, -1)
    world = (world - size // 2) * spacing + point[:, None]
    voxels = np.linalg.solve(affine[:3, :3], world - affine[:3, 3:])
    expected = map_coordinates(scan, voxels, order=1, mode="nearest").reshape((size,) * 3)
    last = np.array(SHAPE)[:, None] - 1
    inside = ((voxels >= 0) & (voxels <= last)).all(0).reshape((size,) * 3)
    outside = ((voxels < -1) | (voxels > last + 1)).any(0).reshape((size,) * 3)
    np.testing.assert_allclose(cube[0].numpy()[inside], expected[inside], atol=0.05)
    np.testing.assert_array_equal(cube[0].numpy()[outside], -1000.0)
    recovered = cube.affine.numpy() @ [*[size // 2] * 3, 1.0]
    np.testing.assert_allclose(recovered[:3], point, atol=1e-6)
    np.testing.assert_allclose(cube.affine.numpy()[:3, :3], np.eye(3) * spacing)


def test_only_the_neighbourhood_is_resampled_but_a_corner_is_padded() -> None:
    scan = np.zeros(SHAPE)
    cube = CropAtPositiond("image", 8)(item_of(scan, np.eye(4), [0.0, 0.0, 0.0]))["image"][0]
    assert (cube[4:, 4:, 4:] == 0).all()
    assert (cube[:4] == -1000).all()
    assert (cube[4:, 4:, :4] == -1000).all()


@pytest.mark.parametrize("edge", [20, 32, 33, 48])
def test_a_cube_without_a_point_is_used_whole(edge: int) -> None:
    array = np.random.default_rng(0).normal(size=(edge,) * 3)
    item = CropAtPositiond("image", 32)(item_of(array, np.eye(4)))
    middle = edge // 2
    assert item["position"] == [middle] * 3
    cube = item["image"][0].numpy()
    part = array[tuple(slice(max(0, middle - 16), middle + 16) for _ in range(3))]
    start = max(0, 16 - middle)
    inner = tuple(slice(start, start + length) for length in part.shape)
    np.testing.assert_allclose(cube[inner], part, atol=1e-3)
    assert np.isclose(cube, -1000).sum() == 32**3 - part.size


@pytest.mark.parametrize("shape", [(65, 32, 32), (200, 200, 90)])
def test_whole_scan_without_a_point_is_refused(shape: tuple[int, int, int]) -> None:
    message = r"a whole scan, but .* 32 mm: give the point with --at x,y,z .* `position`.*lung_nodule_detection"
    with pytest.raises(AmbiguousInputError, match=message):
        CropAtPositiond("image", 32)(item_of(np.zeros(shape), np.eye(4)))


def test_extent_is_measured_in_millimetres() -> None:
    crop = CropAtPositiond("image", 32)
    assert crop(item_of(np.zeros((100, 100, 100)), affine_of((0.6, 0.6, 0.6))))["image"].shape == (1, 32, 32, 32)
    with pytest.raises(DataError, match="240 x 240 x 240 mm"):
        crop(item_of(np.zeros((48, 48, 48)), affine_of((5.0, 5.0, 5.0))))


@pytest.mark.parametrize("point", [[1.0, 2.0], "here", [0.0, float("nan"), 0.0], [[1], [2], [3], [4]]])
def test_malformed_point_is_refused(point: object) -> None:
    with pytest.raises(DataError, match="give three numbers x, y, z in mm"):
        CropAtPositiond("image", 8)(item_of(np.zeros(SHAPE), np.eye(4), point))


def test_point_outside_is_refused_with_the_ranges_and_a_hint_at_lps() -> None:
    with pytest.raises(
        DataError, match=r"\(-5, 0, 0\) lies outside .* x -1 to 39, y -1 to 35, z -1 to 29 mm.*LPS"
    ) as error:
        CropAtPositiond("image", 8)(item_of(np.zeros(SHAPE), affine_of(offset=(-0.4, -0.4, -0.4)), [-5.0, 0.0, 0.0]))
    assert "\n" not in str(error.value)


@pytest.fixture
def scan(tmp_path: Path) -> dict:
    """A scan in scanner order with a ball of 0 HU in lung of -800 HU."""
    affine = affine_of((0.7, 0.7, 2.0), signs=(-1, -1, 1), offset=(60.0, 60.0, -40.0))
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in (160, 160, 50)], indexing="ij"), -1)
    point = np.array([12.3, -21.4, 8.8])
    distance = np.linalg.norm(grid @ affine[:3, :3].T + affine[:3, 3] - point, axis=-1)
    array = np.where(distance < 6, 0, -800).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(array, affine), tmp_path / "scan.nii.gz")
    path = str(tmp_path / "scan.nii.gz")
    return {"image": path, "path": path, "position": point.tolist(), "label": 1, "case": "scan", "age": 61}


def test_inference_pipeline_windows_and_keeps_what_is_carried(scan: dict) -> None:
    item = nodule_cube_inference()(scan)
    assert item["image"].shape == (1, 32, 32, 32)
    assert item["image"][0, 16, 16, 16].item() == pytest.approx(1000 / 1400, abs=1e-4)
    assert item["image"][0, 0, 0, 0].item() == pytest.approx(200 / 1400, abs=1e-4)
    assert {key: item[key] for key in ("case", "label", "path")} == {
        key: scan[key] for key in ("case", "label", "path")
    }
    np.testing.assert_allclose(item["position"], scan["position"])


def test_ball_keeps_its_volume_whatever_the_voxel_size(scan: dict) -> None:
    ball = (nodule_cube_inference()(scan)["image"] > 600 / 1400).sum().item()
    assert ball == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.05)
    fine = (nodule_cube_inference(spacing=0.5)(scan)["image"] > 600 / 1400).sum().item() * 0.125
    assert fine == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.05)


def test_training_varies_by_seed_within_the_shift(scan: dict) -> None:
    transform = nodule_cube_training(noise=0.0, scale=0.0)
    cubes = []
    for seed in (0, 0, 1, 2, 3, 4):
        transform.set_random_state(seed)
        item = transform(dict(scan))
        assert set(item) == {"image", "label", "case"}
        assert type(item["image"]) is torch.Tensor
        cubes.append(item["image"][0])
    assert torch.equal(cubes[0], cubes[1])
    assert len({cube.numpy().tobytes() for cube in cubes}) == 5
    for cube in cubes:
        centre = torch.nonzero(cube > 0.5).float().mean(0) - 16
        assert centre.abs().max() <= 4  # a shift of three, and one where a flip moves voxel 16 to 15


def test_medicalnets_rule_takes_the_voxels_of_the_cube_above_the_window(scan: dict) -> None:
    """Not those of the margin that the shift cuts off; a face of the cube cuts the ball. The others become noise."""
    scan["position"] = np.add(scan["position"], (14, 0, 0)).tolist()
    for make in (nodule_cube_inference, partial(nodule_cube_training, noise=0.0, scale=0.0)):
        chains = [make(intensity_range=(-800, 400), intensity=name).set_random_state(2) for name in INTENSITIES]
        window, result = (np.asarray(chain(dict(scan))["image"]) for chain in chains)
        body = window > 0
        assert 300 < body.sum() < 1200
        np.testing.assert_allclose(
            result[body], (window[body] - window[body].mean()) / window[body].std(), rtol=1e-3, atol=1e-3
        )
        assert abs(result[~body].mean()) < 0.1 and 0.9 < result[~body].std() < 1.1


def test_another_intensity_is_refused() -> None:
    for make in (nodule_cube_training, nodule_cube_inference):
        with pytest.raises(ConfigError, match="choose one of window, medicalnet"):
            make(intensity="zscore")


def test_noise_and_scale_are_small(scan: dict) -> None:
    transform = nodule_cube_training(shift=0)
    plain = nodule_cube_inference()(scan)["image"]
    transform.set_random_state(3)
    cube = transform(dict(scan))["image"]
    assert cube.shape == plain.shape
    assert (cube.sort().values.mean() - plain.as_tensor().mean()).abs() < 0.05


def test_bytes_are_windowed_by_their_own_range(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (48, 48, 48), dtype=np.uint8)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / "cube.nii.gz")
    item = {"image": str(tmp_path / "cube.nii.gz"), "case": "cube"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cube = nodule_cube_inference(intensity_range=(0, 255))(item)["image"][0].numpy()
    np.testing.assert_allclose(cube, array[8:40, 8:40, 8:40] / 255, atol=1e-4)


def test_training_refuses_the_same_whole_scans_as_inference(tmp_path: Path) -> None:
    """The margin for the shift makes the cut larger, which must not move the limit."""
    for edge, refused in ((64, False), (66, True)):
        array = np.random.default_rng(0).normal(-500, 100, (edge, 20, 20)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / "scan.nii.gz")
        for transform in (nodule_cube_training(), nodule_cube_inference()):
            item = {"image": str(tmp_path / "scan.nii.gz"), "label": 0, "case": "scan"}
            if refused:
                with pytest.raises(RuntimeError) as error:  # MONAI's Compose wraps what its transforms raise
                    transform(item)
                assert isinstance(error.value.__cause__, AmbiguousInputError)
                assert "one cube of 32 mm" in str(error.value.__cause__)
            else:
                assert transform(item)["image"].shape == (1, 32, 32, 32)


def test_no_augmentation_is_the_inference_pipeline(scan: dict) -> None:
    plain = nodule_cube_inference()(dict(scan))["image"].as_tensor()
    transform = nodule_cube_training(augmentation="none")
    for seed in (0, 1):
        transform.set_random_state(seed)
        assert torch.equal(transform(dict(scan))["image"], plain)


def test_strengths_are_those_of_the_augmentation(scan: dict) -> None:
    cubes = []
    for strength in ("light", "medium", "strong"):
        transform = nodule_cube_training(augmentation=strength)
        transform.set_random_state(4)
        cubes.append(transform(dict(scan))["image"])
    assert len({cube.numpy().tobytes() for cube in cubes}) == 3
    assert {tuple(cube.shape) for cube in cubes} == {(1, 32, 32, 32)}
