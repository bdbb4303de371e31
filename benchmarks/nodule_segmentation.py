"""Dice of nodules on real CT cubes in cross-validation: VoxResNet and MONAI's UNet at equal CPU time, and a threshold.

    python benchmarks/nodule_segmentation.py --data lung_nodule_ct/manifest.json --out results --arm voxresnet --fold 0
    python benchmarks/nodule_segmentation.py --data lung_nodule_ct/manifest.json --out results --arm unet --fold 0
    python benchmarks/nodule_segmentation.py --data lung_nodule_ct/manifest.json --out results --arm threshold --fold 0
    python benchmarks/nodule_segmentation.py --out results --arm summary

Both networks see the same cubes with the same augmentation, loss, optimiser and schedule (AdamW, warm-up, cosine, by
the processor time of one thread), and the average of their weights answers. Each cube has its nodule at the middle, so
every arm answers with the connected piece there. ``threshold`` is that of what is brighter than a value after
smoothing, within a ball; value, smoothing and radius are chosen on the training folds. Intervals are 95% percentile
bootstrap intervals over cubes. A fold that has left its file is not run again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from by_fold import SEED, dice, estimate, results_of, run_by_fold
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from monai.transforms import MapTransform, RandAffined, RandFlipd, RandRotate90d, RandScaleIntensityd
from numpy.typing import NDArray
from scipy import ndimage
from table import NODULE_MASKS
from timed_training import TimedTraining
from torch import nn

from medresnet3d.data import items
from medresnet3d.engines.precision import Precision
from medresnet3d.io import load
from medresnet3d.losses.deep_supervision import FadingDeepSupervisionLoss
from medresnet3d.networks.voxresnet import VoxResNet, build_voxresnet
from medresnet3d.transforms.batched import BatchedAugmentation

PATCH = 32  # voxels along each edge of what is trained on
SHIFT = 8  # voxels by which it is moved off the middle at most: to the borders of a cube of 48
BATCH = 4
RATE = 3e-3  # largest learning rate, of both
AUXILIARY = (0.1, 200)  # weight of VoxResNet's auxiliary losses, and the steps over which it fades
FREEZE_NORM_AFTER = 0.15  # of the time, in VoxResNet
SMOOTHING = (0.0, 1.0)  # of the threshold, voxels
RADII = (6, 9, 12, 16)  # of the ball around the middle that its answer lies in, voxels
Batch = tuple[torch.Tensor, torch.Tensor]
Cube = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def make_network(arm: str) -> nn.Module:
    """VoxResNet as the default of ``brain_tissue_voxresnet``, or a UNet with residual units, for two classes."""
    torch.manual_seed(SEED)
    if arm == "unet":
        return UNet(3, 1, 2, (16, 32, 64, 128), (2, 2, 2), num_res_units=2, norm="batch")
    return build_voxresnet(3, 1, 2, width=16, norm=("batch", {"momentum": 0.03}), identity_share=0.5)


def cubes(manifest: Path, section: str, fold: int, folds: int) -> list[Cube]:
    """Images and masks (i, j, k) of one side of a fold."""
    listed = items(manifest, section, fold=fold, folds=folds, seed=SEED)
    return [
        (load(item["image"]).array, (load(item["mask"], constant_ok=True).array > 0).astype(np.uint8))
        for item in listed
    ]


def scaled(image: NDArray[np.uint8]) -> torch.Tensor:
    """An image (i, j, k) of bytes as (1, i, j, k) with values 0 to 1."""
    return torch.from_numpy(image.astype(np.float32) / 255)[None]


def augmentation() -> BatchedAugmentation:
    """Flips, turns by right angles, small turns and scaling of image and label, and a factor on the image."""
    keys = ("image", "label")
    chain: list[MapTransform] = [RandFlipd(keys, 0.5, axis) for axis in range(3)]
    chain += [RandRotate90d(keys, 0.5, 3, plane) for plane in ((0, 1), (0, 2), (1, 2))]
    modes = {"mode": ("bilinear", "nearest"), "padding_mode": ("border", "zeros")}
    chain.append(RandAffined(keys, prob=0.3, rotate_range=(0.2,) * 3, scale_range=(0.1,) * 3, **modes))
    return BatchedAugmentation([*chain, RandScaleIntensityd("image", 0.1, prob=0.5)]).set_random_state(SEED)


def batches(known: list[Cube]) -> Iterator[Batch]:
    """Endless augmented batches of images and labels, each (B, 1, n, n, n)."""
    rng, augment = np.random.default_rng(SEED), augmentation()
    pairs = [(scaled(image), torch.from_numpy(mask.astype(np.float32))[None]) for image, mask in known]
    while True:
        images, labels = [], []
        for index in rng.integers(len(pairs), size=BATCH):
            image, label = pairs[index]
            starts = [(size - PATCH) // 2 + int(rng.integers(-SHIFT, SHIFT + 1)) for size in image.shape[1:]]
            cut = (slice(None), *(slice(start, start + PATCH) for start in starts))
            images.append(image[cut])
            labels.append(label[cut])
        batch = augment({"image": torch.stack(images), "label": torch.stack(labels)})
        yield batch["image"], batch["label"]


def train(arm: str, known: list[Cube], seconds: float) -> tuple[nn.Module, int]:
    """Train for ``seconds`` of processor time and give the averaged network."""
    training = TimedTraining(make_network(arm), RATE, seconds)
    network = training.network
    weight, steps = AUXILIARY
    loss_function = FadingDeepSupervisionLoss(
        DiceCELoss(softmax=True, to_onehot_y=True, include_background=False, batch=True), steps, weight
    ).train()
    precision, device, source = Precision("auto"), torch.device("cpu"), batches(known)
    for progress in training.progress():
        if isinstance(network, VoxResNet) and progress > FREEZE_NORM_AFTER and not network.norm_frozen:
            network.freeze_norm()
        image, label = next(source)
        with precision.active(device):
            outputs = network(image)
            outputs = [output.float() for output in (outputs if isinstance(outputs, list) else [outputs])]
            training.descend(loss_function(outputs, label))
    return training.average.eval(), training.iteration


def middle_piece(bright: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The connected piece that is nearest to the middle of a mask (i, j, k)."""
    pieces, count = ndimage.label(bright)
    if not count:
        return bright
    nearest = np.argmin(np.where(pieces > 0, from_middle(bright.shape), np.inf))
    return pieces == pieces.ravel()[nearest]


