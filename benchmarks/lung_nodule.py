"""Cross-validated AUC of ``lung_nodule_cnn3d`` on real CT cubes, beside a plain network and a classical reference.

    python benchmarks/lung_nodule.py --data lung_nodule_ct/manifest.json --output results
    python benchmarks/lung_nodule.py --table

The reference is a support vector machine on size and intensity features that are measured with the nodule's mask,
which the networks do not see. The plain network is MONAI's ResNet-10 with a quarter of its channels and a stem of
stride two, trained by Adam at 0.001 in batches of 16, without augmentation, for the processor time that the bundle took
in the same fold. Nothing is chosen on a held-out fold: the number of epochs is fixed, and the weights are those of the
last epoch. Intervals are 95% percentile bootstrap intervals; patients are drawn within each fold. A fold that has left
its file is not run again.
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
from monai.bundle import ConfigParser
from monai.networks.nets import resnet10
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import nn

from medresnet3d.bundle.load import load_config
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.data import items
from medresnet3d.io import load
from medresnet3d.io.atomic import atomic_write_text
from medresnet3d.networks.classifier import build_classifier
from medresnet3d.progress import track

Scores = npt.NDArray[np.float64]
FOLDS = 5
RESAMPLES = 2000
ARMS = ("network", "plain", "reference")
TABLE = ("resnet18", "resnet50", "densenet121", "vgg16", "vgg19", "mobilenet_v1", "xception")


def mask_features(item: dict[str, Any]) -> list[float]:
    """Size and intensity of the nodule inside of its mask, and of what lies around it."""
    image, mask = load(item["image"]).array.astype(float), load(item["mask"], constant_ok=True).array > 0
    inside = image[mask] if mask.any() else image.ravel()
    extents = np.ptp(np.argwhere(mask), axis=0) + 1 if mask.any() else np.zeros(3)
    volume = float(mask.sum())
    return [
        np.log1p(volume),
        *np.sort(extents),
        volume / max(float(np.prod(extents)), 1.0),
        inside.mean(),
        inside.std(),
        *np.percentile(inside, (5, 25, 50, 75, 95)),
        image[~mask].mean(),
        image[~mask].std(),
    ]


def reference_scores(train: list[dict[str, Any]], test: list[dict[str, Any]]) -> Scores:
    """Decision values (n,) of the support vector machine."""
    machine = make_pipeline(StandardScaler(), SVC(C=1.0, class_weight="balanced"))
    machine.fit([mask_features(item) for item in train], [item["label"] for item in train])
    return machine.decision_function([mask_features(item) for item in test])


def bundle_parser(options: argparse.Namespace, fold: int) -> ConfigParser:
    """The bundle's training configuration for one fold."""
    overrides: dict[str, Any] = {
        "data": str(options.data.resolve()),
        "output_dir": str(options.output / f"fold{fold}"),
        "device": {"_target_": "medresnet3d.engines.select_device", "name": options.device},
        "arch": options.arch,
        "size": options.size,
        "crop_size_mm": options.crop_size_mm,
        "intensity_range": options.intensity_range,
        "max_epochs": options.epochs,
        "val_interval": options.epochs,
        "seed": options.seed,
    }
    for part in ("train", "validate"):
        overrides |= {f"{part}::dataset::data::fold": fold, f"{part}::dataset::data::folds": FOLDS}
    return load_config(find_bundle("lung_nodule_cnn3d"), ("train.json",), overrides)


def network_scores(parser: ConfigParser) -> Scores:
    """Probabilities (n,) of class 1 from the bundle trained on the other folds."""
    parser.get_parsed_content("initialize")
    parser.get_parsed_content("train#trainer").run()
    return probabilities(parser, parser.get_parsed_content("network"))


def plain_scores(parser: ConfigParser, seconds: float, seed: int) -> tuple[Scores, int]:
    """Probabilities (n,) of class 1 from a plain ResNet-10 that learned for so long, and its number of epochs."""
    torch.manual_seed(seed)
    network = resnet10(spatial_dims=3, n_input_channels=1, num_classes=2, widen_factor=0.25, conv1_t_stride=2)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    validation = parser.get_parsed_content("validate#preprocessing")
    seen = [validation(item) for item in parser.get_parsed_content("train#dataset").data]
    images = torch.stack([item["image"].as_tensor() for item in seen])
    labels = torch.tensor([item["label"] for item in seen])
    begin, epochs = time.process_time(), 0
    while time.process_time() - begin < seconds:
        for batch in torch.randperm(len(images)).split(16):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimizer.step()
        epochs += 1
    return probabilities(parser, network), epochs


