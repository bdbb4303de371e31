"""What each branch of the hippocampus classifier says by itself about the test people, beside the joined answer.

    python benchmarks/hippocampus_branches.py RUN --data manifest.json

RUN is a training of ``alzheimer_hippocampus_multitask`` with ``task=classification``. The branches answer by their own
layers with the weights at the end of the stage ``patches``, the joined layer with those of the finished training.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from medresnet3d.bundle.load import load_config
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.engines.checkpoint import load_checkpoint

BUNDLE = "alzheimer_hippocampus_multitask"
IDS = ("voxel_size_mm", "region", "patch_size", "size")


def main() -> None:
    """Print AUCs, and differences of the joined answer with 95% intervals over the people."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--resamples", type=int, default=300)
    options = parser.parse_args()
    config = json.loads((options.run / "config.json").read_text(encoding="utf-8"))
    ids = {name: config[name] for name in IDS}
    ids |= {"task": "classification", "data": str(options.data), "device": "cpu"}
    ids["validate#dataset#data#section"] = "test"
    bundle = load_config(find_bundle(BUNDLE), ("train.json",), ids)
    network = bundle.get_parsed_content("network_def").eval()
    batches = list(bundle.get_parsed_content("validate#dataloader"))
    truth = np.array([int(batch["label"]) for batch in batches])
    answers: dict[str, np.ndarray] = {}
    for place, names in (("checkpoints", ["joined"]), ("stages/patches/checkpoints", ["shape", "texture"])):
        network.load_state_dict(load_checkpoint(options.run / place / "best.pt")["network"])
        with torch.no_grad():
            looks = [network.look(torch.as_tensor(batch["image"]))[:2] for batch in batches]
            shape, texture = (torch.cat(part) for part in zip(*looks, strict=True))
            joined = torch.cat([shape, texture], 1)
            heads = {"joined": (network.classifier, joined), "shape": (network.auxiliary["shape"], shape)}
            heads["texture"] = (network.auxiliary["texture"], texture)
            answers |= {name: heads[name][0](heads[name][1]).softmax(1)[:, 1].numpy() for name in names}
    drawn = [np.random.default_rng([0, n]).integers(len(truth), size=len(truth)) for n in range(options.resamples)]
    drawn = [people for people in drawn if 0 < truth[people].mean() < 1]
    aucs = {name: roc_auc_score(truth, answer) for name, answer in answers.items()}
    print(f"joined {aucs['joined']:.3f}, {len(truth)} people")
    for name in ("shape", "texture"):
        pairs = [[roc_auc_score(truth[people], answers[one][people]) for one in ("joined", name)] for people in drawn]
        low, high = np.percentile([one - other for one, other in pairs], [2.5, 97.5])
        print(
            f"{name} {aucs[name]:.3f}, joined minus it {aucs['joined'] - aucs[name]:+.3f} ({low:+.3f} to {high:+.3f})"
        )


if __name__ == "__main__":
    main()
