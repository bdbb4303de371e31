"""What is special about this bundle: its shape ids, its shipped weights, and that it knows brains only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from medresnet3d.bundle.load import load_config
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.data import items
from medresnet3d.data.phantoms.brain import brain_phantom
from medresnet3d.errors import DataError
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


def test_train_and_inference_share_the_ids_that_shape_network_and_input() -> None:
    train, inference = (
        json.loads((BUNDLE / "configs" / f"{name}.json").read_text()) for name in ("train", "inference")
    )
    shared = ("size", "widths", "width", "num_classes", "kernel1", "branch_conv", "norm", "auto_context")
    for key in (*shared, "voxel_size_mm", "precision", "network_def"):
        assert train[key] == inference[key]


def test_every_inferred_value_is_an_id() -> None:
    configs = [json.loads((BUNDLE / "configs" / f"{name}.json").read_text()) for name in ("train", "inference")]
    metadata = json.loads((BUNDLE / "configs" / "metadata.json").read_text())
    assert set(metadata["inferred"]) <= {key for config in configs for key in config}


def test_shipped_weights_are_small_plain_half_precision_tensors() -> None:
    assert WEIGHTS.stat().st_size <= 8 * 2**20
    state = torch.load(WEIGHTS, weights_only=True)
    assert {value.dtype for value in state.values()} <= {torch.float16, torch.int64}
    network().load_state_dict(state)


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
