from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from medresnet3d.data.phantoms.ct import ChestPhantom, chest_phantom
from medresnet3d.errors import ConfigError
from medresnet3d.transforms.ct_detection import (
    STRENGTHS,
    nodule_detection_augmentation,
    nodule_detection_inference,
    nodule_detection_training,
    nodule_detection_validation,
)

SPACING = 3.0


@pytest.fixture(scope="module")
def chest() -> ChestPhantom:
    return chest_phantom(3, (48, 40, 30), (3.5, 3.5, 3.5), nodules=3, diameters_mm=(14.0, 24.0), kinds=["solid"])


def item(chest: ChestPhantom) -> dict[str, Any]:
    boxes = [
        [*(np.array(n.centre) - n.diameter_mm / 2), *(np.array(n.centre) + n.diameter_mm / 2)] for n in chest.nodules
    ]
    return {"image": (chest.array, chest.affine), "boxes": boxes, "case": "one", "patient": "p"}


def seeded(transform: Any, seed: int) -> Any:
    return transform.set_random_state(seed=seed)


def test_a_training_sample_is_a_plain_patch_with_heat_and_masks(chest: ChestPhantom) -> None:
    sample = seeded(nodule_detection_training((16, 16, 16), SPACING), 0)(item(chest))
    assert sample["image"].shape == (1, 16, 16, 16) and sample["label"].shape == (2, 16, 16, 16)
    assert sample.keys() == {"image", "label", "case"}
    assert not isinstance(sample["image"], MetaTensor)
    heat, mask = sample["label"]
    assert set(mask.unique().tolist()) <= {0.0, 1.0} and 0 <= float(heat.min()) <= float(heat.max()) <= 1
    only = seeded(nodule_detection_training((16, 16, 16), SPACING, truth=["sphere"]), 0)(item(chest))
    assert torch.equal(only["label"], sample["label"][1:])


@pytest.mark.parametrize("share", [1.0, 0.0])
def test_the_share_of_patches_in_a_finding(chest: ChestPhantom, share: float) -> None:
    transform = nodule_detection_training(
        (8, 8, 8), SPACING, finding_share=share, augmentation="none", truth=["sphere"]
    )
    deterministic = len(transform.transforms) - 2
    prepared = transform(item(chest), end=deterministic)
    for seed in range(8):
        sample = seeded(transform, seed)(dict(prepared), start=deterministic)
        assert bool(sample["label"][0, 3:5, 3:5, 3:5].any()) >= bool(share)
        if share == 0:
            assert float(sample["label"][0, 4, 4, 4]) == 0


def test_scans_smaller_than_the_patch_are_padded(chest: ChestPhantom) -> None:
    sample = seeded(nodule_detection_training((16, 16, 64), SPACING), 0)(item(chest))
    assert sample["image"].shape == (1, 16, 16, 64) and sample["label"].shape == (2, 16, 16, 64)


def values_at(image: MetaTensor, points: NDArray[np.float64]) -> NDArray[np.float64]:
    voxels = np.rint(apply_affine(np.linalg.inv(np.asarray(image.affine)), points)).astype(int)
    return np.asarray(image)[0][tuple(voxels.T)]


def test_findings_lie_where_the_scan_has_its_nodules(chest: ChestPhantom) -> None:
    whole = nodule_detection_validation(SPACING)(item(chest))
    findings = whole["label"][~whole["label"].isnan().any(1)].numpy().astype(float)
    np.testing.assert_allclose(findings[:, :3], [n.centre for n in chest.nodules], atol=1e-3)
    assert values_at(whole["image"], findings[:, :3]).min() > 0.6, "soft tissue"
    assert np.percentile(np.asarray(whole["image"]), 25) < 0.3, "lung"
    assert whole["case"] == "one" and whole["patient"] == "p"
    assert np.asarray(whole["image"].affine)[:3, :3] == pytest.approx(np.diag([SPACING] * 3), abs=1e-6)


def test_inference_prepares_as_validation_does(chest: ChestPhantom) -> None:
    answer, truth = (make(SPACING)(item(chest)) for make in (nodule_detection_inference, nodule_detection_validation))
    assert torch.equal(answer["image"].as_tensor(), truth["image"].as_tensor())
    assert "label" not in answer and "boxes" not in answer


def test_without_a_region_the_scan_stays_whole(chest: ChestPhantom) -> None:
    shape = nodule_detection_inference(3.5, region=None)(item(chest))["image"].shape
    assert shape == (1, *chest.array.shape)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_image_and_truth_are_varied_alike(strength: str) -> None:
    blob = torch.zeros(1, 24, 24, 24)
    blob[:, 4:12, 6:11, 14:20] = 1
    changed = 0
    for seed in range(6):
        sample: Any = {"image": blob.clone(), "label": torch.cat([blob, blob])}
        for transform in nodule_detection_augmentation(strength):
            sample = seeded(transform, seed)(sample)
        image, label = (torch.as_tensor(sample[key]) for key in ("image", "label"))
        assert float(((image[0] > 0.5) == (label[0] > 0.5)).float().mean()) > 0.98
        changed += not torch.equal(label[:1], blob)
    assert changed > 2 if strength != "none" else changed == 0


def test_an_unknown_strength_names_the_known() -> None:
    with pytest.raises(ConfigError, match="none, light, medium, strong"):
        nodule_detection_augmentation("heavy")
