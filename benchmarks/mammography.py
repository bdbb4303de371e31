"""Cross-validated AUC of ``mammogram_densenet2`` on whole films of mini-MIAS, beside a forest on grey-value histograms.

    python benchmarks/mammography.py --data mammography/manifest.json --output results

Both see the same films in the same five folds by patient. Nothing is chosen on a held-out fold: the number of epochs is
fixed, and the weights are those of the last epoch. The AUC is the mean over the folds; its interval is the 95%
percentile interval of a bootstrap in which patients are drawn within each fold. A fold that has left its file is not
run again. There are 65 films: an interval that holds 0.5 is no evidence of more than chance, and one that does not is
little.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score

from medresnet3d.bundle.load import load_config
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.data import items
from medresnet3d.io import load
from medresnet3d.io.atomic import atomic_write_text

Scores = npt.NDArray[np.float64]
FOLDS, BINS, TREES, RESAMPLES = 5, 32, 500, 1000
ARMS = ("bundle", "forest")


def histogram(item: dict[str, Any]) -> Scores:
    """Shares (BINS,) of the film's pixels in equal ranges of grey from 0 to 255."""
    counts, _ = np.histogram(load(item["image"]).array, bins=BINS, range=(0, 256))
    return counts / counts.sum()


def forest_scores(train: list[dict[str, Any]], test: list[dict[str, Any]], seed: int) -> Scores:
    """Probabilities (n,) of class 1."""
    forest = RandomForestClassifier(TREES, class_weight="balanced", random_state=seed)
    forest.fit([histogram(item) for item in train], [item["label"] for item in train])
    return forest.predict_proba([histogram(item) for item in test])[:, 1]


def bundle_scores(options: argparse.Namespace, fold: int) -> Scores:
    """Probabilities (n,) of class 1 for the held-out fold, from the bundle trained on the others."""
    overrides: dict[str, Any] = {
        "data": str(options.data.resolve()),
        "output_dir": str(options.output / f"fold{fold}"),
        "device": "cpu",
        "seed": options.seed,
        "max_epochs": options.epochs,
        "val_interval": options.epochs,
        "image_size": options.image_size,
        "train::handlers": [],
    }
    for part in ("train", "validate"):
        overrides |= {f"{part}::dataset::data::fold": fold, f"{part}::dataset::data::folds": FOLDS}
    parser = load_config(find_bundle("mammogram_densenet2"), ("train.json",), overrides)
    parser.get_parsed_content("initialize")
    trainer, schedule = parser.get_parsed_content("train#trainer"), parser.get_parsed_content("lr_scheduler")
    trainer.add_event_handler("ITERATION_COMPLETED", lambda: schedule.step())
    trainer.run()
    network = parser.get_parsed_content("network").eval()
    with torch.inference_mode():
        batches = [network(batch["image"].as_tensor()) for batch in parser.get_parsed_content("validate#dataloader")]
    return torch.cat(batches).softmax(1)[:, 1].double().numpy()


def run_fold(options: argparse.Namespace, fold: int) -> dict[str, Any]:
    """Scores of both arms on one fold, kept in a file."""
    path = options.output / f"fold{fold}.json"
    if path.exists():
        return dict(json.loads(path.read_text()))
    train, test = (
        items(options.data, section, fold=fold, folds=FOLDS, seed=options.seed)
        for section in ("training", "validation")
    )
    begin = time.process_time()
    scores = bundle_scores(options, fold)
    seconds = time.process_time() - begin
    result = {
        "label": [item["label"] for item in test],
        "patient": [item["patient"] for item in test],
        "bundle": scores.tolist(),
        "forest": forest_scores(train, test, options.seed).tolist(),
        "seconds": seconds,
    }
    atomic_write_text(path, json.dumps(result))
    return result


def mean_auc(folds: list[dict[str, Any]], arm: str, picks: list[npt.NDArray[np.intp]]) -> float:
    """Mean over the folds of the AUC of the films that were picked from each."""
    pairs = [
        (np.array(fold["label"])[pick], np.array(fold[arm])[pick]) for fold, pick in zip(folds, picks, strict=True)
    ]
    return float(np.mean([roc_auc_score(label, score) for label, score in pairs]))


def draw(fold: dict[str, Any], rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Films of as many patients as the fold has, drawn with replacement, of both classes."""
    patients, label = np.array(fold["patient"]), np.array(fold["label"])
    unique = np.unique(patients)
    while True:
        drawn = rng.choice(unique, len(unique))
        pick = np.concatenate([np.flatnonzero(patients == patient) for patient in drawn])
        if len(set(label[pick].tolist())) == 2:
            return pick


def summarise(folds: list[dict[str, Any]], seed: int = 0) -> dict[str, Any]:
    """Mean AUC of both arms and their difference, with intervals."""
    rng = np.random.default_rng(seed)
    whole = [np.arange(len(fold["label"])) for fold in folds]
    found: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for _ in range(RESAMPLES):
        picks = [draw(fold, rng) for fold in folds]
        for arm in ARMS:
            found[arm].append(mean_auc(folds, arm, picks))
    values = {arm: np.array(found[arm]) for arm in ARMS} | {
        "bundle - forest": np.array(found["bundle"]) - np.array(found["forest"])
    }
    means = {arm: mean_auc(folds, arm, whole) for arm in ARMS}
    means["bundle - forest"] = means["bundle"] - means["forest"]
    return {
        name: {"auc": round(means[name], 3), "interval": np.percentile(drawn, (2.5, 97.5)).round(3).tolist()}
        for name, drawn in values.items()
    }


def main() -> None:
    """Run the folds and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the manifest")
    parser.add_argument("--output", type=Path, required=True, help="folder of the results")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    folds = [run_fold(options, fold) for fold in range(FOLDS)]
    summary = summarise(folds) | {
        "films": sum(len(fold["label"]) for fold in folds),
        "patients": len({patient for fold in folds for patient in fold["patient"]}),
        "malignant": sum(sum(fold["label"]) for fold in folds),
        "bundle_cpu_seconds": round(sum(fold["seconds"] for fold in folds), 1),
    }
    atomic_write_text(options.output / "summary.json", json.dumps(summary, indent=1))
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
