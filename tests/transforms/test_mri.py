from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medresnet3d.data.phantoms.brain import BrainPhantom, brain_phantom
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.transforms.mri import (
    NormalizeBraind,
    RequireSkullStrippedd,
    TissueMapd,
    brain_tissue_answer,
    brain_tissue_augmentation,
    brain_tissue_inference,
    brain_tissue_training,
    brain_tissue_validation,
)

PHANTOM = brain_phantom(0, 48)
LAS = np.diag([-1.0, 1.0, 1.0, 1.0])


def write(folder: Path, phantom: BrainPhantom, axcodes: str = "RAS", scale: float = 1.0) -> dict[str, Any]:
    """Write image and labels in another orientation; give the item."""
    paths = {}
    for key, array in (("image", phantom.image.astype(np.float32) * scale), ("label", phantom.labels)):
        image = nib.Nifti1Image(array, phantom.affine)
        turn = nib.orientations.ornt_transform(
            nib.io_orientation(phantom.affine), nib.orientations.axcodes2ornt(tuple(axcodes))
        )
        paths[key] = str(folder / f"{key}.nii.gz")
        nib.save(image.as_reoriented(turn), paths[key])
    return paths


def logits_of(labels: torch.Tensor, like: MetaTensor) -> MetaTensor:
    hot = torch.nn.functional.one_hot(labels[0].as_subclass(torch.Tensor).long(), 4).permute(3, 0, 1, 2).float()
    return MetaTensor(hot, meta=like.meta, applied_operations=like.applied_operations)


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "SAR"])
def test_prepared_scan_is_ras_cropped_and_normalised(tmp_path: Path, axcodes: str) -> None:
    item = brain_tissue_validation()(write(tmp_path, PHANTOM, axcodes))
    image, label = item["image"], item["label"]
    assert nib.aff2axcodes(image.affine.numpy()) == ("R", "A", "S")
    assert image.shape == label.shape
    assert max(image.shape[1:]) <= 48
    assert all(side % 8 == 0 for side in image.shape[1:])  # so that mirroring meets the same places of the network
    inside = label > 0
    assert float(image[~inside].abs().max()) == 0
    assert float(image[inside].min()) > 0
    fluid, grey, white = (float(image[label == tissue].median()) for tissue in (1, 2, 3))
    assert fluid < 0.5 < grey < 0.9 < white < 2


def test_scale_and_offset_of_the_input_change_nothing(tmp_path: Path) -> None:
    plain = brain_tissue_validation()(write(tmp_path, PHANTOM))["image"]
    scaled = brain_tissue_validation()(write(tmp_path, PHANTOM, scale=0.001))["image"]
    assert torch.allclose(plain, scaled, atol=1e-3)


def test_shading_is_taken_out_and_borders_stay(tmp_path: Path) -> None:
    """What the network sees of a shaded scan is nearly what it sees of the same scan without."""
    label = torch.from_numpy(PHANTOM.labels)[None]
    plain = torch.from_numpy(PHANTOM.image.astype(np.float32))[None]
    slope = torch.exp(torch.linspace(-0.25, 0.25, plain.shape[2]))[None, None, :, None]
    normalise = NormalizeBraind("image")
    first, second = (normalise({"image": image, "brain": label > 0})["image"] for image in (plain, plain * slope))
    white = label == 3
    assert float((plain * slope)[white].std() / plain[white].std()) > 1.5
    assert float((first - second)[label > 0].abs().mean()) < 0.06


@pytest.mark.parametrize("axcodes", ["RAS", "LAS", "PSL"])
def test_answer_comes_back_to_the_grid_of_the_file(tmp_path: Path, axcodes: str) -> None:
    source = write(tmp_path, PHANTOM, axcodes)
    prepared = brain_tissue_validation()(source)
    preprocessing = brain_tissue_inference()
    item = preprocessing({"image": source["image"]})
    item["pred"] = logits_of(prepared["label"], item["image"])
    answer = brain_tissue_answer(preprocessing)(item)["pred"]
    truth = nib.load(source["label"])
    assert answer.dtype == torch.uint8
    assert np.array_equal(answer[0].numpy(), np.asarray(truth.dataobj))
    assert answer.affine.numpy() == pytest.approx(truth.affine)