@cache
def from_middle(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Distance of each voxel from the middle of a volume, in voxels."""
    axes = [np.arange(size) - (size - 1) / 2 for size in shape]
    return np.sqrt(sum(offset**2 for offset in np.meshgrid(*axes, indexing="ij")))


def threshold_scores(known: list[Cube], unseen: list[Cube]) -> tuple[list[float], dict[str, float]]:
    """Dice of the piece at the middle, with the value, smoothing and ball that suit the known cubes best."""

    def score(cube: Cube, sigma: float, value: float, radius: float) -> float:
        smooth = ndimage.gaussian_filter(cube[0].astype(np.float32), sigma) if sigma else cube[0]
        return dice(middle_piece((smooth > value) & (from_middle(smooth.shape) < radius)), cube[1])

    choices = list(product(SMOOTHING, range(10, 210, 20), RADII))
    means = [np.mean([score(cube, *choice) for cube in known[::4]]) for choice in choices]
    sigma, value, radius = choices[int(np.argmax(means))]
    return [score(cube, sigma, value, radius) for cube in unseen], {"sigma": sigma, "value": value, "radius": radius}


def network_scores(network: nn.Module, unseen: list[Cube]) -> list[float]:
    """Dice of the piece at the middle of a network's answer on whole cubes."""
    scores = []
    with torch.inference_mode(), Precision("auto").active(torch.device("cpu")):
        for image, mask in unseen:
            logits = network(scaled(image)[None]).float()
            scores.append(dice(middle_piece((logits[0, 1] > logits[0, 0]).numpy()), mask))
    return scores


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Learn from all folds but one and measure on that one."""
    known, unseen = (
        cubes(options.data, section, options.fold, options.folds) for section in ("training", "validation")
    )
    if options.arm == "threshold":
        scores, settings = threshold_scores(known, unseen)
        return {"dice": scores, "settings": settings}
    network, iterations = train(options.arm, known, options.cpu_seconds)
    count = sum(parameter.numel() for parameter in network.parameters())
    return {
        "dice": network_scores(network, unseen),
        "cpu_seconds": options.cpu_seconds,
        "iterations": iterations,
        "parameters": count,
    }


def summarise(folder: Path) -> dict[str, Any]:
    """Mean Dice over all cubes of each arm, and of the differences cube by cube."""
    scores: dict[str, NDArray[np.float64]] = {}
    for arm in NODULE_MASKS:
        found = results_of(folder, arm)
        if found:
            scores[arm] = np.array([value for fold in found for value in fold["dice"]])
    summary = {arm: {"cubes": len(values), **estimate(values)} for arm, values in scores.items()}
    for arm in list(scores)[1:]:
        summary[f"voxresnet - {arm}"] = estimate(scores["voxresnet"] - scores[arm])
    return summary


def main() -> None:
    run_by_fold(
        __doc__,
        "nodule_segmentation",
        NODULE_MASKS,
        run=run,
        summarise=summarise,
        scores=lambda found: found["dice"],
        data="classification set with masks",
        cpu_seconds=75.0,
    )


if __name__ == "__main__":
    main()
