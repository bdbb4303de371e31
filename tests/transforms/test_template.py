from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Spacingd
from scipy import ndimage

from medresnet3d.errors import ConfigError
from medresnet3d.transforms import TemplateAugmentation, TemplateAugmentationd
from medresnet3d.transforms.load import LoadVolumed
from medresnet3d.transforms.registration import Warp
from medresnet3d.transforms.template_maps import Placed, warp_image, warp_label

SPACING = 5.0


def phantom(seed: int, size: int = 26) -> tuple[MetaTensor, MetaTensor]:
    """A bent body with rind, core and two dark bodies of another shape in each subject; image and label map."""
    random = np.random.default_rng(seed)
    grid = (np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij")) - (size - 1) / 2) * SPACING
    bend = np.stack([ndimage.gaussian_filter(random.normal(size=(size,) * 3), 4) for _ in range(3)])
    points = grid + bend * 8 / np.abs(bend).max() - random.uniform(-6, 6, 3)[:, None, None, None]
    points = points / random.uniform(0.85, 1.2, 3)[:, None, None, None]

    def inside(centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
        away = (points - np.array(centre)[:, None, None, None]) / np.array(radii)[:, None, None, None]
        return np.asarray((away**2).sum(0) < 1)

    labels = inside((0, 0, 0), (42, 36, 38)).astype(np.uint8) + inside((0, 0, 0), (34, 29, 31))
    labels[inside((14, 0, 5), (9, 15, 12)) | inside((-15, -2, 0), (10, 13, 12))] = 3
    values = np.array([0.0, 60, 100, 30])[labels] * random.uniform(0.7, 1.4)
    values = ndimage.gaussian_filter(values + random.normal(scale=2, size=values.shape), 0.4) * (labels > 0)
    affine = torch.diag(torch.tensor([-SPACING, SPACING, SPACING, 1.0], dtype=torch.float64))
    affine[:3, 3] = torch.tensor([60.0, -65.0, 10.0])
    image = MetaTensor(torch.as_tensor(values, dtype=torch.float32)[None], affine=affine)
    return image, MetaTensor(torch.as_tensor(labels)[None], affine=affine)


def dice(one: torch.Tensor, other: torch.Tensor) -> np.ndarray:
    pairs = [(one == label, other == label) for label in (1, 2, 3)]
    return np.array([float(2 * (a & b).sum() / (a.sum() + b.sum())) for a, b in pairs])


@pytest.fixture(scope="module")
def subjects() -> list[tuple[MetaTensor, MetaTensor]]:
    return [phantom(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def augment(subjects: list, tmp_path_factory: pytest.TempPathFactory) -> TemplateAugmentation:
    images = [image for image, _ in subjects]
    made = TemplateAugmentation(images, tmp_path_factory.mktemp("maps"), prob=1.0, grid_mm=5.0)
    made.prepare()
    return made


def placed(augment: TemplateAugmentation, image: MetaTensor) -> Placed:
    return augment._placed(image)[1]


def test_labels_lie_on_the_other_subjects_labels(subjects: list, augment: TemplateAugmentation) -> None:
    """All six pairs, among them those that go through the template from one other subject to another."""
    for source, labels in subjects:
        for goal, truth in subjects:
            if goal is source:
                continue
            moved = warp_label(labels, placed(augment, source), placed(augment, goal))
            before, after = dice(labels, truth), dice(moved, truth)
            assert moved.dtype == labels.dtype and set(moved.unique().tolist()) <= {0, 1, 2, 3}
            assert after.mean() > before.mean() + 0.15 and after.min() > 0.7


def test_image_and_label_stay_together(subjects: list, augment: TemplateAugmentation) -> None:
    """The dark bodies of the warped image lie where the warped label map says."""
    image, label = subjects[1]
    pair = placed(augment, image), placed(augment, subjects[2][0])
    values, truth = warp_image(image, *pair), warp_label(label, *pair)
    core = ndimage.binary_erosion(truth[0].numpy() == 3)
    brain = ndimage.binary_erosion(truth[0].numpy() == 2)
    factor = float(image[label == 2].mean()) / 100
    assert np.median(values[0].numpy()[core]) == pytest.approx(30 * factor, rel=0.15)
    assert np.median(values[0].numpy()[brain]) == pytest.approx(100 * factor, rel=0.1)


def test_the_result_is_on_the_grid_of_the_other(subjects: list, augment: TemplateAugmentation) -> None:
    image, label = subjects[0]
    affine = image.affine.clone()
    affine[:3, 3] = affine[:3] @ torch.tensor([2.0, 0, 3, 1], dtype=torch.float64)
    cropped = MetaTensor(image.as_tensor()[:, 2:, :, 3:], affine=affine)
    moved = warp_label(label, placed(augment, image), placed(augment, cropped))
    assert moved.shape == cropped.shape
    torch.testing.assert_close(moved.affine, cropped.affine)
    assert dice(moved, label[:, 2:, :, 3:]).min() > 0.8


def test_intensities_take_on_the_other_histogram(subjects: list, augment: TemplateAugmentation) -> None:
    """The median of a tissue goes from the one's to the other's."""
    (image, label), (other, truth) = subjects[0], subjects[1]
    pair = placed(augment, image), placed(augment, other)
    inside = ndimage.binary_erosion(warp_label(label, *pair)[0].numpy() == 2)
    medians = []
    for share in (0.0, 0.5, 1.0):
        augment._share = share
        medians.append(float(np.median(augment._warped(image, *pair)[0].numpy()[inside])))
    assert medians[0] == pytest.approx(float(image[label == 2].median()), rel=0.05)
    assert medians[2] == pytest.approx(float(other[truth == 2].median()), rel=0.08)
    assert medians[1] == pytest.approx((medians[0] + medians[2]) / 2, rel=0.03)
    assert abs(medians[2] - medians[0]) > 8


def test_calls_are_seeded_and_never_give_the_same_subject(subjects: list, augment: TemplateAugmentation) -> None:
    image, label = subjects[1]
    results = []
    for _ in range(2):
        augment.set_random_state(3)
        results.append([augment(image, label) for _ in range(4)])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
        assert dice(one[1], label).mean() < 0.98
    assert len({each[0].numpy().tobytes() for each in results[0]}) == 4


def test_to_the_template_alone(subjects: list, augment: TemplateAugmentation) -> None:
    to_template = pickle.loads(pickle.dumps(augment))
    to_template.targets = "template"
    _, moved = to_template(*subjects[2])
    assert dice(moved, subjects[0][1]).mean() > 0.8
    assert to_template(*subjects[0])[1] is subjects[0][1]  # the template has nowhere to go


def test_maps_are_read_again_and_damaged_ones_made_anew(
    subjects: list, augment: TemplateAugmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted(augment.cache_dir.glob("*.npz"))
    assert len(files) >= 3 and not list(augment.cache_dir.glob(".*"))
    for file in files:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    images = [image for image, _ in subjects]
    again = TemplateAugmentation(images, tmp_path, prob=1.0, grid_mm=5.0)
    with monkeypatch.context() as patch:
        patch.setattr("medresnet3d.transforms.template.register", lambda *_: pytest.fail("was registered again"))
        again.prepare()
    np.testing.assert_array_equal(
        placed(again, images[1]).to_template.field, placed(augment, images[1]).to_template.field
    )
    damaged = tmp_path / f"{again._key(images[1])}.npz"
    damaged.write_bytes(damaged.read_bytes()[:900])
    third = TemplateAugmentation(images, tmp_path, prob=1.0, grid_mm=5.0)
    with pytest.warns(UserWarning, match="the map is damaged"):
        third.prepare()
    np.testing.assert_allclose(
        placed(third, images[1]).to_template.field, placed(augment, images[1]).to_template.field, atol=1.0
    )


def test_another_preprocessing_gets_other_maps(subjects: list, augment: TemplateAugmentation) -> None:
    image = subjects[1][0]
    moved = image.clone()
    moved.affine[0, 3] += 1
    assert len({augment._key(each) for each in (image, image * 1.01, moved)}) == 3


def test_the_dictionary_version_reads_references_and_leaves_other_items(subjects: list, tmp_path: Path) -> None:
    paths = []
    for index, (image, _) in enumerate(subjects[:2]):
        paths.append(str(tmp_path / f"{index}.nii.gz"))
        nibabel.save(nibabel.Nifti1Image(image[0].numpy(), np.asarray(image.affine)), paths[-1])
    chain = Compose(
        [
            TemplateAugmentationd(
                references=[{"image": path, "label": 0} for path in paths],
                cache_dir=tmp_path / "maps",
                prob=1.0,
                grid_mm=10.0,
                iterations=5,
            )
        ]
    )
    chain.set_random_state(0)
    image, label = subjects[1]
    item = chain({"image": image, "label": label, "patient": "b"})
    assert item["patient"] == "b" and not torch.equal(item["label"], label)
    assert dice(item["label"], subjects[0][1]).mean() > dice(label, subjects[0][1]).mean()
    assert len(list((tmp_path / "maps").iterdir())) == 2
    assert "label" not in chain({"image": image})


def test_bad_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs 2 references or more, not 1"):
        TemplateAugmentation(["a.nii.gz"], tmp_path)
    with pytest.raises(ConfigError, match="no targets 'others'"):
        TemplateAugmentation(["a.nii.gz", "b.nii.gz"], tmp_path, targets="others")


@pytest.mark.realdata
def test_real_brains(realdata: Path, tmp_path: Path) -> None:
    """The tissues of one brain lie better on those of another after the registration than where they were."""
    folder = realdata / "brain_tissue_mri"
    entries = json.loads((folder / "manifest.json").read_text())["training"][:3]
    read = Compose(
        [LoadVolumed("image", label_keys="label"), Spacingd(["image", "label"], 2.0, mode=["bilinear", "nearest"])]
    )
    items = [read({"image": str(folder / entry["image"]), "label": str(folder / entry["mask"])}) for entry in entries]
    augment = TemplateAugmentation([item["image"] for item in items], tmp_path, prob=1.0)
    maps = [placed(augment, item["image"]) for item in items]
    for one, other in ((0, 1), (1, 2), (2, 0)):
        still = replace(
            maps[one], from_template=_still(maps[0].from_template), to_template=_still(maps[one].to_template)
        )
        goal = replace(maps[other], to_template=_still(maps[other].to_template))
        before = dice(warp_label(items[one]["label"], still, goal), items[other]["label"])
        after = dice(warp_label(items[one]["label"], maps[one], maps[other]), items[other]["label"])
        print(one, other, before.round(3), after.round(3))
        assert after.mean() > before.mean() + 0.1


def _still(warp: Warp) -> Warp:
    return Warp(np.zeros_like(warp.field), warp.affine)
