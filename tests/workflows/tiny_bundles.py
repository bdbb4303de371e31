"""The smallest bundles that answer: made on the fly, so that tests of the workflows need no shipped one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

THRESHOLD = 100.0
LABELS = {"0": "background", "1": "bright"}
CLASSES = {"0": "vessel", "1": "nodule"}

_COMMON = {
    "bundle_root": ".",
    "precision": "fp32",
    "device": {"_target_": "medresnet3d.engines.select_device", "name": "auto"},
    "weights": "$@bundle_root + '/models/model.pt'",
    "network": "$@network_def.to(@device)",
    "inferer": {"_target_": "monai.inferers.SimpleInferer"},
}


def write_bundle(root: Path, config: dict[str, Any], metadata: dict[str, Any], weights: bool = True) -> Path:
    """Write a bundle folder; its weights are random."""
    (root / "configs").mkdir(parents=True)
    (root / "configs" / "inference.json").write_text(json.dumps({**_COMMON, **config}))
    (root / "configs" / "metadata.json").write_text(json.dumps({"name": root.name, "version": "0.1.0", **metadata}))
    if weights:
        torch.manual_seed(0)
        save_weights(root, ConfigParser(config).get_parsed_content("network_def").state_dict())
    return root


def save_weights(root: Path, state: dict[str, torch.Tensor]) -> None:
    (root / "models").mkdir(exist_ok=True)
    torch.save(state, root / "models" / "model.pt")


def threshold_bundle(root: Path, spacing: float | None = None, weights: bool = True) -> Path:
    """A segmentation bundle whose network marks what is brighter than :data:`THRESHOLD`, on a grid of its own.

    The network's grid is RAS, padded to multiples of 8, and resampled where ``spacing`` says so.
    """
    steps: list[dict[str, Any]] = [
        {"_target_": "medresnet3d.transforms.load.LoadVolumed", "keys": "image"},
        {"_target_": "monai.transforms.Orientationd", "keys": "image", "axcodes": "RAS", "labels": None},
    ]
    if spacing:
        steps.append({"_target_": "monai.transforms.Spacingd", "keys": "image", "pixdim": [spacing] * 3})
    steps.append({"_target_": "monai.transforms.DivisiblePadd", "keys": "image", "k": 8})
    config = {
        "network_def": {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 2, "kernel_size": 1},
        "preprocessing": {"_target_": "monai.transforms.Compose", "transforms": steps},
        "answer": {
            "_target_": "monai.transforms.Compose",
            "transforms": [
                {"_target_": "monai.transforms.AsDiscreted", "keys": "pred", "argmax": True},
                {
                    "_target_": "monai.transforms.Invertd",
                    "keys": "pred",
                    "transform": "@preprocessing",
                    "orig_keys": "image",
                    "nearest_interp": True,
                },
            ],
        },
    }
    metadata = {"task": "segmentation", "labels": LABELS, "input_kind": "scan"}
    write_bundle(root, config, metadata, weights)
    if weights:
        weight = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1, 1)
        save_weights(root, {"weight": weight, "bias": torch.tensor([0.0, -THRESHOLD])})
    return root


def cube_bundle(root: Path, regression: bool = False, weights: bool = True) -> Path:
    """A bundle that classifies cubes of 16 mm (or gives a number for them) by a small random network."""
    network = {
        "in_shape": [1, 16, 16, 16],
        "channels": [4, 8],
        "strides": [2, 2],
        **({"out_shape": [1]} if regression else {"classes": 2}),
    }
    kind = "Regressor" if regression else "Classifier"
    activation: dict[str, Any] = {"_target_": "monai.transforms.Activationsd", "keys": "pred", "softmax": True}
    identity = {"_target_": "monai.transforms.EnsureTyped", "keys": "pred"}
    config = {
        "network_def": {"_target_": f"monai.networks.nets.{kind}", **network},
        "preprocessing": {"_target_": "medresnet3d.transforms.ct.nodule_cube_inference", "crop_size_mm": 16},
        "answer": {
            "_target_": "monai.transforms.Compose",
            "transforms": [identity if regression else activation],
        },
    }
    task = "regression" if regression else "classification"
    labels = {} if regression else {"labels": CLASSES}
    metadata = {"task": task, "input_kind": "crop", "crop_size_mm": 16, **labels}
    return write_bundle(root, config, metadata, weights)
