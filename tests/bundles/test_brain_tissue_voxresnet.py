"""What is special about this bundle: its shape ids, its shipped weights, and that it knows brains only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss
from torch.optim.lr_scheduler import OneCycleLR

from medresnet3d.bundle.load import load_config, load_network
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.data import items
from medresnet3d.data.phantoms.brain import brain_phantom, write_brain_phantoms
from medresnet3d.errors import DataError
from medresnet3d.losses.deep_supervision import FadingDeepSupervisionLoss
from medresnet3d.workflows.predictor import Predictor

BUNDLE = find_bundle("brain_tissue_voxresnet")
WEIGHTS = BUNDLE / "models" / "model.pt"


def network(**overrides: Any) -> torch.nn.Module:
    built: torch.nn.Module = load_config(BUNDLE, ("inference.json",), overrides).get_parsed_content("network_def")
    return built


@pytest.mark.parametrize(
    ("overrides", "parameters"),
    [({}, 438_432), ({"size": "paper"}, 6_930_000), ({"width": 8}, 111_384), ({"branch_conv": True}, 439_320)],
)
def test_size_and_branches_are_plain_ids(overrides: dict[str, Any], parameters: int) -> None:
    assert sum(parameter.numel() for parameter in network(**overrides).parameters()) == parameters


def test_auto_context_is_one_id() -> None:
    pair = network(auto_context=True, width=8).eval()
    with torch.inference_mode():
        assert pair(torch.zeros(1, 1, 16, 16, 16)).shape == (1, 4, 16, 16, 16)


def test_every_inferred_value_is_an_id() -> None:
    configs = [json.loads((BUNDLE / "configs" / f"{name}.json").read_text()) for name in ("train", "inference")]
    metadata = json.loads((BUNDLE / "configs" / "metadata.json").read_text())
    assert set(metadata["inferred"]) <= {key for config in configs for key in config}


def test_shipped_weights_are_small_plain_half_precision_tensors() -> None:
    assert WEIGHTS.stat().st_size <= 8 * 2**20
    state = torch.load(WEIGHTS, weights_only=True)
    assert {value.dtype for value in state.values()} <= {torch.float16, torch.int64}
    network().load_state_dict(state)


def test_shipped_weights_give_the_logits_they_always_gave() -> None:
    """Of seeded noise: means of the four classes, and the middle voxel; computed when the weights were new."""
    image = 1.3 * torch.rand(1, 1, 16, 24, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = load_network("brain_tissue_voxresnet")(image)
    torch.testing.assert_close(
        logits.mean((0, 2, 3, 4)), torch.tensor([-15.92358, -2.06264, 0.57704, -3.49449]), atol=1e-3, rtol=0
    )
    torch.testing.assert_close(
        logits[0, :, 8, 12, 8], torch.tensor([-15.89852, -0.97376, 2.49424, -3.11733]), atol=1e-3, rtol=0
    )


def test_the_parts_of_the_training_are_those_that_the_weights_were_trained_with() -> None:
    overrides = {"device": "cpu", "steps": 100, "data": "none"}
    parser = load_config(BUNDLE, ("train.json",), overrides)
    loss = parser.get_parsed_content("loss")
    assert isinstance(loss, FadingDeepSupervisionLoss) and isinstance(loss.loss, DiceCELoss)
    assert (loss.steps, loss.start, loss.end) == (10, 0.1, 0.0001)
    assert loss.loss.dice.include_background is False and loss.loss.dice.batch is True
    optimizer = parser.get_parsed_content("optimizer")
    assert isinstance(optimizer, torch.optim.AdamW)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0]
    schedule = parser.get_parsed_content("lr_scheduler")
    assert isinstance(schedule, OneCycleLR) and schedule.total_steps == 100


@pytest.mark.parametrize(
    ("key", "value"),
    [("loss", "focal"), ("loss", "tversky"), ("activation", "elu"), ("normalisation", "instance"), ("dropout", 0.2)],
)
def test_other_parts_train_two_steps(key: str, value: Any, tmp_path: Path) -> None:
    manifest = write_brain_phantoms(tmp_path / "brains", count=2, size=32)
    overrides = {"data": str(manifest), "output_dir": str(tmp_path), "device": "cpu", "patch_size": 16, "width": 8}
    overrides |= {"steps": 2, "validation_fraction": 0.5, "train::handlers": [], "precision": "fp32", key: value}
    parser = load_config(BUNDLE, ("train.json",), overrides)
    before = [each.detach().clone() for each in parser.get_parsed_content("network").parameters()]
    trainer = parser.get_parsed_content("train#trainer")
    trainer.run()
    assert trainer.state.iteration == 2
    after = list(parser.get_parsed_content("network").parameters())
    assert all(torch.isfinite(each).all() for each in after)
    assert sum(not torch.equal(one, other) for one, other in zip(before, after, strict=True)) > len(after) / 2


def test_a_whole_head_is_refused_never_segmented(tmp_path: Path) -> None:
    head = brain_phantom(0, 48, head=True, background=15.0)
    nib.save(nib.Nifti1Image(head.image, head.affine), tmp_path / "head.nii.gz")
    with pytest.raises(DataError, match="SynthStrip or HD-BET"):
        Predictor("brain_tissue_voxresnet", device="cpu")(str(tmp_path / "head.nii.gz"))


def dice(prediction: np.ndarray, truth: np.ndarray, tissue: int) -> float:
    a, b = prediction == tissue, truth == tissue
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.mark.slow
def test_agrees_with_the_tissue_maps_of_the_mni152_average(tmp_path: Path) -> None:
    """A real, averaged brain that the weights have never seen; the figure itself is in the model card."""
    datasets = pytest.importorskip("nilearn.datasets")
    template = datasets.load_mni152_template(resolution=1)
    grey, white = (
        np.asarray(get(resolution=1).dataobj)
        for get in (datasets.load_mni152_gm_template, datasets.load_mni152_wm_template)
    )
    nib.save(template, tmp_path / "mni152.nii.gz")
    answer = Predictor("brain_tissue_voxresnet", device="cpu")(str(tmp_path / "mni152.nii.gz"))
    assert answer.pred is not None
    truth = np.where(white > 0.5, 3, np.where(grey > 0.5, 2, 0))
    assert not answer.pred[np.asarray(template.dataobj) <= 0].any()
    assert dice(answer.pred, truth, 3) > 0.75
    assert dice(answer.pred, truth, 2) > 0.7


@pytest.mark.realdata
def test_shipped_weights_fit_their_training_data(realdata: Path) -> None:
    """A sanity check of files and pipeline on scans that the weights were trained on; it measures no quality."""
    predictor = Predictor("brain_tissue_voxresnet", device="cpu")
    for item in items(realdata / "brain_tissue_mri" / "manifest.json", "all")[:2]:
        prediction = predictor(item["image"]).pred
        truth = np.asarray(nib.load(item["label"]).dataobj)
        assert prediction is not None
        assert np.array_equal(prediction > 0, truth > 0)
        assert np.mean([dice(prediction, truth, tissue) for tissue in (1, 2, 3)]) > 0.9
