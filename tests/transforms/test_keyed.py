from __future__ import annotations

import inspect
import pickle

import numpy as np
import pytest
import torch
from monai.transforms import Compose

from medresnet3d.transforms.colour_augmentation import RandColourJitterd
from medresnet3d.transforms.contrast import CLAHE, CLAHEd


def test_every_key_is_transformed_and_others_stay() -> None:
    picture = np.random.default_rng(0).random((1, 16, 16), dtype=np.float32)
    item = CLAHEd(["image", "more"], clip_limit=0.05)({"image": picture, "more": picture.T.copy().T, "label": 3})
    expected = CLAHE(clip_limit=0.05)(picture)
    np.testing.assert_array_equal(item["image"], expected)
    np.testing.assert_array_equal(item["more"], expected)
    assert item["label"] == 3


def test_missing_keys_are_an_error_unless_allowed() -> None:
    with pytest.raises(KeyError):
        CLAHEd("image")({})
    assert CLAHEd("image", allow_missing_keys=True)({}) == {}
    assert RandColourJitterd("image", allow_missing_keys=True)({"label": 1}) == {"label": 1}


def test_the_signature_is_keys_and_what_the_array_transform_takes() -> None:
    assert list(inspect.signature(CLAHEd).parameters) == ["keys", "clip_limit", "tiles", "allow_missing_keys"]


def test_one_draw_for_all_keys_seeded_by_compose_and_picklable() -> None:
    picture = torch.rand(3, 8, 8)
    chain = Compose([RandColourJitterd(["image", "more"], prob=1.0, brightness=0.3)])
    results = []
    for each in (chain, pickle.loads(pickle.dumps(chain))):
        each.set_random_state(4)
        results.append(each({"image": picture, "more": picture}))
    assert torch.equal(results[0]["image"], results[0]["more"])
    assert torch.equal(results[0]["image"], results[1]["image"])
    assert not torch.equal(chain({"image": picture, "more": picture})["image"], results[0]["image"])