def probabilities(parser: ConfigParser, network: nn.Module) -> Scores:
    """Probabilities (n,) of class 1 for the held-out fold."""
    network.eval()
    with torch.inference_mode():
        batches = [network(batch["image"].as_tensor()) for batch in parser.get_parsed_content("validate#dataloader")]
    return torch.cat(batches).softmax(1)[:, 1].double().numpy()


def interval(values: npt.NDArray[np.float64]) -> list[float]:
    return [float(value) for value in np.percentile(values, (2.5, 97.5))]


def summarise(folds: list[dict[str, Any]], seed: int = 0) -> dict[str, Any]:
    """Mean AUC over the folds for each arm, and what the bundle is ahead by, with bootstrap intervals."""
    label = [np.array(fold["label"]) for fold in folds]
    score = {arm: [np.array(fold[arm]) for fold in folds] for arm in ARMS}
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {arm: [] for arm in ARMS}
    while len(drawn["network"]) < RESAMPLES:
        picks = [rng.integers(len(truth), size=len(truth)) for truth in label]
        if any(len(set(truth[pick].tolist())) < 2 for truth, pick in zip(label, picks, strict=True)):
            continue
        for arm in ARMS:
            aucs = [roc_auc_score(t[p], s[p]) for t, s, p in zip(label, score[arm], picks, strict=True)]
            drawn[arm].append(float(np.mean(aucs)))
    result: dict[str, Any] = {}
    for arm in ARMS:
        aucs = [float(roc_auc_score(t, s)) for t, s in zip(label, score[arm], strict=True)]
        result[arm] = {"folds": aucs, "mean": float(np.mean(aucs)), "interval": interval(np.array(drawn[arm]))}
    for arm in ARMS[1:]:
        difference = np.array(drawn["network"]) - np.array(drawn[arm])
        mean = result["network"]["mean"] - result[arm]["mean"]
        result[f"network - {arm}"] = {"mean": mean, "interval": interval(difference)}
    return result


def architecture_table() -> str:
    """Markdown table of the parameters of every architecture of the system, one channel, two classes."""
    rows = ["| arch | 3D slim | 3D paper | 2D paper |", "| --- | ---: | ---: | ---: |"]
    for arch in TABLE:
        with torch.device("meta"):
            networks = [
                build_classifier(arch, dims, size=size) for dims, size in ((3, "slim"), (3, "paper"), (2, "paper"))
            ]
        counts = " | ".join(f"{sum(p.numel() for p in network.parameters()):,}" for network in networks)
        rows.append(f"| {arch} | {counts} |")
    return "\n".join(rows)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="print the table of architectures and stop")
    parser.add_argument("--data", type=Path, help="manifest with image, mask, label and patient")
    parser.add_argument("--output", type=Path, default=Path("lung_nodule_benchmark"))
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--size", default="slim")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--crop-size-mm", type=float, default=32.0)
    parser.add_argument("--intensity-range", type=float, nargs=2, default=[0.0, 255.0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def run_fold(options: argparse.Namespace, fold: int) -> dict[str, Any]:
    """Train on the other folds and answer this one, with every arm."""
    split = {"fold": fold, "folds": FOLDS, "seed": options.seed}
    train, test = (items(options.data, section, **split) for section in ("training", "validation"))
    parser = bundle_parser(options, fold)
    started = time.process_time()
    scores = network_scores(parser)
    seconds = time.process_time() - started
    plain, epochs = plain_scores(parser, seconds, options.seed)
    return {
        "case": [item["case"] for item in test],
        "label": [item["label"] for item in test],
        "network": scores.tolist(),
        "plain": plain.tolist(),
        "reference": reference_scores(train, test).tolist(),
        "cpu_seconds": seconds,
        "plain_epochs": epochs,
    }


def main() -> None:
    options = parse_arguments()
    if options.table or options.data is None:
        print(architecture_table())
        return
    torch.set_num_threads(options.threads)
    folds = []
    for number in track(range(FOLDS), "cross-validation", FOLDS):
        path = options.output / f"fold{number}.json"
        if not path.exists():
            atomic_write_text(path, json.dumps(run_fold(options, number)) + "\n")
        fold = json.loads(path.read_text(encoding="utf-8"))
        folds.append(fold)
        aucs = ", ".join(f"{arm} {roc_auc_score(fold['label'], fold[arm]):.3f}" for arm in ARMS)
        print(f"fold {number}: {aucs}, {fold['cpu_seconds']:.0f} CPU s", flush=True)
    summary = summarise(folds)
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    text = json.dumps({"settings": settings, "summary": summary, "folds": folds}, indent=1)
    atomic_write_text(options.output / "lung_nodule.json", text + "\n")
    for arm, values in summary.items():
        print(f"{arm}: {values['mean']:.3f} (95% interval {values['interval'][0]:.3f} to {values['interval'][1]:.3f})")


if __name__ == "__main__":
    main()
