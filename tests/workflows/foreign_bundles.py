"""Bundles in the style of the MONAI Model Zoo, written from scratch, with tiny networks and made-up weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from monai.bundle import ConfigParser

Config = dict[str, Any]


def write(
    root: Path,
    inference: Config | None,
    metadata: Mapping[str, Any],
    *,
    weights: str | None = "models/model.pt",
    wrap: str | None = None,
    suffix: str = ".json",
    scripts: Mapping[str, str] | None = None,
    files: Mapping[str, Any] | None = None,
    network: Config | None = None,
) -> Path:
    """Write a bundle folder.

    Args:
        root: the folder.
        inference: its ``inference`` configuration.
        metadata: its ``metadata.json``.
        weights: where random weights of the network go.
        wrap: name under which the state dict lies in that file.
        suffix: of the configuration.
        scripts: Python files below ``scripts/``.
        files: further files by their place: text, or JSON.
        network: what to build for the weights instead of ``network_def``.
    """
    (root / "configs").mkdir(parents=True)
    (root / "configs" / "metadata.json").write_text(json.dumps(metadata))
    if inference is not None:
        text = json.dumps(inference) if suffix == ".json" else yaml.safe_dump(inference, sort_keys=False)
        (root / "configs" / f"inference{suffix}").write_text(text)
    for name, text in (scripts or {}).items():
        (root / "scripts").mkdir(exist_ok=True)
        (root / "scripts" / name).write_text(text)
    for name, content in (files or {}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content if isinstance(content, str) else json.dumps(content))
    definition = network or (inference or {}).get("network_def")
    if weights and definition:
        save_weights(root / weights, definition, wrap)
    return root


def save_weights(file: Path, definition: Config, wrap: str | None = None) -> None:
    """Write the state dict of a freshly made network."""
    torch.manual_seed(0)
    state = ConfigParser({"network_def": definition}).get_parsed_content("network_def").state_dict()
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({wrap: state} if wrap else state, file)


def metadata(
    task: str, channels: Mapping[str, str], *, inputs: int = 1, dims: int = 3, kind: str = "segmentation", **more: Any
) -> Config:
    """Write metadata as the zoo has it: a task in free words, no ``labels``, names in ``channel_def``."""
    spatial = ["*"] * dims if kind != "classification" else []
    output_type = "probability" if kind == "classification" else "image"
    return {
        "version": "0.5.1",
        "monai_version": "1.3.0",
        "pytorch_version": "2.1.0",
        "numpy_version": "1.26.0",
        "required_packages_version": {"nibabel": "5.0.0", "pytorch-ignite": "0.4.11"},
        "task": task,
        "description": f"A bundle for {task}",
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "magnitude",
                    "num_channels": inputs,
                    "spatial_shape": [16] * dims,
                    "channel_def": {str(index): "image" for index in range(inputs)},
                }
            },
            "outputs": {
                "pred": {
                    "type": output_type,
                    "format": kind,
                    "num_channels": len(channels),
                    "spatial_shape": spatial,
                    "channel_def": dict(channels),
                }
            },
        },
        **more,
    }


def unet(inputs: int = 1, outputs: int = 2, dims: int = 3) -> Config:
    return {
        "_target_": "UNet",
        "spatial_dims": dims,
        "in_channels": inputs,
        "out_channels": outputs,
        "channels": [4, 8],
        "strides": [2],
        "num_res_units": 1,
        "norm": "batch",
    }


def loading(*more: Config, keys: Any = "image") -> Config:
    first = [{"_target_": "LoadImaged", "keys": keys}, {"_target_": "EnsureChannelFirstd", "keys": keys}]
    return {"_target_": "Compose", "transforms": [*first, *more]}


def ct_steps(spacing: Sequence[float] = (1.5, 1.5, 2.0)) -> list[Config]:
    return [
        {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
        {"_target_": "Spacingd", "keys": "image", "pixdim": list(spacing), "mode": "bilinear"},
        {
            "_target_": "ScaleIntensityRanged",
            "keys": "image",
            "a_min": -57,
            "a_max": 164,
            "b_min": 0,
            "b_max": 1,
            "clip": True,
        },
        {"_target_": "EnsureTyped", "keys": "image"},
    ]


def inverting(nearest: bool = False) -> Config:
    return {
        "_target_": "Invertd",
        "keys": "pred",
        "transform": "@preprocessing",
        "orig_keys": "image",
        "nearest_interp": nearest,
        "to_tensor": True,
    }


SAVING: Config = {
    "_target_": "SaveImaged",
    "keys": "pred",
    "output_dir": "@output_dir",
    "output_ext": ".nii.gz",
    "output_dtype": "$np.uint8",
    "output_postfix": "trans",
    "separate_folder": True,
}
SOFTMAX: Config = {"_target_": "Activationsd", "keys": "pred", "softmax": True}
ARGMAX: Config = {"_target_": "AsDiscreted", "keys": "pred", "argmax": True}


def post(*steps: Config) -> Config:
    return {"_target_": "Compose", "transforms": [*steps]}


def sliding(size: Sequence[int] = (16, 16, 16), **more: Any) -> Config:
    return {"_target_": "SlidingWindowInferer", "roi_size": list(size), "sw_batch_size": 2, "overlap": 0.5, **more}


def standard(
    network: Config, preprocessing: Config, postprocessing: Config, inferer: Config | None = None, **more: Any
) -> Config:
    """The usual ids of a zoo configuration, with a glob below ``dataset_dir`` and a ``checkpointloader``."""
    return {
        "imports": ["$import glob", "$import os"],
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/eval'",
        "dataset_dir": "/workspace/data/Task09_Spleen",
        "datalist": "$list(sorted(glob.glob(@dataset_dir + '/imagesTs/*.nii.gz')))",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": network,
        "network": "$@network_def.to(@device)",
        "preprocessing": preprocessing,
        "dataset": {"_target_": "Dataset", "data": "$[{'image': i} for i in @datalist]", "transform": "@preprocessing"},
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": "@dataset",
            "batch_size": 1,
            "shuffle": False,
            "num_workers": 4,
        },
        "inferer": inferer or sliding(),
        "postprocessing": postprocessing,
        "handlers": [{"_target_": "StatsHandler", "iteration_log": False}],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
            "amp": True,
        },
        "checkpointloader": {
            "_target_": "CheckpointLoader",
            "load_path": "$@bundle_root + '/models/model.pt'",
            "load_dict": {"model": "@network"},
        },
        "initialize": ["$monai.utils.set_determinism(seed=123)", "$@checkpointloader(@evaluator)"],
        "run": ["$@evaluator.run()"],
        **more,
    }


def spleen(root: Path, **more: Any) -> Path:
    """A UNet on CT at another spacing, with a dataset_dir glob."""
    config = standard(unet(), loading(*ct_steps()), post(SOFTMAX, inverting(), ARGMAX, SAVING), **more)
    return write(root, config, metadata("spleen segmentation", {"0": "background", "1": "spleen"}))


def with_handler_zero(root: Path) -> Path:
    """Weights through ``handlers#0``, ``evaluating`` instead of ``run``, cases from a datalist JSON."""
    config = standard(unet(outputs=3), loading(*ct_steps()), post(SOFTMAX, inverting(True), ARGMAX, SAVING))
    loader = config.pop("checkpointloader")
    config["handlers"] = [{**loader, "map_location": "@device"}, *config["handlers"]]
    config["evaluating"] = config.pop("run")
    del config["initialize"]
    config["data_list_file_path"] = "$@bundle_root + '/configs/datalist.json'"
    config["datalist"] = (
        "$monai.data.load_decathlon_datalist(@data_list_file_path, data_list_key='testing', base_dir=@dataset_dir)"
    )
    names = {"0": "background", "1": "pancreas", "2": "tumor"}
    return write(root, config, metadata("pancreas segmentation", names), wrap="model")


