r"""Cross-validate, compare and train ``brain_tissue_voxresnet`` on the real scans of a manifest.

Every arm gets the same CPU time: seconds of this process with one thread (``time.process_time``), counted over drawing
patches and training only, since wall time means little on a machine that is shared. Same data, folds, augmentation,
loss, optimiser and schedule; the learning rate of each arm was chosen in short runs.

    python benchmarks/brain_tissue.py --data manifest.json --out runs --arm borders
    python benchmarks/brain_tissue.py --data manifest.json --out runs --arm voxresnet --fold 0 --cpu-seconds 190
    python benchmarks/brain_tissue.py --data manifest.json --out runs2 --arm voxresnet --fold 0 --cpu-seconds 150 \
        --start-from runs/voxresnet_fold0.pt --learning-rate 0.0025
    python benchmarks/brain_tissue.py --data manifest.json --out runs3 --arm voxresnet --fold 0 --cpu-seconds 320 \
        --start-from runs2/voxresnet_fold0.pt --learning-rate 0.002
    python benchmarks/brain_tissue.py --data manifest.json --out runs --arm unet --fold 0 --cpu-seconds 340
    python benchmarks/brain_tissue.py --data manifest.json --out runs --arm final --cpu-seconds 450
    python benchmarks/brain_tissue.py --data manifest.json --out runs2 --arm final --cpu-seconds 400 \
        --start-from runs/model.pt --learning-rate 0.0025
    python benchmarks/brain_tissue.py --data manifest.json --out runs3 --arm final --cpu-seconds 600 \
        --start-from runs2/model.pt --learning-rate 0.002
    python benchmarks/brain_tissue.py --out runs3 --arm summary
    python benchmarks/brain_tissue.py --data manifest.json --out runs --arm distances
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
from by_fold import SEED, estimate, results_of
from monai.inferers import SlidingWindowInferer
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from timed_training import TimedTraining, half_precision
from torch import nn

from medresnet3d.data import items
from medresnet3d.io.atomic import atomic_path, atomic_write_text
from medresnet3d.losses.deep_supervision import FadingDeepSupervisionLoss
from medresnet3d.metrics.segmentation import case_metrics
from medresnet3d.networks.voxresnet import VoxResNet, build_voxresnet
from medresnet3d.transforms.mri import brain_tissue_augmentation, brain_tissue_validation
from medresnet3d.transforms.mri_shifts import SHIFTS

MEASURES = ("dice", "hd95_mm", "avd_percent")
TISSUES = ("CSF", "grey matter", "white matter")
NORM_MOMENTUM = 0.03  # of batch statistics, since batches are small


@dataclass(frozen=True)
class Arm:
    """What differs between the compared systems."""

    network: str
    patch_size: int
    batch_size: int
    learning_rate: float
    auxiliary: float
    auxiliary_until: float  # of the time: the weight has faded, and the auxiliary losses are left out to save it
    freeze_norm_after: float  # of the time; 1: never
    width: int = 0


ARMS = {
    "voxresnet": Arm("VoxResNet width 16", 32, 1, 4e-3, 0.1, 0.1, 0.15, width=16),
    "voxresnet32": Arm("VoxResNet width 32", 32, 1, 3e-3, 0.1, 0.1, 0.15, width=32),
    "unet": Arm("MONAI UNet 16-32-64-128", 64, 2, 3e-3, 0.0, 0.0, 1.0),
}
FINAL = "voxresnet"
IDENTITY_SHARE = 0.5  # of the kernels at full size at the start


def make_network(arm: str, weights: Path | None = None) -> nn.Module:
    """The network of one arm, channels last, with the weights of an earlier run where there are some."""
    torch.manual_seed(SEED)
    network: nn.Module = (
        UNet(3, 1, 4, (16, 32, 64, 128), (2, 2, 2))
        if arm == "unet"
        else build_voxresnet(
            3, 1, 4, width=ARMS[arm].width, norm=("batch", {"momentum": NORM_MOMENTUM}), identity_share=IDENTITY_SHARE
        )
    )
    if weights is not None:
        network.load_state_dict(torch.load(weights, weights_only=True))
    return network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload,no-any-return]


def prepared(data: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cropped, normalised scans of ``data``."""
    pipeline = brain_tissue_validation()
    return [dict(pipeline({"image": item["image"], "label": item["label"]}), patient=item["patient"]) for item in data]


