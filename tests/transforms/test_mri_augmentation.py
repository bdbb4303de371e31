from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from medresnet3d.data.phantoms.brain import brain_phantom
from medresnet3d.transforms.mri_augmentation import RandAtrophyd, RandThickSlicesd, RandTissuePatchd

PHANTOM = brain_phantom(0, 64)
LABEL = torch.from_numpy(PHANTOM.labels.astype(np.float32))[None]
CLEAN = torch.tensor([0.0, 0.3, 0.7, 1.0])[LABEL.long()]


def item() -> dict[str, Any]:
    return {"image": CLEAN.clone(), "label": LABEL.clone(), "patient": "a"}


def seeded(transform: Any, seed: int) -> Any:
    transform.set_random_state(seed=seed)
    return transform


@pytest.mark.parametrize("warp", [0.0, 1.0])
def test_patches_have_their_size_and_follow_the_seed(warp: float) -> None:
    transform = RandTissuePatchd(size=24, warp=warp)
    first, again = (seeded(transform, 3)(item()) for _ in range(2))
    other = seeded(transform, 4)(item())
    assert first["image"].shape == first["label"].shape == (1, 24, 24, 24)
    assert torch.equal(first["image"], again["image"])
    assert not torch.equal(first["image"], other["image"])
    assert first["patient"] == "a"


def test_an_unwarped_patch_is_a_piece_of_the_volume() -> None:
    transform = RandTissuePatchd(size=16, warp=0.0, flip=0.0)
    for seed in range(5):
        patch = seeded(transform, seed)(item())
        assert torch.equal(patch["image"], torch.tensor([0.0, 0.3, 0.7, 1.0])[patch["label"].long()])
    wide = seeded(RandTissuePatchd(size=160, warp=0.0, flip=0.0), 0)(item())
    assert int((wide["label"] > 0).sum()) == int((LABEL > 0).sum())


@pytest.mark.parametrize("ventricles", [0.0, 1.0])
def test_image_and_labels_stay_together_when_warped(ventricles: float) -> None:
    transform = RandTissuePatchd(size=32, warp=1.0, ventricles=ventricles)
    for seed in range(5):
        patch = seeded(transform, seed)(item())
        expected = torch.tensor([0.0, 0.3, 0.7, 1.0])[patch["label"].long()]
        assert float((patch["image"] - expected).abs().mean()) < 0.06
        assert set(patch["label"].unique().tolist()) <= {0.0, 1.0, 2.0, 3.0}


def test_widening_makes_more_deep_fluid() -> None:
    wide, plain = [], []
    for seed in range(5):
        for found, prob in ((wide, 1.0), (plain, 0.0)):
            transform = RandTissuePatchd(
                size=64, warp=1.0, ventricles=prob, rotation=0, scale=(1, 1), shear=0, elastic=0, flip=0
            )
            transform._centre = lambda label: np.array([32, 32, 34])  # type: ignore[method-assign]
            found.append(int((seeded(transform, seed)(item())["label"][0, 22:42, 16:48, 24:44] == 1).sum()))
    assert np.mean(wide) > 1.2 * np.mean(plain)


def test_mirroring_is_left_to_right() -> None:
    straight = seeded(RandTissuePatchd(size=16, warp=0.0, flip=0.0), 1)(item())
    mirrored = seeded(RandTissuePatchd(size=16, warp=0.0, flip=1.0), 1)(item())
    assert torch.equal(mirrored["image"], straight["image"].flip(1))


def test_atrophy_moves_borders_one_way_and_image_with_them() -> None:
    transform = RandAtrophyd(prob=1.0)
    for seed in range(3):
        changed = seeded(transform, seed)(item())
        assert torch.equal(changed["label"] > 0, LABEL > 0)
        assert bool((changed["label"] <= LABEL).all())
        assert int((changed["label"] == 1).sum()) > int((LABEL == 1).sum())
        expected = torch.tensor([0.0, 0.3, 0.7, 1.0])[changed["label"].long()]
        assert float((changed["image"] - expected)[LABEL > 0].abs().mean()) < 0.12
    assert torch.equal(seeded(RandAtrophyd(prob=0.0), 0)(item())["label"], LABEL)


def test_thick_slices_blur_one_axis_only() -> None:
    changed = seeded(RandThickSlicesd(prob=1.0, factor=(3.0, 3.0)), 0)(item())["image"]
    assert changed.shape == CLEAN.shape
    rough = [float((changed.diff(dim=axis) ** 2).mean() / (CLEAN.diff(dim=axis) ** 2).mean()) for axis in (1, 2, 3)]
    assert sorted(rough)[0] < 0.7 * sorted(rough)[1]
    assert torch.equal(seeded(RandThickSlicesd(prob=0.0), 0)(item())["image"], CLEAN)
