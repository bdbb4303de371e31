"""Dice of the cells in HEp-2 specimen pictures in cross-validation: ``hep2_dsfcn``, MONAI's UNet and Otsu's threshold.

    python benchmarks/hep2_specimen.py --data hep2_specimen/manifest.json --out results --arm dsfcn --fold 0
    python benchmarks/hep2_specimen.py --data hep2_specimen/manifest.json --out results --arm unet --fold 0
    python benchmarks/hep2_specimen.py --data hep2_specimen/manifest.json --out results --arm otsu --fold 0
    python benchmarks/hep2_specimen.py --out results --arm summary

All networks see the same windows with the bundle's preprocessing and augmentation, the same optimiser and schedule
(AdamW, warm-up, cosine, by the processor time of one thread), and the average of their weights answers. Settings were
fixed before any result was seen. ``transposed`` is the bundle's network with transposed convolutions of as many
parameters and no side outputs. ``otsu`` smooths, takes away a smoothed background or not, and cuts at Otsu's threshold
of two or three classes; widths and classes are chosen on the training folds.

Pictures that look the same, also mirrored or turned by half, are in one fold. Left out, before anything is trained, are
pictures whose mask is one value everywhere, pictures in which less than ``LIT`` of the pixels is lit at all (there the
source's own changes of brightness have left nothing to see), and pictures with whose light the mask correlates by less
than ``CORRELATION``: the source has shifted or turned them without their masks. This last rule, unlike the settings,
was made after a first training on the pictures that it leaves out. Intervals are 95% percentile bootstrap intervals
over pictures. A fold that has left its file is not run again.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from by_fold import SEED, dice, estimate, results_of, run_by_fold
from monai.networks.nets import UNet
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.filters import threshold_multiotsu
from table import SPECIMENS
from timed_training import TimedTraining
from torch import nn

from medresnet3d.data import SeededDataset, items
from medresnet3d.data.likeness import near_duplicate_groups, picture_signs
from medresnet3d.engines.precision import Precision
from medresnet3d.io.atomic import atomic_path
from medresnet3d.losses import build_loss
from medresnet3d.metrics.segmentation import pixel_figures
from medresnet3d.networks.dsfcn import DSFCN
from medresnet3d.transforms.specimen import specimen_training, specimen_validation

LIT = 0.01  # least share of pixels above 5 of 255
CORRELATION = 0.4  # between light and mask; of these pictures it is at most 0.2 or at least 0.7
WINDOW, BATCH, RATE = 192, 4, 2e-3
OUTPUT_WEIGHTS = (1.0, 0.5, 0.25, 0.25)
SMOOTHING = (0.0, 1.0, 2.0, 4.0)  # Otsu, pixels
BACKGROUND = (0.0, 15.0, 30.0, 60.0)  # Otsu, pixels; 0 takes nothing away
CLASSES = (2, 3)  # Otsu; of three the brightest are the cells, and a black border may be one of the others
Item = dict[str, Any]


def usable(data: Path, out: Path) -> list[Item]:
    """Items of all pictures that have a mask and a signal, with label maps of 0 and 1, and the group of each."""
    found: list[Item] = []
    signs: list[NDArray[np.uint8]] = []
    for item in items(data, "training", validation_fraction=0.0):
        with Image.open(item["image"]) as picture, Image.open(item["mask"]) as mask:
            light = np.asarray(picture.convert("RGB")).max(2)
            cells = np.asarray(mask.convert("L")) > 127
            if cells.all() or not cells.any() or (light > 5).mean() < LIT:
                continue
            if np.corrcoef(light.ravel(), cells.ravel())[0, 1] < CORRELATION:
                continue
            views = [None, Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.ROTATE_180]
            signs += [picture_signs(picture if view is None else picture.transpose(view)) for view in views]
        label = out / "labels" / f"{item['case']}.png"
        label.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(label) as temporary:
            Image.fromarray(cells.astype(np.uint8)).save(temporary, format="PNG")
        found.append({"image": item["image"], "label": str(label), "case": item["case"]})
    alike = np.array(near_duplicate_groups(np.stack(signs))).reshape(len(found), -1)
    for number, item in enumerate(found):  # the least group of any picture that shares one with this
        shared = np.isin(alike, alike[number]).any(1)
        item["group"] = int(alike[shared].min())
    return found


def split(found: list[Item], fold: int, folds: int) -> tuple[list[Item], list[Item]]:
    """Items to learn from and to measure on; groups are dealt out at random, each to one fold."""
    groups = np.random.default_rng(SEED).permutation(sorted({item["group"] for item in found}))
    place = {int(group): number % folds for number, group in enumerate(groups)}
    held = [item for item in found if place[item["group"]] == fold]
    return [item for item in found if place[item["group"]] != fold], held


def make_network(arm: str) -> nn.Module:
    """The bundle's default, the same without its two special parts, or a UNet with residual units."""
    torch.manual_seed(SEED)
    if arm == "unet":
        return UNet(2, 1, 2, (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=2, norm="batch")
    return DSFCN("resnet18", 2, 1, 2, size="slim", dense=arm == "dsfcn")


def train(arm: str, known: list[Item], seconds: float) -> tuple[nn.Module, int]:
    """Train for ``seconds`` of processor time and give the averaged network."""
    data = SeededDataset(known, specimen_training(WINDOW), cache="memory", seed=SEED, repeats=10_000 // len(known))
    order = np.random.default_rng(SEED)
    training = TimedTraining(make_network(arm), RATE, seconds)
    weights = OUTPUT_WEIGHTS if arm == "dsfcn" else (1.0,)
    loss_function = build_loss("dice_ce", include_background=False, batch=True, output_weights=weights)
    precision, device = Precision("auto"), torch.device("cpu")
    for number in range(len(known)):
        data[number]  # read once, before the time counts
    for _ in training.progress():
        batch = [data[int(number)] for number in order.integers(len(data), size=BATCH)]
        image, label = (torch.stack([torch.as_tensor(item[key]) for item in batch]) for key in ("image", "label"))
        with precision.active(device):
            outputs = training.network(image)
            outputs = [output.float() for output in (outputs if isinstance(outputs, list) else [outputs])]
            training.descend(loss_function(outputs[: len(weights)], label))
    return training.average.eval(), training.iteration


def prepared(found: list[Item]) -> list[tuple[torch.Tensor, NDArray[np.bool_]]]:
    """Whole pictures (1, i, j) as the networks see them, and their cells (i, j)."""
    chain = specimen_validation()
    loaded = [chain(dict(item)) for item in found]
    return [(item["image"].as_tensor(), item["label"].numpy()[0] > 0) for item in loaded]


def network_answers(network: nn.Module, unseen: list[Item]) -> list[NDArray[np.bool_]]:
    """Whole pictures answered in one pass, padded to the coarsest grid."""
    answers = []
    with torch.inference_mode(), Precision("auto").active(torch.device("cpu")):
        for image, truth in prepared(unseen):
            padding = [n for size in reversed(image.shape[1:]) for n in (0, -size % 16)]
            logits = network(nn.functional.pad(image, padding)[None]).float()[0]
            answers.append((logits[1] > logits[0]).numpy()[: truth.shape[0], : truth.shape[1]])
    return answers


def otsu_answer(image: NDArray[np.float32], sigma: float, background: float, classes: int) -> NDArray[np.bool_]:
    """What is brighter than Otsu's last threshold after smoothing, and after the background is taken away."""
    smooth = ndimage.gaussian_filter(image, sigma) if sigma else image
    if background:
        smooth = smooth - ndimage.gaussian_filter(image, background)
    return np.asarray(smooth > threshold_multiotsu(smooth, classes, nbins=64)[-1])


def otsu_answers(known: list[Item], unseen: list[Item]) -> tuple[list[NDArray[np.bool_]], dict[str, float]]:
    """Answers with the smoothing, background and classes that suit the known pictures best."""
    seen = [(image[0].numpy(), cells) for image, cells in prepared(known)]

    def score(choice: tuple[float, float, int]) -> float:
        return float(np.mean([dice(otsu_answer(image, *choice), cells) for image, cells in seen]))

    sigma, background, classes = max(product(SMOOTHING, BACKGROUND, CLASSES), key=score)
    answers = [otsu_answer(image[0].numpy(), sigma, background, classes) for image, _ in prepared(unseen)]
    return answers, {"sigma": sigma, "background": background, "classes": classes}


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Learn from all folds but one and measure on that one."""
    found = usable(options.data, options.out)
    known, unseen = split(found, options.fold, options.folds)
    about: dict[str, Any] = {"pictures": len(found), "groups": len({item["group"] for item in found})}
    if options.arm == "otsu":
        answers, about["settings"] = otsu_answers(known, unseen)
    else:
        network, about["iterations"] = train(options.arm, known, options.cpu_seconds)
        about["parameters"] = sum(parameter.numel() for parameter in network.parameters())
        about["cpu_seconds"] = options.cpu_seconds
        answers = network_answers(network, unseen)
    truths = [cells for _, cells in prepared(unseen)]
    cases = [
        {"case": item["case"], "dice": dice(answer, cells), **pixel_figures(answer, cells)}
        for item, answer, cells in zip(unseen, answers, truths, strict=True)
    ]
    return {**about, "cases": cases}


def summarise(folder: Path) -> dict[str, Any]:
    """Mean Dice over all pictures of each arm with its other figures, and the differences picture by picture."""
    cases: dict[str, dict[str, dict[str, float]]] = {}
    for arm in SPECIMENS:
        files = results_of(folder, arm)
        if files:
            cases[arm] = {case.pop("case"): case for file in files for case in file["cases"]}
    values = {arm: np.array([rows[case]["dice"] for case in sorted(rows)]) for arm, rows in cases.items()}
    summary: dict[str, Any] = {}
    for arm, rows in cases.items():
        names = next(iter(rows.values()))
        means = {name: float(np.mean([row[name] for row in rows.values()])) for name in names}
        summary[arm] = {"pictures": len(rows), **estimate(values[arm]), "figures": means}
    ours = next(iter(SPECIMENS))
    for arm in values.keys() - {ours}:
        summary[f"{ours} - {arm}"] = estimate(values[ours] - values[arm])
    return summary


def main() -> None:
    run_by_fold(
        __doc__,
        "hep2_specimen",
        SPECIMENS,
        run=run,
        summarise=summarise,
        scores=lambda found: [case["dice"] for case in found["cases"]],
        data="segmentation set",
        cpu_seconds=60.0,
    )


if __name__ == "__main__":
    main()