def brats(root: Path) -> Path:
    """A SegResNet on four channels that gives three structures, each inside the one before."""
    network = {
        "_target_": "SegResNet",
        "blocks_down": [1, 1],
        "blocks_up": [1],
        "init_filters": 4,
        "in_channels": 4,
        "out_channels": 3,
        "norm": ["GROUP", {"num_groups": 2}],
    }
    scaling = {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True, "channel_wise": True}
    steps = post(
        {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
        inverting(),
        {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
        {**SAVING, "resample": False},
    )
    names = {"0": "tumor core", "1": "whole tumor", "2": "enhancing tumor"}
    config = standard(network, loading(scaling), steps)
    return write(root, config, metadata("multimodal brain tumor segmentation", names, inputs=4))


def whole_body(root: Path) -> Path:
    """105 classes, in YAML, and a window that pads by repeating the border."""
    names = {"0": "background", **{str(index): f"structure {index}" for index in range(1, 105)}}
    scaling = {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True}
    steps = [
        {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
        {"_target_": "Spacingd", "keys": "image", "pixdim": [3.0, 3.0, 3.0]},
        scaling,
        {"_target_": "ScaleIntensityd", "keys": "image", "minv": -1.0, "maxv": 1.0},
    ]
    inferer = sliding(overlap=0.25, padding_mode="replicate", mode="gaussian", device="$torch.device('cpu')")
    network = {"_target_": "SegResNet", "blocks_down": [1, 1], "blocks_up": [1], "init_filters": 8, "out_channels": 105}
    config = standard(network, loading(*steps), post(SOFTMAX, ARGMAX, inverting(True), SAVING), inferer)
    return write(root, config, metadata("whole body segmentation", names), suffix=".yaml")


def prostate(root: Path) -> Path:
    """Largest components, and a crop before the network."""
    steps = [
        {"_target_": "CenterSpatialCropd", "keys": "image", "roi_size": [16, 16, -1]},
        {"_target_": "ScaleIntensityd", "keys": "image"},
        {"_target_": "NormalizeIntensityd", "keys": "image"},
    ]
    largest = {"_target_": "KeepLargestConnectedComponentd", "keys": "pred", "applied_labels": [1, 2]}
    config = standard(unet(outputs=3), loading(*steps), post(ARGMAX, largest, inverting(True), SAVING))
    names = {"0": "background", "1": "central gland", "2": "peripheral zone"}
    return write(root, config, metadata("prostate segmentation", names))


SCRIPTS = {
    "__init__.py": "from .networks import Thresholder\nfrom .transforms import Doubled\n",
    "networks.py": """
import torch


class Thresholder(torch.nn.Module):
    def __init__(self, level):
        super().__init__()
        self.register_buffer("level", torch.tensor(float(level)))

    def forward(self, x):
        return torch.cat((self.level - x, x - self.level), dim=1)
""",
    "transforms.py": """
from monai.transforms import MapTransform


class Doubled(MapTransform):
    def __call__(self, data):
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = item[key] * 2
        return item
""",
}
LEVEL = 200.0


def scripted(root: Path, postprocessing: Config | None = None, **more: Any) -> Path:
    """A network and a transform of the bundle's own: doubles the image and marks what is above 200."""
    network = {"_target_": "scripts.networks.Thresholder", "level": 7.0}
    doubling = {"_target_": "scripts.transforms.Doubled", "keys": "image"}
    preprocessing = loading({"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"}, doubling)
    steps = postprocessing or post(ARGMAX, inverting(True), SAVING)
    config = standard(network, preprocessing, steps, {"_target_": "SimpleInferer"}, **more)
    config["imports"].append("$import scripts")
    bundle = write(
        root,
        config,
        metadata("bright segmentation", {"0": "background", "1": "bright"}),
        scripts=SCRIPTS,
        weights=None,
    )
    (bundle / "models").mkdir()
    torch.save({"level": torch.tensor(LEVEL)}, bundle / "models" / "model.pt")
    return bundle


def endoscopy(root: Path, classify: bool = False) -> Path:
    """Colour photographs: tools in them, or the place where they were taken."""
    resize = {"_target_": "Resized", "keys": "image", "spatial_size": [32, 24]}
    preprocessing = {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image", "reader": "PILReader"},
            {"_target_": "EnsureChannelFirstd", "keys": "image", "channel_dim": -1},
            resize,
            {"_target_": "ScaleIntensityd", "keys": "image"},
        ],
    }
    simple = {"_target_": "SimpleInferer"}
    if classify:
        network = {
            "_target_": "DenseNet",
            "spatial_dims": 2,
            "in_channels": 3,
            "out_channels": 2,
            "init_features": 4,
            "growth_rate": 2,
            "block_config": [1, 1],
        }
        config = standard(network, preprocessing, post(SOFTMAX), simple)
        names = {"0": "inside", "1": "outside"}
        about = metadata("inbody classification", names, inputs=3, dims=2, kind="classification")
    else:
        saving = {**SAVING, "output_ext": ".png", "scale": 255, "squeeze_end_dims": True}
        config = standard(unet(3, dims=2), preprocessing, post(SOFTMAX, inverting(), ARGMAX, saving), simple)
        about = metadata("tool segmentation", {"0": "background", "1": "tools"}, inputs=3, dims=2)
    return write(root, config, about)
