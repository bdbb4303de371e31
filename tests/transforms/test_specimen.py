from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

from medresnet3d.errors import ConfigError
from medresnet3d.transforms.specimen import PlaneAnswerd, specimen_inference, specimen_training, specimen_validation


@pytest.fixture
def item(tmp_path: Path) -> dict[str, str]:
    """A green picture whose bright square is the cell."""
    picture, mask = np.zeros((40, 50, 3), np.uint8), np.zeros((40, 50), np.uint8)
    picture[..., 1] = 30 + np.random.default_rng(0).integers(0, 9, (40, 50))
    picture[10:30, 15:35, 1], mask[10:30, 15:35] = 200, 1
    Image.fromarray(picture).save(tmp_path / "a.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return {"image": str(tmp_path / "a.png"), "label": str(tmp_path / "mask.png"), "case": "a"}


def test_whole_pictures_are_planes_with_their_masks(item: dict[str, str]) -> None:
    seen = specimen_validation()(item)
    assert seen["image"].shape == seen["label"].shape == (1, 50, 40)
    assert float(seen["image"].min()) == 0 and float(seen["image"].max()) == 1
    assert torch.equal(seen["image"].as_tensor() > 0.5, seen["label"].as_tensor() > 0)
    alone = specimen_inference()({"image": item["image"]})
    assert torch.equal(alone["image"].as_tensor(), seen["image"].as_tensor())


@pytest.mark.parametrize("augmentation", ["none", "light", "medium", "strong"])
def test_windows_keep_picture_and_mask_together(item: dict[str, str], augmentation: str) -> None:
    chain = specimen_training(32, augmentation).set_random_state(0)
    for _ in range(4):
        seen = chain(item)
        assert seen["image"].shape == seen["label"].shape == (1, 32, 32)
        assert set(seen["label"].unique().tolist()) <= {0, 1}
        agree = (seen["image"] > 0.5) == (seen["label"] > 0)
        assert agree.float().mean() > 0.9


def test_a_picture_smaller_than_the_window_is_padded(item: dict[str, str]) -> None:
    seen = specimen_training(64, "none")(item)
    assert seen["image"].shape == (1, 64, 64) and int(seen["label"].sum()) == 400


def test_the_answer_is_a_label_map_of_the_picture(item: dict[str, str]) -> None:
    image = specimen_inference()(item)["image"]
    logits = MetaTensor(torch.cat([-image, image]) - 0.1, meta=image.meta)
    answer = PlaneAnswerd("pred")({"pred": logits})["pred"]
    assert answer.shape == (1, 50, 40, 1) and answer.dtype == torch.uint8
    assert torch.equal(answer.affine, image.affine)


def test_an_unknown_augmentation_is_named() -> None:
    with pytest.raises(ConfigError, match="Augmentation 'heavy' is unknown"):
        specimen_training(32, "heavy")