def test_answer_for_other_voxel_sizes_stays_inside_the_brain(tmp_path: Path) -> None:
    phantom = brain_phantom(1, 40, spacing=1.5)
    source = write(tmp_path, phantom, "LPI")
    prepared = brain_tissue_validation()(source)
    assert prepared["image"].pixdim.numpy() == pytest.approx([1, 1, 1], abs=0.05)
    preprocessing = brain_tissue_inference()
    item = preprocessing({"image": source["image"]})
    item["pred"] = logits_of(prepared["label"], item["image"])
    answer = brain_tissue_answer(preprocessing)(item)["pred"][0].numpy()
    truth = np.asarray(nib.load(source["label"]).dataobj)
    assert np.array_equal(answer > 0, truth > 0)
    assert (answer == truth)[truth > 0].mean() > 0.85


@pytest.mark.parametrize("air", [0.0, 20.0])
def test_a_whole_head_is_refused_with_what_to_do(tmp_path: Path, air: float) -> None:
    source = write(tmp_path, brain_phantom(0, 48, head=True, background=air))
    with pytest.raises((DataError, RuntimeError)) as caught:
        brain_tissue_inference()({"image": source["image"]})
    error = caught.value if isinstance(caught.value, DataError) else caught.value.__cause__
    assert isinstance(error, DataError)
    assert "image.nii.gz" in str(error)
    assert "SynthStrip or HD-BET" in str(error)
    assert brain_tissue_inference(check=False)({"image": source["image"]})["image"].shape[0] == 1


def test_a_stripped_brain_passes_unchanged() -> None:
    image = MetaTensor(torch.from_numpy(PHANTOM.image.astype(np.float32))[None], affine=torch.from_numpy(LAS))
    assert RequireSkullStrippedd("image")({"image": image})["image"] is image


def test_one_intensity_in_the_brain_is_refused() -> None:
    item = {"image": MetaTensor(torch.ones(1, 4, 4, 4)), "brain": torch.ones(1, 4, 4, 4)}
    with pytest.raises(DataError, match="one intensity"):
        NormalizeBraind("image")(item)


def test_tissue_map_never_says_background_inside_nor_tissue_outside() -> None:
    logits = torch.randn(4, 5, 5, 5, generator=torch.Generator().manual_seed(0))
    logits[0] += 10
    mask = torch.zeros(1, 5, 5, 5)
    mask[:, 1:4] = 1
    labels = TissueMapd("pred")({"pred": logits, "brain": mask})["pred"]
    assert torch.equal(labels > 0, mask > 0)
    assert torch.equal(labels[:, 1:4], logits[None, 1:, 1:4].argmax(1) + 1)


def test_training_patches_follow_the_seed_and_keep_air_empty(tmp_path: Path) -> None:
    pipeline = brain_tissue_training(patch_size=16)
    source = write(tmp_path, PHANTOM)
    patches = []
    for seed in (0, 0, 1):
        pipeline.set_random_state(seed=seed)
        patches.append(pipeline(source))
    assert patches[0]["image"].shape == patches[0]["label"].shape == (1, 16, 16, 16)
    assert torch.equal(patches[0]["image"], patches[1]["image"])
    assert not torch.equal(patches[0]["image"], patches[2]["image"])


@pytest.mark.parametrize(("name", "strength"), [("none", 0.0), ("light", 0.4), ("medium", 1.0), ("strong", 1.5)])
def test_strengths_of_the_training_have_names(tmp_path: Path, name: str, strength: float) -> None:
    source, patches = write(tmp_path, PHANTOM), []
    for asked in (name, strength):
        pipeline = brain_tissue_training(16, asked)
        pipeline.set_random_state(seed=5)
        patches.append(pipeline(source)["image"])
    assert torch.equal(*patches)
    with pytest.raises(ConfigError, match="no augmentation 'wild'; use none, light, medium, strong or a number"):
        brain_tissue_training(16, "wild")


def test_augmentation_changes_looks_only_as_much_as_asked() -> None:
    label = torch.from_numpy(PHANTOM.labels.astype(np.float32))[None]
    image = torch.tensor([0.0, 0.3, 0.8, 1.2])[label.long()]
    mild, strong = brain_tissue_augmentation(24, 0.0), brain_tissue_augmentation(24, 1.0)
    mild.set_random_state(seed=0)
    strong.set_random_state(seed=0)
    levels = torch.tensor([0.0, 0.3, 0.8, 1.2])
    changed = 0
    for _ in range(10):
        plain, wild = mild({"image": image, "label": label}), strong({"image": image, "label": label})
        assert torch.equal(levels[plain["label"].long()], plain["image"])
        assert float(wild["image"][wild["label"] == 0].abs().sum()) == 0
        changed += not torch.equal(levels[wild["label"].long()], wild["image"])
    assert changed >= 4