def batches(scans: list[dict[str, Any]], arm: Arm, strength: float) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless augmented batches of images and labels, each (B, 1, n, n, n)."""
    augment = brain_tissue_augmentation(arm.patch_size, strength)
    augment.set_random_state(SEED)
    rng = np.random.default_rng(SEED)
    plain = [{key: scan[key].as_subclass(torch.Tensor) for key in ("image", "label")} for scan in scans]
    while True:
        patches = [augment(plain[rng.integers(len(plain))]) for _ in range(arm.batch_size)]
        image, label = (
            torch.stack([torch.Tensor(patch[key].as_subclass(torch.Tensor)) for patch in patches])
            for key in ("image", "label")
        )
        yield image.contiguous(memory_format=torch.channels_last_3d), label


def train(
    arm: str, scans: list[dict[str, Any]], seconds: float, strength: float, weights: Path | None = None
) -> tuple[nn.Module, int]:
    """Train for ``seconds`` of CPU time: AdamW, warm-up and cosine, bfloat16; give the averaged network."""
    settings = ARMS[arm]
    training = TimedTraining(make_network(arm, weights), settings.learning_rate, seconds)
    network, source = training.network, batches(scans, settings, strength)
    plain_loss = DiceCELoss(softmax=True, to_onehot_y=True, include_background=False, batch=True)
    loss_function = FadingDeepSupervisionLoss(plain_loss, 1000, settings.auxiliary).train()
    for progress in training.progress():
        image, label = next(source)
        supervised = progress < settings.auxiliary_until
        if supervised:
            loss_function.step.fill_(int(progress / settings.auxiliary_until * loss_function.steps))
        if isinstance(network, VoxResNet) and progress > settings.freeze_norm_after and not network.norm_frozen:
            network.freeze_norm()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = network(image)
        outputs = [output.float() for output in (outputs if isinstance(outputs, list) else [outputs])]
        training.descend(loss_function(outputs, label) if supervised else plain_loss(outputs[0], label))
        training.tell(progress, 200, f"{arm}: ")
    return training.average.eval(), training.iteration


def segment(network: nn.Module, arm: str, image: torch.Tensor, flip: bool = True) -> torch.Tensor:
    """Tissue map (1, i, j, k) inside the brain; UNet by sliding windows of its patch, VoxResNet in one pass."""
    batch = image.as_subclass(torch.Tensor)[None].contiguous(memory_format=torch.channels_last_3d)
    window = SlidingWindowInferer(64, 2, 0.5, mode="gaussian")
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits = torch.zeros(())
        for axes in ([], [2]) if flip else ([],):
            turned = batch.flip(axes) if axes else batch
            answer = torch.as_tensor(window(turned, network) if arm == "unet" else network(turned))
            logits = logits + (answer.flip(axes) if axes else answer).float().softmax(1)
    return (logits[0, 1:].argmax(0, keepdim=True) + 1) * (batch[0] > 0)


def dice(prediction: torch.Tensor, truth: torch.Tensor) -> list[float]:
    """Dice coefficient of each tissue."""
    truth = truth.as_subclass(torch.Tensor)
    pairs = [(prediction == tissue, truth == tissue) for tissue in (1, 2, 3)]
    return [float(2 * (a & b).sum() / (a.sum() + b.sum())) for a, b in pairs]


def run_fold(options: argparse.Namespace) -> dict[str, Any]:
    """Train on all folds but one and measure on that one."""
    split = {"fold": options.fold, "folds": options.folds, "seed": SEED}
    scans = prepared(items(options.data, "training", **split))
    held_out = prepared(items(options.data, "validation", **split))
    network, iterations = train(options.arm, scans, options.cpu_seconds, options.strength, options.start_from)
    with atomic_path(options.out / f"{options.arm}_fold{options.fold}{options.tag}.pt") as path:
        torch.save(network.state_dict(), path)
    cases = {scan["patient"]: dice(segment(network, options.arm, scan["image"]), scan["label"]) for scan in held_out}
    shifted: dict[str, Any] = {}
    for name, shift in SHIFTS.items():
        image, label = shift(held_out[0]["image"].as_subclass(torch.Tensor), held_out[0]["label"])
        shifted[name] = dice(segment(network, options.arm, image), label)
    settings = ARMS[options.arm]
    return {
        "arm": options.arm,
        "settings": asdict(settings),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "fold": options.fold,
        "folds": options.folds,
        "cpu_seconds": options.cpu_seconds,
        "augmentation": options.strength,
        "iterations": iterations,
        "trained_on": [scan["patient"] for scan in scans],
        "dice": cases,
        "shifted": {"patient": held_out[0]["patient"], "dice": shifted},
    }


def run_final(options: argparse.Namespace) -> dict[str, Any]:
    """Train on everything and keep the averaged weights in half precision."""
    scans = prepared(items(options.data, "all"))
    network, iterations = train(FINAL, scans, options.cpu_seconds, options.strength, options.start_from)
    state = half_precision(network.state_dict())
    before = [dice(segment(network, FINAL, scan["image"]), scan["label"]) for scan in scans[:3]]
    network.load_state_dict(state)
    after = [dice(segment(network, FINAL, scan["image"]), scan["label"]) for scan in scans[:3]]
    with atomic_path(options.out / "model.pt") as path:
        torch.save(state, path)
    return {
        "settings": asdict(ARMS[FINAL]),
        "cpu_seconds": options.cpu_seconds,
        "iterations": iterations,
        "trained_on": [scan["patient"] for scan in scans],
        "half_precision_changes_dice_by": float(np.abs(np.subtract(before, after)).max()),
        "fits_training_data_dice": float(np.mean(after)),
    }


def borders(scan: dict[str, Any], levels: np.ndarray) -> np.ndarray:
    """Mean Dice (n, n) of labelling by two thresholds, for every pair of ``levels``; -1 where they are not in order."""
    label = scan["label"].as_subclass(torch.Tensor).numpy()
    image = scan["image"].as_subclass(torch.Tensor).numpy().clip(levels[0], levels[-1] - 1e-6)
    counts = [np.histogram(image[label == tissue], levels)[0] for tissue in (1, 2, 3)]
    below = np.stack([np.concatenate([[0], np.cumsum(count)]) for count in counts])  # (3, n)
    total, all_below = below[:, -1], below.sum(0)
    low, high = below[:, :, None], below[:, None, :]
    found = np.stack([low[0] + 0 * high[0], high[1] - low[1], total[2] - high[2] + 0 * low[2]])
    given = np.stack(np.broadcast_arrays(all_below[:, None], all_below - all_below[:, None], total.sum() - all_below))
    scores = (2 * found / np.maximum(given + total[:, None, None], 1)).mean(0)
    return np.where(levels[:, None] < levels[None], scores, -1)


def run_borders(options: argparse.Namespace) -> dict[str, Any]:
    """Label by two thresholds alone, those that suit the other folds best: what the normalisation does by itself."""
    levels = np.linspace(0, 1.8, 181)
    cases = {}
    for fold in range(options.folds):
        split = {"fold": fold, "folds": options.folds, "seed": SEED}
        known = sum(borders(scan, levels) for scan in prepared(items(options.data, "training", **split)))
        best = np.unravel_index(np.argmax(known), (len(levels),) * 2)
        for scan in prepared(items(options.data, "validation", **split)):
            cases[scan["patient"]] = float(borders(scan, levels)[best])
    scores = np.array(list(cases.values()))
    return {"mean_dice": cases, "mean": float(scores.mean()), "interval": interval(scores)}


def run_distances(options: argparse.Namespace) -> dict[str, Any]:
    """Dice, 95th percentile of the surface distance and volume difference of the networks that the folds have left."""
    cases: dict[str, dict[str, list[float]]] = {}  # means over the tissues, by arm and patient
    for arm in ARMS:
        for path in sorted(options.out.glob(f"{arm}_fold?.pt")):
            split = {"fold": int(path.stem[-1]), "folds": options.folds, "seed": SEED}
            network = make_network(arm, path).eval()
            for scan in prepared(items(options.data, "validation", **split)):
                answer, spacing = segment(network, arm, scan["image"]), scan["label"].pixdim.tolist()
                rows = case_metrics(answer, scan["label"], spacing, dict(enumerate(TISSUES, 1)))
                means = [float(np.mean([row[name] for row in rows])) for name in MEASURES]
                cases.setdefault(arm, {})[scan["patient"]] = means
    tables = {arm: np.array(list(own.values())) for arm, own in cases.items()}
    differences = {f"{FINAL} - {arm}": tables[FINAL] - table for arm, table in tables.items() if arm != FINAL}
    return {"cases": cases} | {
        arm: {name: estimate(table[:, column]) for column, name in enumerate(MEASURES)}
        for arm, table in (tables | differences).items()
    }


def interval(cases: np.ndarray, resamples: int = 10000) -> list[float]:
    """Percentile bootstrap 95% interval of the mean, resampled by subject."""
    return [round(value, 4) for value in estimate(cases, resamples)["interval"]]


def summarise(folder: Path) -> dict[str, Any]:
    """Means and intervals of each arm over the folds that are there."""
    summary: dict[str, Any] = {}
    for arm in ARMS:
        results = results_of(folder, arm)
        if not results:
            continue
        table = np.array([scores for result in results for scores in result["dice"].values()])
        columns = {name: table[:, index] for index, name in enumerate(TISSUES)} | {"mean": table.mean(1)}
        folds = {}
        for result in results:
            scores = np.array(list(result["dice"].values()))
            folds[result["fold"]] = {
                **{name: round(float(scores[:, index].mean()), 4) for index, name in enumerate(TISSUES)},
                "mean": round(float(scores.mean()), 4),
                "interval": interval(scores.mean(1)),
                "iterations": result["iterations"],
            }
        summary[arm] = {
            "settings": results[0]["settings"],
            "cpu_seconds": results[0]["cpu_seconds"],
            "subjects": len(table),
            "dice": {name: [round(float(v.mean()), 4), *interval(v)] for name, v in columns.items()},
            "worst_subject": round(float(table.mean(1).min()), 4),
            "folds": folds,
            "shifted": {
                name: round(float(np.mean([result["shifted"]["dice"][name] for result in results])), 4)
                for name in results[0]["shifted"]["dice"]
            },
        }
    return summary


def main() -> None:
    """Run one arm and write its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="manifest of skull-stripped T1 scans with tissue maps")
    parser.add_argument("--out", type=Path, required=True, help="folder for figures and weights")
    parser.add_argument("--arm", choices=[*ARMS, "borders", "distances", "final", "summary"], default="voxresnet")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--cpu-seconds", type=float, default=900.0)
    parser.add_argument("--strength", type=float, default=1.0, help="strength of the augmentation, 0 to 1")
    parser.add_argument("--learning-rate", type=float, help="instead of the arm's own")
    parser.add_argument("--start-from", type=Path, help="weights of an earlier run to go on from")
    parser.add_argument("--tag", default="", help="suffix of the file's name")
    options = parser.parse_args()
    if options.learning_rate:
        arm = options.arm if options.arm in ARMS else FINAL
        ARMS[arm] = replace(ARMS[arm], learning_rate=options.learning_rate)
    torch.set_num_threads(1)
    if options.arm == "summary":
        name, result = "summary", summarise(options.out)
    elif options.arm == "borders":
        name, result = "borders", run_borders(options)
    elif options.arm == "distances":
        name, result = "distances", run_distances(options)
    elif options.arm == "final":
        name, result = "final", run_final(options)
    else:
        name, result = f"{options.arm}_fold{options.fold}{options.tag}", run_fold(options)
    atomic_write_text(options.out / f"{name}.json", json.dumps(result, indent=1))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
