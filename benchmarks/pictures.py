"""Pictures with a class (skin lesions, blood cells, fundus photographs): a bundle, a plain ResNet-18 and a forest.

    python benchmarks/pictures.py prepare --data DATA --output results --set dermoscopy
    python benchmarks/pictures.py ours --output results --set dermoscopy --fold 0
    python benchmarks/pictures.py plain --output results --set dermoscopy --fold 0
    python benchmarks/pictures.py forest --output results --set dermoscopy --fold 0
    python benchmarks/pictures.py final --output results --set dermoscopy
    python benchmarks/pictures.py summary --output results

``--device cuda`` for ours, plain and final; the tables say where they ran.

``DATA`` holds a folder with a ``manifest.json`` for each set: ``dermoscopy`` (HAM10000), ``blood_cells`` (PBC) and
``fundus`` (IDRiD). Folds are by patient or lesion; where there is none, by picture, and pictures that are equal pixel
by pixel stay together.

``ours`` does what ``medresnet3d train BUNDLE`` and ``medresnet3d evaluate`` do, with the bundle's own settings and
those of :data:`SETS`. ``plain`` is MONAI's ResNet-18 of a quarter of the width: AdamW at 0.002 in one cycle, classes
drawn evenly, turns, scaling and changes of colour, answers averaged over four flips; it is trained for the time that
``ours`` of the same fold took: seconds of the processor, or by the clock on a GPU. ``forest`` sees histograms of the
colours; ``without`` is the bundle without what is special about it. ``final`` trains the weights that ship, on all
pictures. Where the manifest tells age, sex and place, the table also says how each arm does when these count as they
do in the bundle; the arms above are of the picture alone. A part that has left its file is not run again.
``--holdout`` trains on three quarters of the training pictures of the first fold and measures on the rest: how
settings were chosen, before any fold was answered.

Intervals are 95% percentile bootstrap intervals over patients of the figure on all answered folds together.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.networks.nets import resnet18
from picture_figures import Array, over_all, summarise
from sklearn.ensemble import RandomForestClassifier
from table import pictures_table
from timed_training import half_precision
from torch import nn

from medresnet3d.bundle.load import load_config, load_network, parse_overrides
from medresnet3d.data import SeededDataset, data_loader, items
from medresnet3d.data.balanced import BalancedSampler
from medresnet3d.data.splits import assign_folds
from medresnet3d.io import load
from medresnet3d.io.atomic import atomic_path, atomic_write_text
from medresnet3d.transforms.batched import AugmentedBatch
from medresnet3d.transforms.picture_pipelines import picture_inference, picture_training
from medresnet3d.workflows.evaluate import evaluate
from medresnet3d.workflows.train import train

FOLDS, HOLDOUT = 5, 4
FLIPS = ((), (2,), (3,), (2, 3))
WIDTH = 0.25
BINS = 8


@dataclass(frozen=True)
class Pictures:
    """A set of pictures.

    Args:
        bundle: what learns it.
        size: pixels along each side for the plain network.
        epochs: of the bundle, in a fold.
        final_epochs: of what ships.
        recipe: what differs from the bundle's own settings.
        clinical: what the manifest tells beside the pictures that may count.
        without: values that leave out what is special about the bundle.
    """

    bundle: str
    size: int
    epochs: int
    final_epochs: int
    recipe: Mapping[str, Any] = field(default_factory=dict)
    clinical: tuple[str, ...] = ()
    without: Mapping[str, Any] = field(default_factory=dict)


SETS = {
    "dermoscopy": Pictures(
        "skin_lesion_ensemble", 128, 110, 110, clinical=("age", "sex", "site"), without={"described": 0}
    ),
    "blood_cells": Pictures(
        "leukocyte_hierarchical_resnet",
        128,
        200,
        200,
        {"raised": 0.0, "noise": 0.0, "validation_fraction": 0.04},
        without={"described": 0},
    ),
    "fundus": Pictures(
        "retinopathy_screening_resnet",
        224,
        300,
        300,
        {
            "validation_fraction": 0.04,
            "image_size": 224,
            "augmentation": "strong",
            "augmentation_mode": "batched",
            "jitter": 0.2,
            "balance": 1.0,
            "batch_size": 32,
            "weight_decay": 0.05,
            "loss": {"label_smoothing": 0.1},
            "precision": "auto",
            "train::trainer::average_weights": 0.99,
        },
        without={"lesions": 0},
    ),
}


def prepare(options: argparse.Namespace) -> None:
    """Write a manifest for each fold, one for the holdout and one with all pictures."""
    folder = options.data / options.set
    content = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    entries = content["training"]
    labels = sorted({str(entry["label"]) for entry in entries})
    for entry in entries:
        path = (folder / entry["image"]).resolve()
        pixels = load(path, constant_ok=True).array
        entry.update(image=str(path), label=str(entry["label"]))
        entry["patient"] = entry.get("patient") or hashlib.sha256(pixels.tobytes()).hexdigest()[:16]
    content = {key: content[key] for key in ("name", "task", "modality", "source", "licence") if key in content}
    content["labels"] = {str(number): name for number, name in enumerate(labels)}

    def write(name: str, training: list[dict[str, Any]], test: list[dict[str, Any]]) -> None:
        parts = {"training": training} | ({"test": test} if test else {})
        text = json.dumps(content | parts, indent=1) + "\n"
        atomic_write_text(options.output / "data" / options.set / f"{name}.json", text)

    write("all", entries, [])
    parts = [split(entries, labels, fold, FOLDS) for fold in range(FOLDS)]
    for fold, (training, test) in enumerate(parts):
        write(f"fold{fold}", training, test)
    write("holdout", *split(parts[0][0], labels, 0, HOLDOUT))


def split(
    entries: list[dict[str, Any]], labels: list[str], fold: int, folds: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What a fold trains on and is measured on."""
    classes = [labels.index(entry["label"]) for entry in entries]
    numbers = assign_folds([entry["patient"] for entry in entries], folds, classes=classes)
    pairs = list(zip(entries, numbers, strict=True))
    return [entry for entry, number in pairs if number != fold], [entry for entry, number in pairs if number == fold]


