"""Versions of an image behind one another on the channel axis."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import RandGaussianNoise

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.networks.multi_input import build_multi_input
from medresnet3d.transforms.channel_packing import PackVersionsd, RandPackVersionsd


@pytest.mark.parametrize("shape", [(3, 5, 6), (1, 4, 5, 6)])
def test_each_version_in_its_order_and_the_metadata_of_the_image(shape: tuple[int, ...]) -> None:
    image = MetaTensor(torch.rand(shape), affine=torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0])))
    packed = PackVersionsd("image", [None, lambda x: 1 - x, torch.sqrt])({"image": image, "label": 1})["image"]
    parts = torch.split(packed.as_tensor(), shape[0])
    plain = image.as_tensor()
    for part, expected in zip(parts, (plain, 1 - plain, plain.sqrt()), strict=True):
        assert torch.equal(part, expected)
    assert torch.equal(packed.affine, image.affine)


def test_the_network_takes_what_was_packed() -> None:
    packed = PackVersionsd("image", [None, torch.neg])({"image": torch.rand(3, 32, 32)})["image"]
    network = build_multi_input("resnet10", 2, size="slim").eval()
    assert network(packed[None]).shape == (1, 2)


def test_a_version_of_another_size_or_none_at_all_is_refused() -> None:
    with pytest.raises(DataError, match="Version 1 of the image"):
        PackVersionsd("image", [None, lambda x: x[:, 1:]])({"image": torch.rand(3, 5, 6)})
    with pytest.raises(ConfigError, match="no version"):
        PackVersionsd("image", [])


def test_random_versions_draw_apart_and_repeat_by_seed() -> None:
    pack = RandPackVersionsd("image", [RandGaussianNoise(1.0), None, RandGaussianNoise(1.0)])
    image = torch.zeros(1, 8, 8)
    first, plain, last = pack.set_random_state(0)({"image": image})["image"]
    assert torch.equal(plain, image[0]) and not torch.equal(first, last)
    assert not torch.equal(pack({"image": image})["image"][0], first)
    again = [pack.set_random_state(seed)({"image": image})["image"] for seed in (3, 3, 4)]
    assert torch.equal(again[0], again[1]) and not torch.equal(again[0], again[2])
