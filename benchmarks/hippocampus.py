r"""Cross-validate, compare and train the segmentation of ``alzheimer_hippocampus_multitask`` on real crops.

Every arm gets the same CPU time: seconds of this process with one thread (``time.process_time``), counted over drawing
crops and training only; with ``--device cuda`` too, where the processor still draws the crops. Both have the same
crops, folds, augmentation, loss, optimiser, schedule, averaging of weights and mirrored answers. Learning rates come
from short runs (``--choose``) on a part of the training crops of the first fold, with the rest of these to measure on.

    python benchmarks/hippocampus.py --data manifest.json --out runs --arm unet --choose 0.002 0.004 --cpu-seconds 70
    python benchmarks/hippocampus.py --data manifest.json --out runs --arm residual --fold 0 --cpu-seconds 150
    python benchmarks/hippocampus.py --data manifest.json --out runs --arm unet --fold 0 --cpu-seconds 150
    python benchmarks/hippocampus.py --data manifest.json --out runs --final --cpu-seconds 420
    python benchmarks/hippocampus.py --out runs --summary
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from brain_tissue import interval
from by_fold import SEED, results_of
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from timed_training import TimedTraining, half_precision
from torch import nn

from medresnet3d.data import items
from medresnet3d.engines.precision import Precision
from medresnet3d.inferers.flips import FlipInferer
from medresnet3d.io.atomic import atomic_path, atomic_write_text
from medresnet3d.networks.residual_unet import ResidualUNet
from medresnet3d.transforms.hippocampus import hippocampus_augmentation, hippocampus_validation

PARTS = ("anterior", "posterior")
FOLDS = 3
BOX = (32, 48, 32)


@dataclass(frozen=True)
class Arm:
    """What differs between the compared systems."""

    network: str
    learning_rate: float
    width: int = 0
    batch_size: int = 2


ARMS = {
    "residual": Arm("ResidualUNet", 4e-3, width=32),
    "unet": Arm("MONAI UNet 16-32-64-128, two residual units", 4e-3),
}


def make_network(arm: Arm) -> nn.Module:
    """The network of one arm, channels last."""
    torch.manual_seed(SEED)
    norm = ("batch", {"momentum": 0.03})
    network: nn.Module = (
        ResidualUNet(3, 1, 3, width=arm.width, norm=norm)
        if arm.width
        else UNet(3, 1, 3, (16, 32, 64, 128), (2, 2, 2), num_res_units=2, norm="batch")
    )
    return network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload,no-any-return]


def prepared(data: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The normalised crops of ``data`` as plain tensors."""
    pipeline = hippocampus_validation()
    crops = []
    for item in data:
        crop = pipeline({"image": item["image"], "label": item["label"]})
        plain = {key: torch.Tensor(crop[key].as_subclass(torch.Tensor)) for key in ("image", "label")}
        crops.append({**plain, "patient": item["patient"]})
    return crops


def batches(crops: list[dict[str, Any]], size: int, strength: float) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless augmented batches of images and labels, each (B, 1, *BOX), epoch by epoch."""
    augment = hippocampus_augmentation(BOX, strength)
    augment.set_random_state(SEED)
    rng = np.random.default_rng(SEED)
    queue: list[int] = []
    while True:
        while len(queue) < size:
            queue.extend(rng.permutation(len(crops)).tolist())
        boxes = [augment(dict(crops[queue.pop(0)])) for _ in range(size)]
        image, label = (torch.stack([torch.as_tensor(box[key]) for box in boxes]) for key in ("image", "label"))
        yield image.contiguous(memory_format=torch.channels_last_3d), label


def train(arm: Arm, crops: list[dict[str, Any]], options: argparse.Namespace) -> tuple[nn.Module, int]:
    """Train for so many seconds of CPU time: AdamW, warm-up and cosine; give the network of averaged weights."""
    device = torch.device(options.device)
    training = TimedTraining(make_network(arm).to(device), arm.learning_rate, options.cpu_seconds, fused=True)
    loss_function = DiceCELoss(softmax=True, to_onehot_y=True, include_background=False, batch=True)
    precision, source = Precision("auto"), batches(crops, arm.batch_size, options.strength)
    for progress in training.progress():
        image, label = (each.to(device) for each in next(source))
        with precision.active(device):
            output = training.network(image)
        training.descend(loss_function(output.float(), label))
        training.tell(progress, 200)
    return training.average.eval(), training.iteration


def dice(network: nn.Module, crop: dict[str, Any]) -> list[float]:
    """Dice coefficient of each part; the answers for crop and mirror image are averaged."""
    device = next(network.parameters()).device
    image = crop["image"][None].to(device, memory_format=torch.channels_last_3d)
    with torch.no_grad(), Precision("auto").active(device):
        answer = FlipInferer([0])(image, lambda x: network(x).float().softmax(1)).argmax(1).cpu()
    pairs = [(answer == part, crop["label"] == part) for part in (1, 2)]
    return [float(2 * (a & b).sum() / (a.sum() + b.sum())) for a, b in pairs]


def choosing_parts(crops: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Three quarters of the crops to train on and a quarter to choose by."""
    order = np.random.default_rng(SEED + 1).permutation(len(crops))
    quarter = len(crops) // 4
    return [crops[index] for index in order[quarter:]], [crops[index] for index in order[:quarter]]


