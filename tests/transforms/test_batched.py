from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    MapTransform,
    RandAdjustContrastd,
    RandAffined,
    RandCoarseDropoutd,
    RandFlipd,
    RandGaussianNoised,
    RandRotate90d,
    RandScaleIntensityd,
    RandShiftIntensityd,
)
from scipy import stats

from medresnet3d.data import SeededDataset, data_loader
from medresnet3d.errors import ConfigError
from medresnet3d.transforms.batched import AugmentedBatch, BatchedAugmentation, DrawAugmentationd, carried_out
from medresnet3d.transforms.colour_augmentation import RandColourMapd


def chain(dims: int, padding_mode: str = "border", label: bool = False) -> list[MapTransform]:
    """Everything that has a batched form, save noise."""
    keys = ["image", "label"] if label else ["image"]
    modes = ["bilinear", "nearest"] if label else ["bilinear"]
    ranges = {
        "rotate_range": [0.3] * (3 if dims == 3 else 1),
        "shear_range": [0.1] * (dims * (dims - 1)),
        "translate_range": list(range(2, 2 + dims)),
        "scale_range": [0.1, (-0.2, 0.3), 0.15][:dims],
    }
    return [
        *(RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in range(dims)),
        RandFlipd(keys, prob=0.2),
        RandRotate90d(keys, prob=0.5, spatial_axes=(0, dims - 1)),
        RandAffined(keys, prob=0.6, **ranges, mode=modes, padding_mode=padding_mode),
        RandRotate90d(keys, prob=0.5, max_k=1, spatial_axes=(1, 0)),
        RandScaleIntensityd("image", factors=0.1, prob=0.5),
        RandAdjustContrastd("image", prob=0.5, gamma=(0.7, 1.4)),
        RandShiftIntensityd("image", offsets=0.2, prob=0.5),
        RandCoarseDropoutd(
            "image", holes=1, max_holes=4, spatial_size=2, max_spatial_size=5, fill_value=0.25, prob=0.5
        ),
    ]


def per_sample(transforms: Sequence[MapTransform], batch: dict[str, torch.Tensor], seed: int) -> dict:
    compose = Compose(transforms)
    compose.set_random_state(seed)
    count = len(batch["image"])
    items = [compose({key: MetaTensor(value[index]) for key, value in batch.items()}) for index in range(count)]
    return {key: torch.stack([item[key].as_tensor() for item in items]) for key in batch}


@pytest.mark.parametrize("padding_mode", ["border", "zeros", "reflection"])
@pytest.mark.parametrize("shape", [(12, 12), (9, 9, 9)], ids=["2D", "3D"])
def test_equal_draws_give_what_monai_gives(shape: tuple[int, ...], padding_mode: str) -> None:
    generator = torch.Generator().manual_seed(0)
    batch = {"image": torch.rand(40, 2, *shape, generator=generator)}
    batch["label"] = torch.randint(0, 4, (40, 1, *shape), generator=generator).float()
    theirs = per_sample(chain(len(shape), padding_mode, label=True), batch, seed=5)
    ours = BatchedAugmentation(chain(len(shape), padding_mode, label=True)).set_random_state(5)(batch)
    assert (ours["image"] - theirs["image"]).abs().max() < 1e-4
    same = (ours["label"] == theirs["label"]).float().mean()
    assert same > 0.999  # positions half way between two voxels go either way
    changed = (theirs["image"] != batch["image"]).flatten(1).any(1).sum()
    assert changed >= 35  # the chain does something


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_colours_too(device: str) -> None:
    def colours() -> list[MapTransform]:
        scale = {"mean": (0.5, 0.4, 0.3), "deviation": (0.2, 0.3, 0.25)}
        return [RandFlipd("image", 0.5, 1), RandColourMapd("image", 0.7, 0.2, 0.2, 0.2, tint=0.1, **scale)]

    batch = {"image": torch.rand(20, 3, 7, 5, generator=torch.Generator().manual_seed(1))}
    there = {"image": batch["image"].to(device)}
    ours = BatchedAugmentation(colours()).set_random_state(2)(there)["image"].cpu()
    assert (ours - per_sample(colours(), batch, 2)["image"]).abs().max() < 1e-5
    assert 10 <= int((ours != batch["image"]).flatten(1).any(1).sum()) < 20


def test_uneven_sides_too() -> None:
    """Without right-angle turns, sides may differ."""

    def flips() -> list[MapTransform]:
        return [RandFlipd("image", 0.5, 1), RandAffined("image", prob=0.7, rotate_range=0.4, padding_mode="zeros")]

    batch = {"image": torch.rand(20, 1, 7, 15, 10, generator=torch.Generator().manual_seed(1))}
    ours = BatchedAugmentation(flips()).set_random_state(2)(batch)["image"]
    assert (ours - per_sample(flips(), batch, 2)["image"]).abs().max() < 1e-4


