from __future__ import annotations

import nibabel
import numpy as np
import pytest
from scipy.ndimage import binary_erosion
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medresnet3d.data.phantoms.ct import ChestPhantom, chest_phantom
from medresnet3d.errors import ConfigError

SMALL = ((88, 72, 64), (2.0, 2.0, 1.5))


@pytest.fixture(scope="module")
def phantom() -> ChestPhantom:
    return chest_phantom([5, 1])


def test_default_is_a_scan_in_hu_with_its_truth(phantom: ChestPhantom) -> None:
    assert phantom.array.dtype == np.int16
    assert phantom.array.shape == phantom.lung_mask.shape == phantom.nodule_mask.shape == (160, 128, 60)
    assert phantom.array.min() >= -1024
    assert len(phantom.nodules) == 6
    assert sum(candidate.is_nodule for candidate in phantom.candidates) == 6
    assert 10 <= len(phantom.candidates) <= 14
    assert nibabel.aff2axcodes(phantom.affine) == ("L", "P", "S")
    assert nibabel.affines.voxel_sizes(phantom.affine) == pytest.approx((1.25, 1.25, 2.0))


@pytest.mark.parametrize("kind", ["solid", "ground_glass"])
def test_hu_inside_nodules_is_the_one_they_were_painted_with(kind: str) -> None:
    phantom = chest_phantom([1, 2], *SMALL, nodules=5, kinds=[kind], diameters_mm=(10, 16))
    for nodule in phantom.nodules:
        assert nodule.kind == kind
        assert phantom.nodule_mask[phantom.index_of(nodule.centre)] == nodule.number
        core = binary_erosion(phantom.nodule_mask == nodule.number)
        assert np.median(phantom.array[core]) == pytest.approx(nodule.hu, abs=25 if kind == "solid" else 60)
    assert all(nodule.hu > -50 if kind == "solid" else -650 < nodule.hu < -300 for nodule in phantom.nodules)


def test_masks_have_the_volume_of_the_formula() -> None:
    phantom = chest_phantom([3, 3], *SMALL, nodules=4, diameters_mm=(12, 18))
    voxel = abs(np.linalg.det(phantom.affine[:3, :3]))
    for nodule in phantom.nodules:
        ball = np.pi / 6 * nodule.diameter_mm**3
        assert nodule.volume_mm3 == pytest.approx(ball, rel=0.01)
        assert voxel * (phantom.nodule_mask == nodule.number).sum() == pytest.approx(ball, rel=0.08)


def test_same_seed_same_scan_and_nodules_leave_the_anatomy_alone() -> None:
    first, again = chest_phantom(7, *SMALL, nodules=2), chest_phantom(7, *SMALL, nodules=2)
    np.testing.assert_array_equal(first.array, again.array)
    assert first.nodules == again.nodules
    assert first.candidates == again.candidates
    bare, other = chest_phantom(7, *SMALL, nodules=0, distractors=0), chest_phantom(8, *SMALL, nodules=2)
    assert not bare.nodules and not bare.candidates and not bare.nodule_mask.any()
    np.testing.assert_array_equal(first.lung_mask, bare.lung_mask)
    assert (first.array != bare.array).mean() < 0.1
    assert (first.array != other.array).mean() > 0.5


@pytest.mark.parametrize("orientation", ["RAS", "LPI", "PSL"])
def test_orientation_changes_the_array_but_not_the_world(orientation: str) -> None:
    plain = chest_phantom(4, *SMALL, nodules=3, centre=(10.0, -20.0, 300.0))
    turned = chest_phantom(4, *SMALL, nodules=3, centre=(10.0, -20.0, 300.0), orientation=orientation)
    assert nibabel.aff2axcodes(turned.affine) == tuple(orientation)
    assert turned.nodules == plain.nodules
    assert turned.candidates == plain.candidates
    for candidate in plain.candidates:
        assert turned.array[turned.index_of(candidate.position)] == plain.array[plain.index_of(candidate.position)]
    middle = (np.array(turned.array.shape) - 1) / 2
    np.testing.assert_allclose(nibabel.affines.apply_affine(turned.affine, middle), (10, -20, 300), atol=1e-9)