def run_ours(options: argparse.Namespace) -> dict[str, Any]:
    """Train the bundle on the other folds and answer this one."""
    run = options.output / options.set / f"{'without' if options.part == 'without' else 'run'}_{options.name}"
    seconds = trained(options, run, SETS[options.set].epochs)
    alone = {"clinical": None} if SETS[options.set].clinical else {}
    evaluate(run, options.manifest, run / "test", device=options.device, set=alone)
    with (run / "test" / "cases.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    names = json.loads(options.manifest.read_text(encoding="utf-8"))["labels"].values()
    listed = items(options.manifest, "test")
    scores = [[float(rows[item["case"]][f"probability_{name}"]) for name in names] for item in listed]
    return answers(options, scores) | {"seconds": seconds}


def trained(options: argparse.Namespace, run: Path, epochs: int) -> float:
    """Train, or go on with what Ctrl-C left; give the seconds of all parts."""
    taken = run.with_name(f"{run.name}_seconds.json")
    before = json.loads(taken.read_text()) if taken.exists() else 0.0
    if not (run / "bundle").is_dir():
        resume = (run / "checkpoints" / "last.pt").is_file()
        if not resume:
            shutil.rmtree(run, ignore_errors=True)
        begin = options.clock()
        values = settings(options, epochs)
        try:
            train(SETS[options.set].bundle, options.manifest, run, device=options.device, set=values, resume=resume)
        finally:
            atomic_write_text(taken, json.dumps(before + options.clock() - begin))
    return float(json.loads(taken.read_text()))


def settings(options: argparse.Namespace, epochs: int) -> dict[str, Any]:
    """The bundle's values of this run; what ``--values`` says comes last."""
    own = {"max_epochs": epochs, "validation_fraction": 0.1, "seed": options.seed}
    less = SETS[options.set].without if options.part == "without" else {}
    chosen = own | dict(SETS[options.set].recipe) | dict(less) | parse_overrides(options.values)
    return chosen | {"val_interval": chosen["max_epochs"]}


def answers(options: argparse.Namespace, scores: Any) -> dict[str, Any]:
    """What an arm says of each case of a fold, with the truth and the patient."""
    listed = items(options.manifest, "test")
    return {
        "score": np.asarray(scores, dtype=float).round(6).tolist(),
        "label": [int(item["label"]) for item in listed],
        "patient": [item["patient"] for item in listed],
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
    }


def run_plain(options: argparse.Namespace) -> dict[str, Any]:
    """Train a plain ResNet-18 on the budget of ``ours``, and answer the fold."""
    chosen = SETS[options.set]
    preprocessing = picture_training(chosen.size, "strong", "batched", jitter=0.2)
    data = SeededDataset(items(options.manifest, "training", validation_fraction=0.0), preprocessing, seed=options.seed)
    loader = data_loader(data, batch_size=32, drop_last=True, sampler=BalancedSampler(data, 1.0, seed=options.seed))
    augmented = AugmentedBatch(preprocessing)
    torch.manual_seed(options.seed)
    classes = len(json.loads(options.manifest.read_text(encoding="utf-8"))["labels"])
    network = resnet18(
        spatial_dims=2, n_input_channels=3, num_classes=classes, widen_factor=WIDTH, conv1_t_stride=2
    ).to(options.device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    seconds = options.seconds or json.loads(options.result("ours").read_text())["seconds"]
    begin, epochs, share = options.clock(), 0, 0.0
    while share < 1:
        epochs += 1
        loader.set_epoch(epochs)
        for batch in loader:
            share = (options.clock() - begin) / seconds
            if share >= 1:
                break
            optimizer.param_groups[0]["lr"] = 2e-3 * one_cycle(share)
            images, labels = augmented(batch, options.device)
            with torch.autocast(options.device, torch.bfloat16):
                logits = network(images)
            optimizer.zero_grad()
            nn.functional.cross_entropy(logits.float(), labels).backward()
            optimizer.step()
    found = {"seconds": options.clock() - begin, "epochs": epochs}
    return answers(options, flipped(network, options, chosen.size)) | found


def one_cycle(share: float) -> float:
    """The share of the largest learning rate: up for three tenths of the time, and down along a cosine."""
    return max(share / 0.3, 0.04) if share < 0.3 else 0.5 * (1 + np.cos(np.pi * (share - 0.3) / 0.7))


def flipped(network: nn.Module, options: argparse.Namespace, size: int) -> Array:
    """Probabilities (n, K) of the fold's pictures, each seen in four mirror images."""
    network.eval()
    transform = picture_inference(size)
    found = []
    with torch.inference_mode():
        for item in items(options.manifest, "test"):
            image = transform(item)["image"].as_tensor()[None].to(options.device)
            logits = [network(image.flip(axes) if axes else image) for axes in FLIPS]
            found.append(torch.cat(logits).softmax(1).mean(0).double().cpu().numpy())
    return np.stack(found)


def histograms(path: str) -> list[float]:
    """Shares of the pixels by red, green and blue each, by hue and saturation, and means and deviations."""
    from skimage.color import rgb2hsv

    rgb = load(path, constant_ok=True).array.reshape(-1, 3).astype(float) / 255  # (i, j, 1, 3)
    hsv = rgb2hsv(rgb)
    single = [np.histogram(values, BINS, (0, 1))[0] / len(rgb) for values in (*rgb.T, *hsv.T)]
    joint = np.histogram2d(hsv[:, 0], hsv[:, 1], BINS, ((0, 1), (0, 1)))[0].ravel() / len(rgb)
    return [*np.concatenate(single), *joint, *rgb.mean(0), *rgb.std(0)]


def run_forest(options: argparse.Namespace) -> dict[str, Any]:
    """Fit a forest to histograms of the colours and answer the fold."""
    begin = time.process_time()
    parts = {name: items(options.manifest, name, validation_fraction=0.0) for name in ("training", "test")}
    table = {name: np.array([histograms(item["image"]) for item in listed]) for name, listed in parts.items()}
    labels = [int(item["label"]) for item in parts["training"]]
    forest = RandomForestClassifier(500, class_weight="balanced", random_state=options.seed)
    forest.fit(table["training"], labels)
    scores = np.zeros((len(parts["test"]), max(labels) + 1))
    scores[:, forest.classes_] = forest.predict_proba(table["test"])
    return answers(options, scores) | {"seconds": time.process_time() - begin}


def run_final(options: argparse.Namespace) -> dict[str, Any]:
    """Train what ships, on all pictures, and write it in half precision."""
    run = options.output / options.set / "final"
    seconds = trained(options, run, SETS[options.set].final_epochs)
    network = load_network(run)
    state = half_precision(network.state_dict())
    transform = picture_of(run)
    listed = items(options.manifest, "training", validation_fraction=0.0)
    images = torch.stack([transform(item)["image"].as_tensor() for item in listed[::10]])
    with torch.inference_mode():
        before = network(images).softmax(1)
        network.load_state_dict(state)
        change = float((network(images).softmax(1) - before).abs().max())
    with atomic_path(run / "model.pt") as path:
        torch.save(state, path)
    patients = sorted({item["patient"] for item in listed})
    return {"seconds": seconds, "half_precision_changes_probability_by": change, "patients": patients}


def picture_of(run: Path) -> Callable[[Any], Any]:
    """What a trained bundle does to a picture before its network sees it."""
    found: Callable[[Any], Any] = load_config(run / "bundle", ("inference.json",)).get_parsed_content("preprocessing")
    return found


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "ours": run_ours,
    "without": run_ours,
    "plain": run_plain,
    "forest": run_forest,
    "final": run_final,
}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["prepare", *PARTS, "summary"])
    parser.add_argument("--set", choices=SETS, default="dermoscopy")
    parser.add_argument("--data", type=Path, help="folder of the sets, for prepare")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, help="of plain; by default those of ours")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of ours, plain and final")
    parser.add_argument("--holdout", default="", metavar="NAME", help="measure on the holdout, under this name")
    parser.add_argument("--values", nargs="*", default=[], metavar="ID=VALUE", help="other values of the bundle's ids")
    options = parser.parse_args()
    options.name = f"holdout_{options.holdout}" if options.holdout else f"fold{options.fold}"
    source = "all" if options.part == "final" else "holdout" if options.holdout else options.name
    options.manifest = options.output / "data" / options.set / f"{source}.json"
    options.clock = time.process_time if options.device == "cpu" else time.perf_counter
    options.result = lambda part: options.output / options.set / f"{part}_{options.name}.json"
    return options


def main() -> None:
    options = parse_arguments()
    torch.set_num_threads(1)
    if options.part == "prepare":
        prepare(options)
    elif options.part == "summary":
        found = {name: summarise(options.output, name, chosen.clinical) for name, chosen in SETS.items()}
        found = {name: summary for name, summary in found.items() if summary}
        atomic_write_text(options.output / "pictures.json", json.dumps(found, indent=1) + "\n")
        print(pictures_table(found))
    elif not (result := options.result(options.part)).exists():
        found = PARTS[options.part](options)
        atomic_write_text(result, json.dumps(found) + "\n")
        line = {"seconds": round(found["seconds"])}
        if "score" in found:
            line |= {key: round(value, 4) for key, value in over_all(found["score"], found["label"]).items()}
        print(options.set, result.stem, line, flush=True)


if __name__ == "__main__":
    main()
