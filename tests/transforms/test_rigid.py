from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from medresnet3d.data.phantoms.brain import brain_phantom
from medresnet3d.data.phantoms.mri import HULL
from medresnet3d.errors import DataError
from medresnet3d.transforms.rigid import align_rigidly, centre_on_brain, drawn_brain


def moved(affine: NDArray[np.float64], turn: list[float], shift: list[float]) -> NDArray[np.float64]:
    """The same voxels of a head that was turned (degrees) about the origin, then shifted (mm)."""
    move = np.eye(4)
    move[:3, :3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    move[:3, 3] = shift
    return move @ affine


def degrees(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(np.degrees(Rotation.from_matrix(one[:3, :3] @ other[:3, :3].T).magnitude()))


def test_the_drawn_brain_is_found_where_it_was_put() -> None:
    image, affine = drawn_brain()
    where = moved(np.eye(4), [9.0, -7.0, 11.0], [6.0, -8.0, 12.0])
    found = align_rigidly(image, where @ affine)
    assert degrees(found, where) < 0.3
    np.testing.assert_allclose(found[:3, 3], where[:3, 3], atol=0.2)


def test_the_same_brain_gives_the_same_place_whatever_its_pose() -> None:
    """Two poses of one phantom: the matrices differ by the difference of the poses."""
    phantom = brain_phantom(3, 40, spacing=4.5, axes=HULL, hippocampi=1.0)
    first = align_rigidly(phantom.image, phantom.affine)
    where = moved(np.eye(4), [-10.0, 6.0, 8.0], [-7.0, 4.0, 9.0])
    second = align_rigidly(phantom.image, where @ phantom.affine)
    assert degrees(second, where @ first) < 1.5
    np.testing.assert_allclose(second[:3, 3], (where @ first)[:3, 3], atol=1.5)


def test_alignment_straightens_turned_heads() -> None:
    """What the network is spared: phantoms of several people, turned by 12 degrees about an axis each."""
    left = []
    for seed, turn in enumerate(([12.0, 0, 0], [0, 12.0, 0], [0, 0, 12.0])):
        phantom = brain_phantom(seed, 40, spacing=4.5, axes=HULL, turn_degrees=turn)
        left.append(degrees(align_rigidly(phantom.image, phantom.affine), moved(np.eye(4), turn, [0, 0, 0])))
    assert np.mean(left) < 5 and max(left) < 9


def test_the_same_scan_gives_the_same_matrix_in_any_voxel_order() -> None:
    phantom = brain_phantom(1, 40, spacing=4.5, axes=HULL)
    plain = align_rigidly(phantom.image, phantom.affine)
    assert np.array_equal(plain, align_rigidly(phantom.image, phantom.affine))
    turned = nib.Nifti1Image(phantom.image, phantom.affine).as_reoriented([[2, -1], [0, 1], [1, -1]])
    other = align_rigidly(np.asarray(turned.dataobj), turned.affine)
    assert degrees(plain, other) < 1.0


def test_a_template_file_takes_the_place_of_the_drawn_brain(tmp_path: Path) -> None:
    image, affine = drawn_brain(5.0)
    nib.save(nib.Nifti1Image(image, moved(affine, [0, 0, 0], [30.0, 10.0, 0])), tmp_path / "template.nii.gz")
    where = moved(np.eye(4), [5.0, 0, -6.0], [0, 3.0, 0])
    found = align_rigidly(image, where @ affine, str(tmp_path / "template.nii.gz"))
    assert degrees(found, where) < 0.5


def test_what_is_no_brain_is_refused() -> None:
    image, affine = drawn_brain()
    inverted = np.where(image > 0, 0.01, 1.0).astype(np.float32)
    with pytest.raises(DataError, match="could not be aligned"):
        align_rigidly(inverted, affine)


def test_centring_moves_to_the_middle_and_turns_nothing() -> None:
    image, affine = drawn_brain()
    found = centre_on_brain(image, moved(affine, [0, 0, 0], [11.0, -4.0, 2.0]))
    np.testing.assert_allclose(found[:3, 3], [11.0, -4.0, 2.0], atol=0.5)
    assert np.array_equal(found[:3, :3], np.eye(3))


@pytest.mark.slow
def test_a_real_average_brain_is_found_in_any_pose() -> None:
    """The MNI152 average, whose own alignment is the reference: a repeat, no measure of truth."""
    datasets = pytest.importorskip("nilearn.datasets")
    template = datasets.load_mni152_template(resolution=2)
    image, affine = np.asarray(template.dataobj, dtype=np.float32), np.asarray(template.affine)
    own = align_rigidly(image, affine)
    assert degrees(own, np.eye(4)) < 10
    rng = np.random.default_rng(0)
    for _ in range(4):
        where = moved(np.eye(4), rng.uniform(-12, 12, 3).tolist(), rng.uniform(-8, 8, 3).tolist())
        assert degrees(align_rigidly(image, where @ affine), where @ own) < 3
