"""AdrenalMNIST3D, official split: ``lung_nodule_cnn3d`` with a recipe for shapes, a plain ResNet-18 and a forest.

    python benchmarks/adrenal.py prepare --data adrenalmnist3d --output results
    python benchmarks/adrenal.py ours --output results --seed 0
    python benchmarks/adrenal.py plain --output results --seed 0 --cpu-seconds 300
    python benchmarks/adrenal.py forest --output results
    python benchmarks/adrenal.py depth --output results
    python benchmarks/adrenal.py summary --output results

``--holdout`` measures on a third of the training cases instead, which no arm has seen then: how the recipe was tried
before any test case was answered.

``ours`` does what ``medresnet3d train`` and ``medresnet3d evaluate`` do with the values of ``RECIPE``; the weights are
those of the last epoch. ``plain`` is MONAI's ResNet-18 of the same width with its usual stem (stride two and a
pool) and MedMNIST's recipe, shortened to the given processor time, validations included: Adam at 0.001, a tenth from
half of the time on and a hundredth from three quarters on, batches of 32, the weights of the best validation AUC.
``forest`` sees ten measures of the shape, ``depth`` the one that tells most on the training cases. Nothing is chosen on
the test cases. A part that has left its file is not run again.

Intervals are 95% percentile bootstrap intervals of the mean over seeds; cases and seeds are drawn.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from by_fold import percentiles
from monai.networks.nets import resnet18
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import marching_cubes, mesh_surface_area
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from table import ADRENAL, adrenal_table
from torch import nn

from medresnet3d.data import items
from medresnet3d.data.preparation.prepare import prepare
from medresnet3d.io import load
from medresnet3d.io.atomic import atomic_write_text
from medresnet3d.metrics.roc import weighted_auc
from medresnet3d.workflows.evaluate import evaluate
from medresnet3d.workflows.train import train

Array = NDArray[np.float64]
BUNDLE = "lung_nodule_cnn3d"
EPOCHS = 20
WIDTH, STEM_STRIDE = 0.25, 2
RECIPE: dict[str, Any] = {
    "arch": "resnet10_unpooled",
    "stem_stride": STEM_STRIDE,
    "crop_size_mm": 24,
    "intensity_range": [0, 255],
    "shift": 2,
    "augmentation": "shape",
    "augmentation_mode": "batched",
    "loss": {"label_smoothing": 0.1},
    "batch_size": 32,
    "learning_rate": 0.003,
    "weight_decay": 0.05,
    "max_epochs": EPOCHS,
    "val_interval": EPOCHS,
}
FLIPS = {"_target_": "medresnet3d.inferers.FlipInferer", "axes": [0, 1, 2]}
RESAMPLES = 5000
MEASURES = (
    "volume",
    "surface",
    *(f"extent along axis {number}" for number in (1, 2, 3)),
    "largest depth",
    "mean depth",
    "deviation of the depth",
    "share of the box",
    "sphericity",
)
"""What a forest sees of a shape, in voxels. The depth of a voxel is its distance from the border."""


def prepare_data(folder: Path, manifest: Path) -> None:
    """Write the manifest of the official split, and one whose test is a third of the training cases."""
    prepare("medmnist", folder, manifest, options={"name": "adrenalmnist3d"})
    held_out = {item["patient"] for item in items(manifest, "validation", fold=0, folds=3, seed=0)}
    content = json.loads(manifest.read_text(encoding="utf-8"))
    content.pop("counts")
    content["test"] = [entry for entry in content["training"] if entry["patient"] in held_out]
    content["training"] = [entry for entry in content["training"] if entry["patient"] not in held_out]
    atomic_write_text(manifest.with_name("holdout.json"), json.dumps(content, indent=1) + "\n")


def masks(manifest: Path, section: str) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """The shapes (n, i, j, k) of one part and their classes (n,)."""
    listed = items(manifest, section)
    shapes = np.stack([load(item["image"], constant_ok=True).array > 0 for item in listed])
    return shapes, np.array([item["label"] for item in listed])


def run_ours(options: argparse.Namespace) -> dict[str, Any]:
    """Train the bundle with one seed and answer the test cases."""
    run = options.output / f"ours{options.seed}"
    taken = options.output / f"ours{options.seed}_seconds.json"
    if not taken.exists():
        shutil.rmtree(run, ignore_errors=True)
        begin = time.process_time()
        train(BUNDLE, options.manifest, run, device="cpu", set=RECIPE | {"seed": options.seed})
        atomic_write_text(taken, json.dumps(time.process_time() - begin))
    answers: dict[str, Any] = {"cpu_seconds": json.loads(taken.read_text()), "seed": options.seed}
    evaluate(run, options.manifest, run / "test", device="cpu", set={"inferer": FLIPS})
    with (run / "test" / "cases.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    answers["score"] = [float(row["probability_hyperplasia"]) for row in rows]
    answers["label"] = [int(row["truth"] == "hyperplasia") for row in rows]
    return answers


def run_plain(options: argparse.Namespace) -> dict[str, Any]:
    """Train a plain ResNet-18 for the given processor time and answer the test cases."""
    parts = {section: masks(options.manifest, section) for section in ("training", "validation", "test")}
    images, labels = (torch.from_numpy(array) for array in parts["training"])
    torch.manual_seed(options.seed)
    network = resnet18(
        spatial_dims=3,
        n_input_channels=1,
        num_classes=2,
        widen_factor=WIDTH,
        conv1_t_stride=STEM_STRIDE,
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    begin, best, epochs, kept = time.process_time(), -1.0, 0, copy.deepcopy(network.state_dict())
    share = 0.0
    while share < 1:
        network.train()
        for batch in torch.randperm(len(images)).split(32):
            share = (time.process_time() - begin) / options.cpu_seconds
            optimizer.param_groups[0]["lr"] = 1e-3 * 0.1 ** ((share >= 0.5) + (share >= 0.75))
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[batch][:, None].float()), labels[batch]).backward()
            optimizer.step()
        epochs += 1
        auc = float(roc_auc_score(parts["validation"][1], probabilities(network, parts["validation"][0])))
        if auc > best:
            best, kept = auc, copy.deepcopy(network.state_dict())
    network.load_state_dict(kept)
    seconds = time.process_time() - begin
    answers: dict[str, Any] = {"cpu_seconds": seconds, "seed": options.seed, "epochs": epochs}
    answers["score"] = probabilities(network, parts["test"][0]).tolist()
    answers["label"] = parts["test"][1].tolist()
    return answers


def probabilities(network: nn.Module, shapes: NDArray[np.bool_]) -> Array:
    """Probability of class 1 for each shape (n, i, j, k), (n,)."""
    network.eval()
    with torch.inference_mode():
        logits = [network(batch[:, None].float()) for batch in torch.from_numpy(shapes).split(64)]
    return torch.cat(logits).softmax(1)[:, 1].double().numpy()


def measures(shape: NDArray[np.bool_]) -> list[float]:
    """The :data:`MEASURES` of a mask (i, j, k)."""
    volume = float(shape.sum())
    vertices, faces, _, _ = marching_cubes(np.pad(shape, 1).astype(np.float32), 0.5)
    surface = float(mesh_surface_area(vertices, faces))
    points = np.argwhere(shape).astype(float)
    extents = np.sqrt(np.linalg.eigvalsh(np.cov(points.T)))
    depth = ndimage.distance_transform_edt(np.pad(shape, 1))[1:-1, 1:-1, 1:-1][shape]
    box = float(np.prod(np.ptp(points, axis=0) + 1))
    sphericity = np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / surface
    return [volume, surface, *extents, depth.max(), depth.mean(), depth.std(), volume / box, sphericity]


def run_measured(options: argparse.Namespace) -> dict[str, Any]:
    """Fit a classifier of measures on the training shapes and answer the test cases."""
    parts = {section: masks(options.manifest, section) for section in ("training", "test")}
    columns = slice(None) if options.part == "forest" else [MEASURES.index("mean depth")]
    table = {name: np.array([measures(shape) for shape in shapes])[:, columns] for name, (shapes, _) in parts.items()}
    forest = RandomForestClassifier(500, min_samples_leaf=5, class_weight="balanced", random_state=options.seed)
    classifier = forest if options.part == "forest" else make_pipeline(StandardScaler(), LogisticRegression())
    begin = time.process_time()
    classifier.fit(table["training"], parts["training"][1])
    answers: dict[str, Any] = {"cpu_seconds": time.process_time() - begin, "seed": options.seed}
    answers["score"] = classifier.predict_proba(table["test"])[:, 1].tolist()
    answers["label"] = parts["test"][1].tolist()
    return answers


def drawn_means(scores: Array, label: NDArray[np.int64], weights: Array, rng: np.random.Generator) -> dict[str, Array]:
    """Mean AUC and accuracy over drawn seeds on drawn cases.

    Args:
        scores: probabilities of class 1, (seeds, n).
        label: classes (n,).
        weights: how often each case is drawn, (resamples, n).
        rng: draws the seeds.

    Returns:
        ``auc`` and ``accuracy``, each (resamples,).
    """
    counts = rng.multinomial(len(scores), np.full(len(scores), 1 / len(scores)), size=len(weights)) / len(scores)
    auc = np.stack([weighted_auc(weights, label == 1, score) for score in scores], axis=1)
    right = ((scores > 0.5) == (label == 1)).astype(float)
    return {"auc": (auc * counts).sum(1), "accuracy": (weights @ right.T / weights.sum(1)[:, None] * counts).sum(1)}


def summarise(output: Path) -> dict[str, Any]:
    """Mean over seeds of each arm, and differences from ours, with intervals over cases and seeds."""
    rng = np.random.default_rng(0)
    summary: dict[str, Any] = {}
    drawn: dict[str, dict[str, Array]] = {}
    weights: Array | None = None
    for arm in ADRENAL:
        files = [json.loads(path.read_text()) for path in sorted(output.glob(f"{arm}_seed?.json"))]
        if not files:
            continue
        label = np.array(files[0]["label"])
        if weights is None:
            weights = rng.multinomial(len(label), np.full(len(label), 1 / len(label)), size=RESAMPLES).astype(float)
        scores = np.array([file["score"] for file in files])
        drawn[arm] = drawn_means(scores, label, weights, rng)
        aucs = [float(roc_auc_score(label, score)) for score in scores]
        summary[arm] = {
            "seeds": len(files),
            "cpu_seconds": float(np.mean([file["cpu_seconds"] for file in files])),
            "auc": {"each": aucs, "mean": float(np.mean(aucs)), "interval": percentiles(drawn[arm]["auc"])},
            "accuracy": {
                "mean": float(((scores > 0.5) == (label == 1)).mean()),
                "interval": percentiles(drawn[arm]["accuracy"]),
            },
            "auc_of_mean_probability": float(roc_auc_score(label, scores.mean(0))),
        }
    for arm in [arm for arm in summary if arm != "ours" and "ours" in summary]:
        difference = drawn["ours"]["auc"] - drawn[arm]["auc"]
        mean = summary["ours"]["auc"]["mean"] - summary[arm]["auc"]["mean"]
        summary[arm]["ours_is_ahead_by"] = {"mean": mean, "interval": percentiles(difference)}
    return summary


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "ours": run_ours,
    "plain": run_plain,
    "forest": run_measured,
    "depth": run_measured,
}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["prepare", *PARTS, "summary"])
    parser.add_argument("--data", type=Path, help="folder with adrenalmnist3d.npz, for prepare")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cpu-seconds", type=float, default=300.0)
    parser.add_argument("--holdout", action="store_true", help="measure on a third of the training cases")
    options = parser.parse_args()
    options.manifest = options.output / "data" / ("holdout.json" if options.holdout else "manifest.json")
    options.output = options.output / ("holdout" if options.holdout else ".")
    return options


def main() -> None:
    options = parse_arguments()
    torch.set_num_threads(1)
    result = options.output / f"{options.part}_seed{options.seed}.json"
    if options.part == "prepare":
        prepare_data(options.data, options.manifest)
    elif options.part == "summary":
        summary = summarise(options.output)
        atomic_write_text(options.output / "adrenal.json", json.dumps(summary, indent=1) + "\n")
        print(adrenal_table(summary))
    elif not result.exists():
        answers = PARTS[options.part](options)
        atomic_write_text(result, json.dumps(answers) + "\n")
        auc = roc_auc_score(answers["label"], answers["score"])
        print(f"{result.stem}: AUC {auc:.3f}, {answers['cpu_seconds']:.0f} CPU s", flush=True)


if __name__ == "__main__":
    main()