def run_fold(options: argparse.Namespace, arm: Arm) -> dict[str, Any]:
    """Train on all folds but one and measure on that one; or choose among the training crops."""
    split = {"fold": options.fold, "folds": FOLDS, "seed": SEED}
    crops = prepared(items(options.data, "training", **split))
    if options.choose:
        crops, held_out = choosing_parts(crops)
    else:
        held_out = prepared(items(options.data, "validation", **split))
    network, iterations = train(arm, crops, options)
    cases = {crop["patient"]: dice(network, crop) for crop in held_out}
    if not options.choose:
        with atomic_path(options.out / f"{options.arm}_fold{options.fold}.pt") as path:
            torch.save(network.cpu().state_dict(), path)
    return {
        "arm": options.arm,
        "settings": asdict(arm),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "fold": options.fold,
        "cpu_seconds": options.cpu_seconds,
        "device": options.device,
        "augmentation": options.strength,
        "iterations": iterations,
        "mean": np.mean(list(cases.values()), 0).round(4).tolist(),
        "trained_on": [crop["patient"] for crop in crops],
        "dice": cases,
    }


def run_final(options: argparse.Namespace, arm: Arm) -> dict[str, Any]:
    """Train on everything and keep the averaged weights in half precision."""
    crops = prepared(items(options.data, "all"))
    network, iterations = train(arm, crops, options)
    network.cpu()
    state = half_precision(network.state_dict())
    before = [dice(network, crop) for crop in crops]
    network.load_state_dict(state)
    after = [dice(network, crop) for crop in crops]
    with atomic_path(options.out / "model.pt") as path:
        torch.save(state, path)
    return {
        "settings": asdict(arm),
        "cpu_seconds": options.cpu_seconds,
        "iterations": iterations,
        "trained_on": [crop["patient"] for crop in crops],
        "half_precision_changes_dice_by": float(np.abs(np.subtract(before, after)).max()),
        "fits_training_data_dice": np.mean(after, 0).round(4).tolist(),
    }


def summarise(folder: Path) -> dict[str, Any]:
    """Dice of each arm over all folds with 95% bootstrap intervals by crop, and their paired difference."""
    summary: dict[str, Any] = {"arms": {}}
    tables: dict[str, dict[str, list[float]]] = {}
    for name in ARMS:
        results = results_of(folder, name)
        if len(results) < FOLDS:
            continue
        tables[name] = {patient: scores for result in results for patient, scores in result["dice"].items()}
        table = np.array(list(tables[name].values()))
        columns = {part: table[:, index] for index, part in enumerate(PARTS)} | {"mean": table.mean(1)}
        summary["arms"][name] = {
            "settings": results[0]["settings"],
            "parameters": results[0]["parameters"],
            "cpu_seconds": results[0]["cpu_seconds"],
            "iterations": [result["iterations"] for result in results],
            "crops": len(table),
            "dice": {part: [round(float(v.mean()), 4), *interval(v)] for part, v in columns.items()},
            "folds": [result["mean"] for result in results],
            "worst": round(float(table.mean(1).min()), 4),
        }
    if len(tables) == len(ARMS):
        ours, peer = (np.array([tables[name][patient] for patient in tables["unet"]]) for name in ARMS)
        difference = (ours - peer).mean(1)
        summary["difference"] = [round(float(difference.mean()), 4), *interval(difference)]
        summary["better_in"] = int((difference > 0).sum())
    return summary


def main() -> None:
    """Run one arm and write its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="manifest of hippocampus crops with label maps")
    parser.add_argument("--out", type=Path, required=True, help="folder for figures and weights")
    parser.add_argument("--arm", choices=list(ARMS), default="residual")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--cpu-seconds", type=float, default=150.0)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--strength", type=float, default=1.0, help="strength of the augmentation")
    parser.add_argument("--choose", type=float, nargs="*", help="learning rates to try on a part of the fold")
    parser.add_argument("--learning-rate", type=float, help="instead of the arm's own")
    parser.add_argument("--width", type=int, help="of the residual network, instead of the arm's own")
    parser.add_argument("--final", action="store_true", help="train on everything")
    parser.add_argument("--summary", action="store_true", help="summarise what is in the folder")
    options = parser.parse_args()
    torch.set_num_threads(1)
    arm = ARMS[options.arm]
    arm = replace(arm, width=options.width or arm.width, learning_rate=options.learning_rate or arm.learning_rate)
    if options.summary:
        results = {"summary": summarise(options.out)}
    elif options.final:
        results = {"final": run_final(options, arm)}
    elif options.choose:
        results = {
            f"choose_{options.arm}{options.width or ''}_{rate:g}": run_fold(options, replace(arm, learning_rate=rate))
            for rate in options.choose
        }
    else:
        results = {f"{options.arm}_fold{options.fold}": run_fold(options, arm)}
    for name, result in results.items():
        atomic_write_text(options.out / f"{name}.json", json.dumps(result, indent=1))
        print(name, json.dumps({key: value for key, value in result.items() if key not in ("dice", "trained_on")}))


if __name__ == "__main__":
    main()