def test_drawn_numbers_have_monais_distribution() -> None:
    """Each sample draws from its own seed, as in training, on both sides, with seeds that have nothing in common."""

    def transforms() -> list[MapTransform]:
        return [RandAffined("image", prob=0.6, rotate_range=0.5), RandScaleIntensityd("image", factors=0.3, prob=0.5)]

    theirs, ours = Compose(transforms()), BatchedAugmentation(transforms())
    sine, factor = [], []
    for seed in range(2000):
        theirs.set_random_state(seed + 10_000)
        theirs({"image": torch.ones(1, 2, 2)})
        affine, scale = theirs.transforms
        sine.append(
            affine.rand_affine.rand_affine_grid.get_transformation_matrix()[1, 0] if affine._do_transform else 0
        )
        factor.append(scale.scaler.factor if scale._do_transform else 0)
    rows = np.array([ours.set_random_state(seed).draw((2, 2)).numpy() for seed in range(2000)])
    turned, scaled = rows[:, 6] > 0, rows[:, 7] > 0
    assert abs(turned.mean() - np.mean(np.array(sine) != 0)) < 0.05 and abs(turned.mean() - 0.6) < 0.05
    assert abs(scaled.mean() - 0.5) < 0.05
    assert stats.ks_2samp(rows[turned, 3], [float(each) for each in sine if each]).pvalue > 0.01
    assert stats.ks_2samp(rows[scaled, 8], [each for each in factor if each]).pvalue > 0.01
    assert abs(np.corrcoef(rows[turned & scaled][:, [3, 8]].T)[0, 1]) < 0.1


def test_noise_has_monais_distribution_and_is_the_samples_own() -> None:
    def transforms() -> list[MapTransform]:
        return [RandGaussianNoised("image", prob=0.5, std=0.2, mean=0.1)]

    batch = {"image": torch.zeros(200, 1, 12, 12)}
    ours = BatchedAugmentation(transforms()).set_random_state(0)(batch)["image"]
    theirs = per_sample(transforms(), batch, 1)["image"]
    noisy, expected = (each[each.flatten(1).std(1) > 0] for each in (ours, theirs))
    assert 80 < len(noisy) < 120
    assert stats.ks_2samp(noisy.flatten(1).std(1), expected.flatten(1).std(1)).pvalue > 0.01
    standard = (noisy - 0.1) / noisy.flatten(1).std(1)[:, None, None, None]
    assert stats.kstest(standard.flatten()[::7].numpy(), "norm").pvalue > 0.001
    assert abs(np.corrcoef(noisy[0].flatten(), noisy[1].flatten())[0, 1]) < 0.3


def test_a_sample_does_not_depend_on_its_batch() -> None:
    augment = BatchedAugmentation([*chain(2), RandGaussianNoised("image", prob=0.7)])
    images = torch.rand(6, 1, 8, 8)
    rows = torch.stack([augment.set_random_state(seed).draw((8, 8)) for seed in range(6)])
    together = augment.apply({"image": images}, rows)["image"]
    alone = torch.cat([augment.apply({"image": images[i : i + 1]}, rows[i : i + 1])["image"] for i in range(6)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [torch.as_tensor, MetaTensor])
def test_the_batch_that_came_in_is_not_changed(kind: Callable[[torch.Tensor], torch.Tensor]) -> None:
    images, whole = kind(torch.rand(4, 1, 8, 8)), torch.randint(0, 9, (4, 1, 8, 8))
    kept = images.clone()
    augment = BatchedAugmentation([RandScaleIntensityd(["image", "whole"], factors=0.5, prob=1.0)]).set_random_state(0)
    changed = augment({"image": images, "whole": whole, "name": "x"})
    assert torch.equal(images, kept) and not torch.equal(changed["image"], torch.as_tensor(kept))
    assert changed["whole"].dtype == torch.float32 and changed["name"] == "x"


def test_training_gets_the_same_batches_from_any_number_of_workers() -> None:
    preprocessing = Compose([DrawAugmentationd([*chain(2), RandGaussianNoised("image", prob=0.5)])])
    prepare = AugmentedBatch(preprocessing)
    data = [{"image": torch.rand(1, 8, 8), "label": index % 2} for index in range(6)]
    seen = []
    for workers in (0, 2):
        loader = data_loader(SeededDataset(data, preprocessing, seed=3), batch_size=3, num_workers=workers)
        seen.append(torch.cat([prepare(batch, "cpu")[0] for batch in loader]))
    assert torch.equal(*seen)
    assert not torch.equal(seen[0], torch.stack([item["image"] for item in data]))


def test_without_a_draw_a_batch_stays_as_it_is() -> None:
    images, labels = torch.rand(2, 1, 4, 4), torch.tensor([0, 1])
    prepared = AugmentedBatch(Compose([RandFlipd("image", 1.0)]))({"image": images, "label": labels}, "cpu")
    assert torch.equal(prepared[0], images) and torch.equal(prepared[1], labels)


def test_a_mode_chooses_who_acts() -> None:
    transforms = chain(2)
    assert carried_out(transforms) == transforms
    assert carried_out([], "batched") == []
    (draw,) = carried_out(transforms, "batched")
    assert isinstance(pickle.loads(pickle.dumps(draw)), DrawAugmentationd)
    with pytest.raises(ConfigError, match="no augmentation_mode 'fast'; use per_sample, batched"):
        carried_out(transforms, "fast")