def test_oblique_scans_keep_their_truth() -> None:
    plain = chest_phantom(4, *SMALL, nodules=3)
    oblique = chest_phantom(4, *SMALL, nodules=3, rotation_degrees=(10.0, -5.0, 20.0), centre=(5.0, 6.0, 7.0))
    np.testing.assert_array_equal(plain.array, oblique.array)
    assert np.abs(oblique.affine[:3, :3]).min() > 0.01
    for nodule, turned in zip(plain.nodules, oblique.nodules, strict=True):
        assert turned.centre != nodule.centre
        assert plain.index_of(nodule.centre) == oblique.index_of(turned.centre)
        assert oblique.nodule_mask[oblique.index_of(turned.centre)] == turned.number


def test_lps_is_ras_with_x_and_y_turned_round(phantom: ChestPhantom) -> None:
    nodule, candidate = phantom.nodules[0], phantom.candidates[0]
    assert nodule.centre_lps == (-nodule.centre[0], -nodule.centre[1], nodule.centre[2])
    assert candidate.position_lps == (-candidate.position[0], -candidate.position[1], candidate.position[2])


def test_anatomy_is_where_it_belongs(phantom: ChestPhantom) -> None:
    x = nibabel.affines.apply_affine(phantom.affine, np.argwhere(phantom.lung_mask == 3))[:, 0]
    assert x.max() < 0, "3 is the left lung: negative x in RAS+"
    lungs, trachea = phantom.array[np.isin(phantom.lung_mask, (3, 4))], phantom.array[phantom.lung_mask == 5]
    assert -900 < np.median(lungs) < -800
    assert np.median(trachea) < -950
    assert 0.1 < np.isin(phantom.lung_mask, (3, 4)).mean() < 0.4
    assert (phantom.array > 300).mean() > 0.01, "ribs and spine"
    assert (phantom.array[0] < -900).all(), "air beside the patient"
    left, right = (phantom.lung_mask == 3).sum(), (phantom.lung_mask == 4).sum()
    assert right > left, "the heart lies in the left half"


def test_candidates_lie_within_their_structures(phantom: ChestPhantom) -> None:
    for candidate in phantom.candidates:
        if candidate.is_nodule:
            nodule = phantom.nodules[candidate.nodule - 1]
            assert np.linalg.norm(np.subtract(candidate.position, nodule.centre)) < nodule.diameter_mm / 2
        else:
            assert candidate.kind in ("vessel", "airway", "pleura", "scar")
            assert phantom.nodule_mask[phantom.index_of(candidate.position)] == 0


def _cubes(patients: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and standard deviation (n, 2) of 16 and 32 mm around candidates, class (n,) and patient (n,)."""
    rows = []
    for patient in range(patients):
        phantom = chest_phantom([11, patient])
        for candidate in phantom.candidates:
            i, j, k = phantom.index_of(candidate.position)
            cubes = [
                phantom.array[max(i - h, 0) : i + h, max(j - h, 0) : j + h, max(k - q, 0) : k + q].clip(-1000, 400)
                for h, q in ((7, 4), (13, 8))
            ]
            rows.append([*(f(cube) for cube in cubes for f in (np.mean, np.std)), candidate.is_nodule, patient])
    table = np.array(rows, dtype=float)
    return table[:, :4], table[:, 4], table[:, 5]


def test_mean_and_spread_alone_do_not_tell_nodules_from_the_rest() -> None:
    features, label, patient = _cubes(10)
    model = make_pipeline(StandardScaler(), LogisticRegression())
    guess = cross_val_predict(model, features, label, groups=patient, cv=GroupKFold(5), method="predict_proba")
    assert roc_auc_score(label, guess[:, 1]) < 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ["calcified"]}, "solid, ground_glass"),
        ({"margins": []}, "smooth, spiculated"),
        ({"orientation": "LPX"}, "LPS or RAS"),
        ({"orientation": "LRS"}, "LPS or RAS"),
        ({"orientation": "LP"}, "LPS or RAS"),
        ({"nodules": 200}, "no room"),
    ],
)
def test_impossible_wishes_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        chest_phantom(0, (44, 36, 32), (3.0, 3.0, 3.0), **options)
