"""A bundle that trains in a second, with its data: bright cubes against dark ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

ENGINES = "medresnet3d.engines"
CASES = 16


def write_cubes(folder: Path, cases: int = CASES, labels: tuple[str, ...] = ("dark", "bright")) -> Path:
    """Write NIfTI cubes of 8 voxels and their manifest; every fourth case is for validation."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    sections: dict[str, list[dict[str, Any]]] = {"training": [], "validation": []}
    for i in range(cases):
        name = f"cube_{i:02d}.nii.gz"
        cube = rng.normal(0.8 * (i % 2), 1, (8, 8, 8)).astype("float32")
        nib.save(nib.Nifti1Image(cube, np.eye(4)), folder / name)
        section = "validation" if i % 8 in (6, 7) else "training"
        sections[section].append({"image": name, "label": labels[i % 2], "patient": f"p{i}"})
    manifest = {"name": "toy cubes", "task": "classification", "labels": list(labels), **sections}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder / "manifest.json"


def _loading(*more: dict[str, Any]) -> dict[str, Any]:
    steps = [
        {"_target_": "monai.transforms.LoadImaged", "keys": "image"},
        {"_target_": "monai.transforms.EnsureChannelFirstd", "keys": "image"},
    ]
    return {"_target_": "monai.transforms.Compose", "transforms": [*steps, *more]}


def _part(section: str, transforms: dict[str, Any], shuffle: bool) -> dict[str, Any]:
    own = "train" if section == "training" else "validate"
    return {
        "preprocessing": transforms,
        "dataset": {
            "_target_": "medresnet3d.data.SeededDataset",
            "data": {"_target_": "medresnet3d.data.items", "data": "@data", "section": section},
            "transform": f"@{own}#preprocessing",
            "seed": "@seed",
        },
        "dataloader": {
            "_target_": "medresnet3d.data.data_loader",
            "dataset": f"@{own}#dataset",
            "batch_size": "@batch_size",
            "shuffle": shuffle,
            "seed": "@seed",
            "num_workers": "@num_workers",
        },
        "inferer": {"_target_": "monai.inferers.SimpleInferer"},
        "postprocessing": {
            "_target_": "monai.transforms.Compose",
            "transforms": [
                {"_target_": "monai.transforms.Activationsd", "keys": "pred", "softmax": True},
                {"_target_": "monai.transforms.AsDiscreted", "keys": "label", "to_onehot": 2},
            ],
        },
        "key_metric": {
            "auc": {
                "_target_": "monai.handlers.ROCAUC",
                "output_transform": {"_target_": "monai.handlers.from_engine", "keys": ["pred", "label"]},
            }
        },
    }


def train_config() -> dict[str, Any]:
    train = _part("training", _loading({"_target_": "monai.transforms.RandGaussianNoised", "keys": "image"}), True)
    validate = _part("validation", _loading(), False)
    train["handlers"] = [
        {
            "_target_": f"{ENGINES}.train_handlers",
            "output_dir": "@output_dir",
            "validator": "@validate#evaluator",
            "interval": "@val_interval",
            "lr_scheduler": "@lr_scheduler",
            "seed": "@seed",
            "checkpoint_seconds": "@checkpoint_seconds",
        }
    ]
    train["trainer"] = {
        "_target_": f"{ENGINES}.Trainer",
        "device": "@device",
        "max_epochs": "@max_epochs",
        "train_data_loader": "@train#dataloader",
        "network": "@network",
        "optimizer": "@optimizer",
        "loss_function": "@loss",
        "precision": "@precision",
        "inferer": "@train#inferer",
        "postprocessing": "@train#postprocessing",
        "key_train_metric": "@train#key_metric",
        "train_handlers": "@train#handlers",
    }
    validate["handlers"] = []
    validate["evaluator"] = {
        "_target_": f"{ENGINES}.Evaluator",
        "device": "@device",
        "val_data_loader": "@validate#dataloader",
        "network": "@network",
        "precision": "@precision",
        "inferer": "@validate#inferer",
        "postprocessing": "@validate#postprocessing",
        "key_val_metric": "@validate#key_metric",
        "val_handlers": "@validate#handlers",
    }
    return {
        "bundle_root": ".",
        "dataset_dir": ".",
        "data": "$@dataset_dir + '/manifest.json'",
        "output_dir": "$@bundle_root + '/runs'",
        "device": {"_target_": f"{ENGINES}.select_device", "name": "auto"},
        "seed": 0,
        "precision": "fp32",
        "max_epochs": 3,
        "batch_size": 4,
        "num_workers": 0,
        "val_interval": 1,
        "learning_rate": 0.01,
        "checkpoint_seconds": 60,
        "features": 4,
        "network_def": network_def(),
        "network": "$@network_def.to(@device)",
        "loss": {"_target_": "torch.nn.CrossEntropyLoss"},
        "optimizer": {"_target_": "torch.optim.Adam", "params": "$@network.parameters()", "lr": "@learning_rate"},
        "lr_scheduler": {
            "_target_": "torch.optim.lr_scheduler.CosineAnnealingLR",
            "optimizer": "@optimizer",
            "T_max": "@max_epochs",
        },
        "train": train,
        "validate": validate,
        "initialize": [{"_target_": f"{ENGINES}.seed_everything", "seed": "@seed"}],
        "run": ["$@train#trainer.run()"],
        "finalize": [],
    }


def network_def() -> dict[str, Any]:
    """A network with batch normalisation and dropout."""
    return {
        "_target_": "monai.networks.nets.DenseNet",
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 2,
        "init_features": "@features",
        "growth_rate": 2,
        "block_config": [1, 1],
        "bn_size": 1,
        "dropout_prob": 0.2,
    }


MULTI_GPU = {
    "network": {"_target_": f"{ENGINES}.distribute", "network": "@network_def", "device": "@device"},
    "initialize": [
        {"_target_": f"{ENGINES}.start_distributed"},
        {"_target_": f"{ENGINES}.seed_everything", "seed": "@seed"},
    ],
    "finalize": [{"_target_": f"{ENGINES}.stop_distributed"}],
}


def write_toy_bundle(folder: Path) -> Path:
    """Write a bundle that can be trained, without weights."""
    (folder / "configs").mkdir(parents=True)
    (folder / "docs").mkdir()
    inference = {"bundle_root": ".", "features": 4, "network_def": network_def()}
    metadata = {
        "name": "toy_cubes",
        "version": "0.1.0",
        "task": "classification",
        "labels": {"0": "dark", "1": "bright"},
        "weights": {"file": "models/model.pt"},
    }
    configs = {"train": train_config(), "multi_gpu_train": MULTI_GPU, "inference": inference, "metadata": metadata}
    for name, config in configs.items():
        (folder / "configs" / f"{name}.json").write_text(json.dumps(config, indent=4))
    (folder / "docs" / "README.md").write_text("# Toy cubes\n\nBright or dark.\n")
    (folder / "LICENSE").write_text("Apache-2.0\n")
    return folder
