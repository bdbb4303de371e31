"""A patch's label is that of its middle pixel, and negatives come from the optic disc too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medresnet3d.data.phantoms.fundus_lesions import fundus_photograph
from medresnet3d.errors import DataError
from medresnet3d.transforms.fundus_lesions import exudate_validation
from medresnet3d.transforms.lesion_patches import PatchOfd, lesion_patches, patch_inference, patch_training

SIZE, PATCH = 96, 12


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    folder = tmp_path_factory.mktemp("eyes")
    items = []
    for number, kind in enumerate(("exudates", "drusen", "exudates", "healthy")):
        drawn = fundus_photograph(number, kind, (96, 128))
        image, mask, disc = (folder / f"{name}{number}.png" for name in ("image", "mask", "disc"))
        for path, pixels in ((image, drawn.picture), (mask, drawn.exudates), (disc, drawn.optic_disc)):
            Image.fromarray(pixels).save(path)
        items.append({"image": str(image), "mask": str(mask), "patient": f"p{number}", "disc": str(disc)})
    return items


def test_the_label_is_that_of_the_middle_pixel(photographs: list[dict[str, str]]) -> None:
    patches = lesion_patches(photographs, SIZE, PATCH, 20)
    whole = exudate_validation(SIZE)
    masks = {item["patient"]: whole({"image": item["image"], "mask": item["mask"]})["label"][0] for item in photographs}
    assert {patch["label"] for patch in patches} == {0, 1}
    for patch in patches:
        assert float(masks[patch["patient"]][tuple(patch["centre"])]) == patch["label"]
        assert all(PATCH // 2 <= place <= SIZE - PATCH // 2 for place in patch["centre"])
    labels = {item["patient"]: [p["label"] for p in patches if p["patient"] == item["patient"]] for item in photographs}
    assert [sum(labels[f"p{number}"]) for number in range(4)] == [10, 0, 10, 0]
    assert [len(values) for values in labels.values()] == [20] * 4


def test_the_patch_is_cut_around_its_centre(photographs: list[dict[str, str]]) -> None:
    patches = lesion_patches(photographs, SIZE, PATCH, 6)
    cut = PatchOfd(SIZE, PATCH)
    image = exudate_validation(SIZE)(photographs[0])["image"].as_tensor()
    for patch in (one for one in patches if one["patient"] == "p0"):
        expected = patch_inference(SIZE, PATCH)(patch)["image"]
        first, second = (place - PATCH // 2 for place in patch["centre"])
        torch.testing.assert_close(expected, image[:, first : first + PATCH, second : second + PATCH])
        assert cut(patch)["image"].shape == (3, PATCH, PATCH)


def test_hard_negatives_lie_on_the_optic_disc_and_what_else_is_bright(photographs: list[dict[str, str]]) -> None:
    discs = {
        item["patient"]: exudate_validation(SIZE)({"image": item["image"], "mask": item["disc"]})["label"][0] > 0
        for item in photographs
    }
    share = {}
    for hard in (0.0, 1.0):
        negatives = [p for p in lesion_patches(photographs, SIZE, PATCH, 30, hard) if p["label"] == 0]
        share[hard] = np.mean([bool(discs[patch["patient"]][tuple(patch["centre"])]) for patch in negatives])
    assert share[1.0] > 4 * share[0.0]


def test_the_same_seed_gives_the_same_places_and_training_varies_the_patch(photographs: list[dict[str, str]]) -> None:
    first, again, other = (lesion_patches(photographs, SIZE, PATCH, 6, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    vary = patch_training(SIZE, PATCH).set_random_state(0)
    assert vary(first[0])["image"].shape == (3, PATCH, PATCH)
    assert not torch.allclose(vary(first[0])["image"], patch_inference(SIZE, PATCH)(first[0])["image"])


def test_a_photograph_without_mask_is_refused(photographs: list[dict[str, str]], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no `mask`"):
        lesion_patches([{"image": photographs[0]["image"], "patient": "p"}])
