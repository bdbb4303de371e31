"""More bundles in the style of the MONAI Model Zoo: those that bring code, engines or files of their own."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.workflows.foreign_bundles import (
    ARGMAX,
    LEVEL,
    SAVING,
    SCRIPTS,
    SOFTMAX,
    ct_steps,
    inverting,
    loading,
    metadata,
    post,
    sliding,
    standard,
    unet,
    write,
)

VISTA_SCRIPTS = {
    "__init__.py": "",
    "evaluator.py": """
import torch
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys


class PromptedEvaluator(SupervisedEvaluator):
    def __init__(self, *args, hyper_kwargs=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.hyper_kwargs = hyper_kwargs

    def _iteration(self, engine, batchdata):
        image = batchdata["image"].to(engine.state.device)
        wanted = [int(label) for label in batchdata["label_prompt"]]
        with engine.mode(engine.network):
            output = engine.inferer(image, engine.network)
        found = image * 0
        for label in wanted:
            found[output[:, 1:2] > output[:, 0:1]] = label
        engine.state.output = {CommonKeys.IMAGE: image, CommonKeys.PRED: found}
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output
""",
    **{key: value for key, value in SCRIPTS.items() if key != "__init__.py"},
}


def prompted(root: Path) -> Path:
    """An evaluator of its own, a prompt in each item, class numbers with gaps, two steps that are configured apart."""
    steps = loading({"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"})["transforms"]
    steps[0]["reader"] = "NibabelGPUReader"
    config = standard(
        {"_target_": "scripts.networks.Thresholder", "level": 7.0},
        {"_target_": "Compose", "transforms": "$@preprocessing_transforms "},
        post({**inverting(True), "transform": "$copy.deepcopy(@preprocessing)"}, {**SAVING, "resample": False}),
        {"_target_": "SimpleInferer"},
        preprocessing_transforms=steps,
        input_dict="${'image': '/workspace/spleen_10.nii.gz', 'label_prompt': [57]}",
    )
    config["imports"] += ["$import copy", "$import scripts"]
    config["dataset"]["data"] = "$[@input_dict]"
    config["evaluator"] |= {
        "_target_": "scripts.evaluator.PromptedEvaluator",
        "hyper_kwargs": {"user_prompt": True, "everything": "$list(set([i + 1 for i in range(132)]) - set([2, 16]))"},
    }
    names = {"0": "background", "1": "liver", "3": "spleen", "57": "rib"}
    bundle = write(root, config, metadata("anything segmentation", names), scripts=VISTA_SCRIPTS, weights=None)
    (bundle / "models").mkdir()
    torch.save({"level": torch.tensor(LEVEL / 2)}, bundle / "models" / "model.pt")
    return bundle


def landmarks(root: Path) -> Path:
    """Array transforms, a saver of its own and points as the answer: it can only run as a whole."""
    scripts = {
        "__init__.py": "",
        "points.py": """
import numpy as np
import torch
from monai.transforms import MapTransform


class Brightest(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, x):
        flat = int((x * self.scale).flatten().argmax())
        return torch.tensor([[float(i) for i in np.unravel_index(flat, x.shape[2:])]])


class NpySaverd(MapTransform):
    def __init__(self, keys, output_dir):
        super().__init__(keys)
        self.output_dir = output_dir

    def __call__(self, data):
        np.save(self.output_dir + "/points.npy", data["pred"].cpu().numpy())
        return data
""",
    }
    config = standard(
        {"_target_": "points.Brightest"},
        {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImage", "image_only": "true"},
                {"_target_": "EnsureChannelFirst"},
                {"_target_": "ScaleIntensity"},
            ],
        },
        post({"_target_": "points.NpySaverd", "keys": "pred", "output_dir": "@output_dir"}),
        {"_target_": "SimpleInferer"},
    )
    del config["checkpointloader"], config["initialize"], config["run"], config["bundle_root"]
    config["imports"] += ["$from scripts import points"]
    config["dataset"]["data"] = "@datalist"
    config["output_dir"] = "./output"
    config["handlers"] = [
        {
            "_target_": "CheckpointLoader",
            "_disabled_": "$not os.path.exists(@ckpt_path)",
            "load_path": "@ckpt_path",
            "load_dict": {"net": "@network"},
        }
    ]
    config["ckpt_path"] = "$@bundle_root + '/models/model.pt'"
    config["evaluator"] |= {"decollate": False, "prepare_batch": "$lambda batch, dev, nb: (batch.to(dev), ())"}
    config["evaluator"].pop("amp")
    config["evaluating"] = ["$@evaluator.run()"]
    about = metadata("find valve insertion points", {"0": "Y", "1": "X"})
    about["network_data_format"]["outputs"]["pred"] |= {"type": "tuples", "format": "points", "spatial_shape": [2, 1]}
    bundle = write(root, config, about, scripts=scripts, weights=None)
    (bundle / "models").mkdir()
    torch.save({"net": {"scale": torch.ones(1)}}, bundle / "models" / "model.pt")
    return bundle


WORKFLOW = """
import torch
from monai.bundle import BundleWorkflow
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import UNet
from monai.transforms import (
    Activationsd, AsDiscreted, Compose, EnsureChannelFirstd, Invertd, LoadImaged, Orientationd, SaveImaged, Spacingd,
)


class InferenceWorkflow(BundleWorkflow):
    def __init__(self, dataset_dir, bundle_root=".", output_dir="eval", device=None, overlap=0.25):
        super().__init__(workflow_type="inference")
        self.dataset_dir, self.bundle_root, self.output_dir = dataset_dir, bundle_root, output_dir
        self.device, self.overlap = device or torch.device("cpu"), overlap

    def initialize(self):
        self.network_def = UNet(
            spatial_dims=3, in_channels=1, out_channels=2, channels=(4, 8), strides=(2,), num_res_units=1, norm="batch"
        )
        self.network_def.load_state_dict(torch.load(self.bundle_root + "/models/model.pt", weights_only=True))
        self.preprocessing = Compose([
            LoadImaged("image"), EnsureChannelFirstd("image"), Orientationd("image", "RAS", labels=None),
            Spacingd("image", (1.5, 1.5, 2.0)),
        ])
        self.inferer = SlidingWindowInferer((16, 16, 16), 2, self.overlap)
        self.postprocessing = Compose([
            Activationsd("pred", softmax=True), Invertd("pred", self.preprocessing, "image"),
            AsDiscreted("pred", argmax=True), SaveImaged("pred", self.output_dir),
        ])

    def run(self):
        raise NotImplementedError

    def finalize(self):
        return None

    def _get_property(self, name, property):
        return getattr(self, f"_{name}")

    def _set_property(self, name, property, value):
        object.__setattr__(self, f"_{name}", value)
"""


def python_only(root: Path) -> Path:
    """No configuration but a ``BundleWorkflow``."""
    about = metadata("spleen segmentation", {"0": "background", "1": "spleen"})
    return write(root, None, about, scripts={"__init__.py": "", "inference.py": WORKFLOW}, network=unet())


def cells(root: Path) -> Path:
    """Several outputs of one network, and two maps as the answer."""
    scripts = {
        "__init__.py": "",
        "cells.py": """
import torch
from monai.transforms import Transform


class TwoHeads(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return {"nucleus_prediction": self.conv(x)[:, :2], "type_prediction": self.conv(x)}


class Numbered(Transform):
    def __call__(self, data):
        item = dict(data)
        kinds = item["type_prediction"].argmax(0, keepdim=True)
        item["type_map"] = kinds
        item["instance_map"] = torch.arange(kinds.numel()).reshape(kinds.shape)
        return item
""",
    }
    config = standard(
        {"_target_": "scripts.cells.TwoHeads"},
        loading({"_target_": "CastToTyped", "keys": "image", "dtype": "float32"}),
        post(
            {
                "_target_": "FlattenSubKeysd",
                "keys": "pred",
                "sub_keys": ["nucleus_prediction", "type_prediction"],
                "delete_keys": True,
            },
            {"_target_": "scripts.cells.Numbered"},
            {**SAVING, "keys": "instance_map"},
            {**SAVING, "keys": "type_map"},
        ),
        {"_target_": "SimpleInferer"},
    )
    about = metadata("nuclear segmentation", {"0": "background"}, inputs=3, dims=2)
    outputs = about["network_data_format"]["outputs"]
    outputs["nucleus_prediction"] = outputs.pop("pred")
    outputs["type_prediction"] = {
        **outputs["nucleus_prediction"],
        "channel_def": {"0": "background", "1": "inflammatory", "2": "epithelial"},
    }
    bundle = write(root, config, about, scripts=scripts, weights=None)
    (bundle / "models").mkdir()
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(3, 3, 1).state_dict()
    torch.save({f"conv.{name}": value for name, value in conv.items()}, bundle / "models" / "model.pt")
    return bundle


def searched(root: Path) -> Path:
    """A DiNTS network whose architecture lies in a file of arrays that is named by its place on another computer."""
    import numpy as np

    place = "/workspace/MONAI/model-zoo/models/pancreas/models/search_code_9100.pt"
    config = standard(
        {
            "_target_": "monai.networks.nets.DiNTS",
            "dints_space": "@dints_space",
            "in_channels": 1,
            "num_classes": 3,
            "use_downsample": True,
            "node_a": "$torch.from_numpy(@arch_ckpt['node_a'])",
        },
        loading(*ct_steps()),
        post(SOFTMAX, inverting(), ARGMAX, SAVING),
        sliding((16, 16, 16), overlap=0.625),
        arch_ckpt_path=place,
        arch_ckpt="$torch.load(@arch_ckpt_path, map_location=torch.device('cuda'))",
        dints_space={
            "_target_": "monai.networks.nets.TopologyInstance",
            "channel_mul": 0.2,
            "num_blocks": 6,
            "num_depths": 3,
            "use_downsample": True,
            "arch_code": ["$@arch_ckpt['arch_code_a']", "$@arch_ckpt['arch_code_c']"],
            "device": "$torch.device('cuda')",
        },
    )
    config["bundle_root"] = "/workspace/MONAI/model-zoo/models/pancreas"
    config["evaluating"] = ["$setattr(torch.backends.cudnn, 'benchmark', True)", *config.pop("run")]
    bundle = write(root, config, metadata("pancreas", {"0": "background", "1": "pancreas", "2": "tumor"}), weights=None)
    rng = np.random.default_rng(0)
    code = {
        "arch_code_a": np.ones((6, 7)),
        "arch_code_c": rng.integers(0, 2, (6, 7)),
        "node_a": np.ones((7, 3)),
    }
    (bundle / "models").mkdir()
    torch.save(code, bundle / "models" / "search_code_9100.pt")
    from monai.networks.nets import DiNTS, TopologyInstance

    torch.manual_seed(0)
    space = TopologyInstance(
        channel_mul=0.2,
        num_blocks=6,
        num_depths=3,
        use_downsample=True,
        arch_code=[code["arch_code_a"], code["arch_code_c"]],
        device="cpu",
    )
    network = DiNTS(space, 1, 3, use_downsample=True, node_a=torch.from_numpy(code["node_a"]))
    torch.save(network.state_dict(), bundle / "models" / "model.pt")
    return bundle
