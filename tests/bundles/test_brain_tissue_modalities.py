"""Several modalities and auto-context, from the official folders of MRBrainS to answers."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from medresnet3d.bundle.load import load_config, load_network
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.data import items
from medresnet3d.data.phantoms.mri import write_mrbrains13
from medresnet3d.data.preparation.prepare import mimic, prepare
from medresnet3d.engines import load_checkpoint
from medresnet3d.errors import DataError
from medresnet3d.workflows.evaluate import evaluate
from medresnet3d.workflows.infer import infer
from medresnet3d.workflows.predictor import Predictor
from medresnet3d.workflows.train import train
from tests.networks.detection_toy import interval

BUNDLE = find_bundle("brain_tissue_voxresnet")
SMALL = {"width": 8, "patch_size": 16, "patches_per_scan": 1, "max_epochs": 1, "precision": "fp32", "num_workers": 0}


@pytest.mark.parametrize(
    ("collection", "names", "options"),
    [
        ("mrbrains13", ("T1", "T1_IR", "T2_FLAIR"), {"auto_context": True, "context_folds": 2}),
        pytest.param("mrbrains18", ("reg_T1", "reg_IR", "FLAIR"), {"detail_channels": True}, marks=pytest.mark.slow),
    ],
)
def test_from_the_official_folders_to_answers(
    collection: str, names: tuple[str, ...], options: dict[str, Any], tmp_path: Path
) -> None:
    """Prepare, train, evaluate and infer; training cases have labels, and infer finds the three files of a case."""
    root = mimic(collection, tmp_path / "official")
    manifest = prepare(collection, root, tmp_path / "manifest.json", task="tissue").path
    chosen = SMALL | options | {"modalities": list(names), "skull_stripped": False, "validation_fraction": 0.4}
    run = train("brain_tissue_voxresnet", manifest, tmp_path / "run", device="cpu", set=chosen)
    metadata = json.loads((run / "bundle" / "configs" / "metadata.json").read_text())
    image = metadata["network_data_format"]["inputs"]["image"]
    assert image["num_channels"] == (6 if options.get("detail_channels") else 3)
    assert list(image["channel_def"].values())[:3] == list(names)

    found = evaluate(run, manifest, tmp_path / "eval", device="cpu", n_boot=20)
    assert not found.errors and found.section == "validation"
    assert {"dice", "hd95_mm", "avd_percent"} <= found["grey matter"].keys()
    assert {"CSF", "grey matter", "white matter", "mean"} == set(found)

    place, inner = (root / "TestData", "") if collection == "mrbrains13" else (root / "training", "_pre")
    summary = infer(run, [place], tmp_path / "out", device="cpu", modalities=names)
    folders = sorted((folder.name for folder in place.iterdir()), key=int)
    assert not summary.errors
    with (tmp_path / "out" / "predictions.csv").open() as file:
        assert [row["case"] for row in csv.DictReader(file)] == [f"{folder}{inner}" for folder in folders]
    answer = nib.load(next((tmp_path / "out").glob("*_seg.nii.gz")))
    scan = nib.load(next(place.rglob(f"{names[0]}.nii*")))
    assert answer.shape == scan.shape and np.allclose(answer.affine, scan.affine, atol=1e-4)


def test_the_two_nets_of_a_run_are_one_module_and_the_first_is_that_of_its_stage(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, people=6)
    chosen = SMALL | {"modalities": ["T1", "T1-IR", "T2-FLAIR"], "auto_context": True, "context_folds": 2}
    run = train("brain_tissue_voxresnet", manifest, tmp_path / "run", device="cpu", set=chosen | {"steps": 2})
    first = load_checkpoint(run / "stages" / "first" / "checkpoints" / "best.pt")["network"]
    network = load_network(run / "bundle")
    state = network.state_dict()
    assert all(torch.equal(first[name], state[name]) for name in state if name.startswith("first."))
    assert not torch.equal(state["second.stage1.3.weight"], state["first.stage1.3.weight"])
    with torch.inference_mode():
        assert network(torch.rand(1, 3, 16, 16, 16)).shape == (1, 4, 16, 16, 16)


def write_manifest(folder: Path, people: int, **options: Any) -> Path:
    root = write_mrbrains13(folder / "official", people, size=30, **options)
    return prepare("mrbrains13", root, folder / "manifest.json", folds=0).path


def test_one_file_for_a_network_of_three_and_three_for_one_of_one(tmp_path: Path) -> None:
    case = items(write_manifest(tmp_path, 3), "training", validation_fraction=0)[0]
    single = Predictor("brain_tissue_voxresnet", device="cpu")
    with pytest.raises(DataError, match=r"has 3 image\(s\), but the network takes 1: T1"):
        single(case["image"])
    assert single(case["image"][0]).pred is not None


def test_channels_follow_from_the_modalities() -> None:
    choices = ((["T1"], False, 1), (["T1", "T2-FLAIR"], False, 2), (["T1", "T1-IR", "T2-FLAIR"], True, 6))
    for modalities, detail, channels in choices:
        parser = load_config(BUNDLE, ("inference.json",), {"modalities": modalities, "detail_channels": detail})
        assert parser.get_parsed_content("in_channels") == channels
        network = parser.get_parsed_content("network_def")
        assert network.stage1[0].in_channels == channels


def white_matter(names: list[str], folder: Path, seed: int) -> float:
    """Dice of white matter on unseen people whose grey and white matter are alike in the T1."""
    root = write_mrbrains13(folder / "official", 9, seed, size=36, isointense=True)
    manifest = prepare("mrbrains13", root, folder / "manifest.json", options={"images": ",".join(names)}).path
    chosen = SMALL | {"modalities": names, "patches_per_scan": 20, "max_epochs": 8, "val_interval": 8}
    run = train("brain_tissue_voxresnet", manifest, folder / "run", device="cpu", set=chosen)
    return evaluate(run, manifest, folder / "eval", device="cpu", n_boot=20)["white matter"]["dice"].value


@pytest.mark.slow
def test_a_second_modality_finds_the_border_that_the_t1_does_not_show(tmp_path: Path) -> None:
    """In five seeds (the phantoms were made on 0 to 2), against the same bundle and steps with the T1 alone."""
    gains = []
    for seed in range(3, 8):
        pair = [white_matter(names, tmp_path / f"{seed}_{len(names)}", seed) for names in (["T1"], ["T1", "T1_IR"])]
        print(f"seed {seed}: T1 {pair[0]:.3f}, with T1-IR {pair[1]:.3f}", flush=True)
        gains.append(pair[1] - pair[0])
    assert interval(gains)[0] > 0
