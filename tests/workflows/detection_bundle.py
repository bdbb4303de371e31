"""The smallest detection bundle, with its data: bright balls (in 2D discs) in dim noise."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from medresnet3d.data.phantoms.luna16 import write_mhd
from tests.workflows.tiny_bundles import save_weights, write_bundle
from tests.workflows.toy_bundle import train_config

#: Axes flipped and permuted, anisotropic: nothing about it is RAS.
AFFINE = np.array([[0.0, -1.5, 0.0, 20.0], [-1.0, 0.0, 0.0, 14.0], [0.0, 0.0, 2.0, -150.0], [0.0, 0.0, 0.0, 1.0]])
SHAPE = (30, 28, 18)
DIM, BRIGHT = 20.0, 100.0
DETECTION = "medresnet3d.transforms.detection"
LABELS = {"0": "nodule"}

Ball = tuple[NDArray[np.float64], float]
"""Centre (mm, RAS+) and diameter."""


def to_mm(voxel: Sequence[float]) -> NDArray[np.float64]:
    return AFFINE[:3, :3] @ np.asarray(voxel, dtype=float) + AFFINE[:3, 3]


def box_of(ball: Ball) -> list[float]:
    centre, diameter = ball
    return [*(centre - diameter / 2).tolist(), *(centre + diameter / 2).tolist()]


def draw(balls: Sequence[tuple[NDArray[np.float64], float, float]], seed: int = 0) -> NDArray[np.int16]:
    """A volume with balls of a centre (mm), a diameter and a brightness."""
    voxels = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    places = voxels @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    array = np.random.default_rng(seed).normal(DIM, 4, SHAPE)
    for centre, diameter, value in balls:
        array[np.linalg.norm(places - centre, axis=-1) <= diameter / 2] = value
    return array.round().astype(np.int16)


def write_balls(folder: Path, scans: int = 4, section: str = "test", seed: int = 0) -> Path:
    """Write MHD volumes with two balls each (the last scan has none) and their manifest.

    Scan 0 also has a bright ball that is an excluded finding, scan 1 one that is no finding, scan 2 a dim finding.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for number in range(scans):
        shift = np.random.default_rng([seed, number]).uniform(-1, 1, 3)
        balls = [(to_mm(np.array([7, 7, 5]) + shift), 8.0), (to_mm(np.array([20, 18, 12]) + shift), 7.0)]
        other = to_mm((7, 20, 12)), 8.0
        last = number == scans - 1
        known = [] if last else balls
        drawn = [(*ball, BRIGHT) for ball in known]
        entry: dict[str, Any] = {"image": f"scan{number}.mhd", "patient": f"p{number}", "boxes": [*map(box_of, known)]}
        if number == 0:
            entry["excluded_boxes"] = [box_of(other)]
        if number < 2:
            drawn.append((*other, 90.0))
        if number == 2 and not last:
            drawn[1] = (*balls[1], DIM)
        write_mhd(folder / entry["image"], draw(drawn, number), AFFINE)
        entries.append(entry)
    sections = {section: entries}
    manifest = {"name": "balls", "task": "detection", "modality": "CT", "labels": ["nodule"], **sections}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder / "manifest.json"


