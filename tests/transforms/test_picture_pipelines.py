from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from medresnet3d.data import SeededDataset, data_loader
from medresnet3d.data.phantoms.pictures import skin
from medresnet3d.errors import ConfigError
from medresnet3d.transforms.batched import AugmentedBatch
from medresnet3d.transforms.dermoscopy import ShadesOfGreyd
from medresnet3d.transforms.picture_pipelines import (
    IMAGENET_DEVIATION,
    IMAGENET_MEAN,
    STRENGTHS,
    AsColour,
    picture_augmentation,
    picture_inference,
    picture_training,
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A colour picture of 60 x 40 and a grey one of 16 bits."""
    folder = tmp_path_factory.mktemp("pictures")
    picture = skin(60, seed=0).picture[:, :, :40]
    Image.fromarray(picture.transpose(2, 1, 0)).save(folder / "colour.png")
    Image.fromarray(picture[0].T.astype(np.uint16) * 257).save(folder / "grey.png")
    return [str(folder / "colour.png"), str(folder / "grey.png")]


def test_grey_and_colour_of_any_depth_become_the_same_scale() -> None:
    grey = np.array([[[0, 65535]]], dtype=np.uint16)
    np.testing.assert_array_equal(AsColour()(grey), [[[0, 1]]] * 3)
    colour = torch.tensor([0.0, 51.0, 255.0]).reshape(3, 1, 1, 1)
    torch.testing.assert_close(AsColour()(colour), torch.tensor([0.0, 0.2, 1.0]).reshape(3, 1, 1))


def test_inference_is_resized_and_normalised(files: list[str]) -> None:
    image = picture_inference(32)({"image": files[0], "label": 1})["image"]
    assert image.shape == (3, 32, 32) and image.dtype == torch.float32
    unit = image.numpy() * np.array(IMAGENET_DEVIATION)[:, None, None] + np.array(IMAGENET_MEAN)[:, None, None]
    source = skin(60, seed=0).picture[:, :, :40] / 255
    np.testing.assert_allclose(unit.mean((1, 2)), source.mean((1, 2)), atol=0.01)
    assert unit.min() > -0.01 and unit.max() < 1.01


def test_without_augmentation_training_sees_what_inference_sees(files: list[str]) -> None:
    for path in files:
        training = picture_training(24, augmentation="none")({"image": path, "label": 0})["image"]
        torch.testing.assert_close(training, picture_inference(24)({"image": path})["image"].as_tensor())


@pytest.mark.parametrize("mode", ["per_sample", "batched"])
@pytest.mark.parametrize("strength", STRENGTHS)
def test_batches_in_both_modes(strength: str, mode: str, files: list[str]) -> None:
    preprocessing = picture_training(16, strength, mode)
    data = SeededDataset(
        [{"image": path, "label": index} for index, path in enumerate(files)], preprocessing, repeats=3
    )
    prepare = AugmentedBatch(preprocessing)
    (image, label), *_ = [prepare(batch, "cpu") for batch in data_loader(data, batch_size=6)]
    assert image.shape == (6, 3, 16, 16) and image.dtype == torch.float32 and label.tolist() == [0, 1] * 3
    plain = torch.stack([picture_inference(16)({"image": files[index]})["image"].as_tensor() for index in (0, 1)])
    assert torch.allclose(image, plain.repeat(3, 1, 1, 1)) == (strength == "none")
    assert image.isfinite().all() and image.abs().max() < 4


def test_transforms_of_the_modality_come_first(files: list[str]) -> None:
    item = {"image": files[0]}
    grey = picture_inference(16, [ShadesOfGreyd("image")])(item)["image"]
    assert not torch.allclose(grey, picture_inference(16)(item)["image"])


def test_unknown_strengths_are_listed() -> None:
    assert picture_augmentation("none") == []
    with pytest.raises(ConfigError, match="no augmentation 'wild'; use none, light, medium, strong"):
        picture_augmentation("wild")