def write_discs(folder: Path) -> Path:
    """Write one grey picture of 40 by 32 pixels with a disc of 8 pixels at column 10, row 24, and its manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[:32, :40]
    pixels = np.where((columns - 10) ** 2 + (rows - 24) ** 2 <= 16, BRIGHT, DIM).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "disc.png")
    entry = {"image": "disc.png", "boxes": [[6, 20, 14, 28]], "patient": "p"}
    (folder / "manifest.json").write_text(json.dumps({"name": "discs", "task": "detection", "test": [entry]}))
    return folder / "manifest.json"


def _preprocessing(dims: int, *more: dict[str, Any]) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"_target_": "medresnet3d.transforms.load.LoadVolumed", "keys": "image"}]
    if dims == 2:
        steps.append({"_target_": "monai.transforms.SqueezeDimd", "keys": "image", "dim": -1})
    scale = {"a_min": 0.0, "a_max": 100.0, "b_min": 0.0, "b_max": 1.0}
    steps.append({"_target_": "monai.transforms.ScaleIntensityRanged", "keys": "image", **scale})
    return {"_target_": "monai.transforms.Compose", "transforms": [*steps, *more]}


def _answer(threshold: Any = "@threshold") -> list[dict[str, Any]]:
    return [
        {"_target_": "monai.transforms.Activationsd", "keys": "pred", "sigmoid": True},
        {"_target_": f"{DETECTION}.DetectionsFromMapd", "keys": "pred", "threshold": threshold, "min_volume_mm3": 8.0},
    ]


def network_def(dims: int) -> dict[str, Any]:
    return {"_target_": f"torch.nn.Conv{dims}d", "in_channels": 1, "out_channels": 1, "kernel_size": 1}


def _inference(dims: int) -> dict[str, Any]:
    """All that MONAI asks of ``inference.json``."""
    save = {"_target_": f"{DETECTION}.SaveDetectionsd", "keys": "pred", "output_dir": "@output_dir"}
    load = {"load_path": "@weights", "load_dict": {"network": "@network"}, "map_location": "@device"}
    evaluator = {
        **{
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "precision": "fp32",
        },
        **{"postprocessing": "@postprocessing", "val_handlers": "@handlers"},
    }
    return {
        "dataset_dir": ".",
        "output_dir": "$@bundle_root + '/eval'",
        "input": "@dataset_dir",
        "threshold": 0.5,
        "network_def": network_def(dims),
        "preprocessing": _preprocessing(dims),
        "dataset": {
            "_target_": "monai.data.Dataset",
            "data": {"_target_": "medresnet3d.data.inputs", "source": "@input"},
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "monai.data.DataLoader", "dataset": "@dataset", "batch_size": 1},
        "answer": {"_target_": "monai.transforms.Compose", "transforms": _answer()},
        "postprocessing": {"_target_": "monai.transforms.Compose", "transforms": ["@answer", save]},
        "handlers": [{"_target_": "monai.handlers.CheckpointLoader", **load}],
        "evaluator": {"_target_": "medresnet3d.engines.Evaluator", **evaluator},
        "initialize": [],
        "run": ["$@evaluator.run()"],
        "finalize": [],
    }


def _metadata(dims: int) -> dict[str, Any]:
    port = {"type": "image", "format": "hounsfield", "num_channels": 1, "spatial_shape": [16] * dims}
    port |= {"dtype": "float32", "value_range": [0, 1], "is_patch_data": True, "channel_def": {"0": "image"}}
    versions = dict.fromkeys(("schema", "monai_version", "pytorch_version", "numpy_version", "version"), "0.1.0")
    texts = dict.fromkeys(("description", "authors", "copyright"), "A test.")
    return {
        **versions,
        **texts,
        "required_packages_version": {},
        "changelog": {"0.1.0": "first"},
        "task": "detection",
        "labels": LABELS,
        "input_kind": "scan",
        "modality": "CT" if dims == 3 else "",
        "network_data_format": {"inputs": {"image": port}, "outputs": {"pred": {**port, "format": "logits"}}},
    }


def detection_bundle(root: Path, dims: int = 3) -> Path:
    """A bundle that detects what is brighter than 60: probability 0.98 at 100, 0.95 at 90, next to 0 at 20."""
    write_bundle(root, _inference(dims), _metadata(dims), weights=False)
    save_weights(root, {"weight": torch.full((1, 1, *[1] * dims), 10.0), "bias": torch.tensor([-6.0])})
    return root


def trainable_detection_bundle(root: Path, epochs: int = 6) -> Path:
    """The same with a configuration to train it: patches around balls and around nothing, CPM on whole scans."""
    detection_bundle(root)
    draw_map = {"_target_": f"{DETECTION}_targets.BoxesToMapd"}
    crop = {
        "_target_": "monai.transforms.RandCropByPosNegLabeld",
        "keys": ["image", "label"],
        "label_key": "label",
        "spatial_size": [10, 10, 8],
        "num_samples": 2,
    }
    select = {"_target_": "monai.transforms.SelectItemsd", "keys": ["image", "label"]}
    findings = {"_target_": f"{DETECTION}_targets.FindingsFromBoxesd"}
    config = train_config()
    config |= {"network_def": network_def(3), "threshold": 0.5, "batch_size": 1, "max_epochs": epochs}
    config["learning_rate"] = 0.5
    config["loss"] = {"_target_": "torch.nn.BCEWithLogitsLoss"}
    for name, steps in (("train", [draw_map, crop, select]), ("validate", [findings, select])):
        config[name]["preprocessing"] = _preprocessing(3, *steps)
        config[name]["postprocessing"] = {"_target_": "monai.transforms.Compose", "transforms": []}
    config["train"]["key_metric"] = {
        "error": {
            "_target_": "monai.handlers.MeanAbsoluteError",
            "output_transform": {"_target_": "monai.handlers.from_engine", "keys": ["pred", "label"]},
        }
    }
    config["validate"]["postprocessing"]["transforms"] = _answer()
    config["validate"]["key_metric"] = {
        "cpm": {
            "_target_": "medresnet3d.metrics.DetectionScore",
            "output_transform": {"_target_": "monai.handlers.from_engine", "keys": ["pred", "label"]},
        }
    }
    config["train"]["dataset"]["repeats"] = 8
    del config["features"]
    (root / "configs" / "train.json").write_text(json.dumps(config))
    return root


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a table."""
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def truth(balls: Path) -> dict[str, list[NDArray[np.float64]]]:
    """Centres of the findings of each case, those to ignore last."""
    entries = json.loads(balls.read_text())["test"]
    boxes = {Path(one["image"]).stem: [*one["boxes"], *one.get("excluded_boxes", [])] for one in entries}
    return {case: [np.reshape(box, (2, 3)).mean(axis=0) for box in own] for case, own in boxes.items()}
