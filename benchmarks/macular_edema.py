"""Macular edema on real fundus photographs: the cascade of ``macular_edema_cascade`` and a network of whole pictures.

    python benchmarks/exudates.py --data fundus/manifest.json --out results --arm network --fold 0   (and folds 1, 2)
    python benchmarks/macular_edema.py --data fundus/manifest.json --out results --arm maps
    python benchmarks/macular_edema.py --data fundus/manifest.json --out results --arm cascade
    python benchmarks/macular_edema.py --data fundus/manifest.json --out results --arm whole
    python benchmarks/macular_edema.py --data fundus/manifest.json --out results --arm final
    python benchmarks/macular_edema.py --out results --arm summary

The manifest lists photographs with ``dme_risk`` (0 to 2) under ``training`` and others with exudate masks under
``lesions``. The class is edema (risk 1 or 2) or none. The first stage comes from the folds of ``exudates.py``; where a
photograph is also among ``lesions`` (found by likeness), from the fold that has not seen it. ``cascade`` is a slim
ResNet-18 on the crop around the likeliest exudate and, of photographs without edema, on two further places; ``whole``
is the same network with the same steps on the whole picture at the crop's size. Each of five folds is predicted by a
network that has not seen it; ``area`` is the summed probability of exudates, which needs no second network. Intervals
are 95% percentile bootstrap intervals over photographs. A part that has left its file is not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from by_fold import SEED, percentiles
from exudates import DISC, cut, disc_box, make_network, normalised, resized, save
from monai.transforms import Compose
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import nn

from medresnet3d.data.splits import assign_folds
from medresnet3d.engines.precision import Precision
from medresnet3d.io import load
from medresnet3d.io.atomic import atomic_path, atomic_write_text
from medresnet3d.networks.candidates import find_peaks
from medresnet3d.networks.cascade import crop_around
from medresnet3d.networks.classifier import build_classifier
from medresnet3d.transforms.picture_pipelines import picture_augmentation

ARMS = ("cascade", "whole", "area")
FOLDS, EPOCHS, BATCH, RATE, DECAY = 5, 12, 16, 2e-3, 0.05
CROP, PLACES, DISTANCE = 224, 3, 32  # pixels of a crop; places of a photograph without edema; their least distance
ALIKE = 0.997  # correlation of two thumbnails from which on they show the same photograph; strangers reach 0.995


def disc(path: Path) -> NDArray[np.float32]:
    """The camera's disc in a square of :data:`DISC` pixels, (3, n, n), 0 to 1."""
    image = load(path).array[:, :, 0].transpose(2, 0, 1)
    return resized(cut(image, disc_box(image)), DISC)


def thumbnail(image: NDArray[np.float32]) -> NDArray[np.float64]:
    small = resized(image, 32).astype(np.float64).ravel()
    return (small - small.mean()) / small.std() / math.sqrt(small.size)


def first_stage(options: argparse.Namespace) -> list[nn.Module]:
    """The networks of the folds of ``exudates.py``."""
    networks = []
    for path in sorted(options.out.glob("network_fold?.pt")):
        network = make_network()
        network.load_state_dict(torch.load(path, weights_only=True))
        networks.append(network.eval().to(memory_format=torch.channels_last))
    return networks


def fold_of(options: argparse.Namespace, manifest: dict[str, Any]) -> list[tuple[NDArray[np.float64], int]]:
    """Thumbnails of the photographs with masks and the fold in which each was held out."""
    names = {}
    for path in sorted(options.out.glob("network_fold?.json")):
        names |= {name: int(path.stem[-1]) for name in json.loads(path.read_text())["names"]}
    return [(thumbnail(disc(options.data.parent / one["image"])), names[one["image"]]) for one in manifest["lesions"]]


@torch.inference_mode()
def maps(options: argparse.Namespace) -> None:
    """Crops around the likeliest places of every photograph, the whole picture small, and the area of exudates."""
    manifest = json.loads(options.data.read_text())
    networks, known = first_stage(options), fold_of(options, manifest)
    found: dict[str, list[Any]] = {"crops": [], "whole": [], "area": [], "label": []}
    copies = 0
    for item in manifest["training"]:
        image = disc(options.data.parent / item["image"])
        likeness, fold = max(((float(one @ thumbnail(image)), fold) for one, fold in known), key=lambda pair: pair[0])
        copies += likeness > ALIKE
        network = networks[fold if likeness > ALIKE else 0]
        seen = normalised(torch.from_numpy(image)[None])
        with Precision("auto").active(torch.device("cpu")):
            dense = network(seen.to(memory_format=torch.channels_last)).float()
        places, _ = find_peaks(dense[:, 0], PLACES, DISTANCE)
        found["crops"].append(torch.cat([crop_around(seen, place[None], (CROP, CROP)) for place in places[0]]).half())
        found["whole"].append(normalised(torch.from_numpy(resized(image, CROP))[None])[0].half())
        found["area"].append(float(dense.sigmoid().sum()))
        found["label"].append(int(item["dme_risk"] > 0))
    state = {
        "crops": torch.stack(found["crops"]),
        "whole": torch.stack(found["whole"]),
        "area": torch.tensor(found["area"]),
        "label": torch.tensor(found["label"]),
        "copies": torch.tensor(copies),
    }
    with atomic_path(options.out / "edema_maps.pt") as temporary:
        torch.save(state, temporary)
    print(f"{copies} of {len(found['label'])} photographs are among those with masks", flush=True)


def samples(arm: str, state: dict[str, torch.Tensor], cases: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and classes to learn from."""
    labels = state["label"]
    if arm == "whole":
        return state["whole"][cases], labels[cases]
    chosen = [(case, place) for case in cases for place in range(1 if labels[case] else PLACES)]
    index = torch.tensor(chosen).T
    return state["crops"][index[0], index[1]], labels[index[0]]


def fit(arm: str, state: dict[str, torch.Tensor], cases: list[int], steps: int) -> nn.Module:
    """Train a slim ResNet-18 for a number of steps, with both classes drawn alike."""
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    network = build_classifier("resnet18", 2, 3, 2, "slim", norm=("batch", {"momentum": 0.05}))
    images, labels = samples(arm, state, cases)
    vary = Compose(picture_augmentation("medium")).set_random_state(SEED)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    by_class = [np.flatnonzero(labels.numpy() == kind) for kind in (0, 1)]
    network.train()
    for _ in range(steps):
        chosen = np.concatenate([rng.choice(cases, BATCH // 2) for cases in by_class])
        batch = torch.stack([torch.as_tensor(vary({"image": images[index].float()})["image"]) for index in chosen])
        with Precision("auto").active(torch.device("cpu")):
            logits = network(batch).float()
        loss = nn.functional.cross_entropy(logits, labels[chosen], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def steps_of(cases: int) -> int:
    return EPOCHS * cases // BATCH


@torch.inference_mode()
def score(arm: str, network: nn.Module, state: dict[str, torch.Tensor], cases: list[int]) -> list[float]:
    """Probability of edema: over four mirror images of the picture, or of the crop around the likeliest place."""
    images = (state["whole"] if arm == "whole" else state["crops"][:, 0])[cases].float()
    views = [images, images.flip(2), images.flip(3), images.flip(2, 3)]
    found: list[float] = torch.stack([network(view).softmax(1)[:, 1] for view in views]).mean(0).tolist()
    return found


def cross_validate(options: argparse.Namespace) -> dict[str, Any]:
    """Predict every photograph by a network that has not seen it."""
    state = torch.load(options.out / "edema_maps.pt", weights_only=True)
    names = [str(index) for index in range(len(state["label"]))]
    folds = assign_folds(names, FOLDS, classes=state["label"].tolist(), seed=SEED)
    probabilities, begin = [0.0] * len(names), time.process_time()
    for fold in range(FOLDS):
        known = [case for case, its in enumerate(folds) if its != fold]
        unseen = [case for case, its in enumerate(folds) if its == fold]
        network = fit(options.arm, state, known, steps_of(len(known)))
        for case, value in zip(unseen, score(options.arm, network, state, unseen), strict=True):
            probabilities[case] = value
        print(f"fold {fold}: {time.process_time() - begin:.0f} s", flush=True)
    return {"probabilities": probabilities, "cpu_seconds": time.process_time() - begin}


def final(options: argparse.Namespace) -> None:
    """The second stage that ships, trained on crops of all photographs."""
    state = torch.load(options.out / "edema_maps.pt", weights_only=True)
    cases = list(range(len(state["label"])))
    save(fit("cascade", state, cases, steps_of(len(cases))), options.out / "edema_second.pt")


def summarise(options: argparse.Namespace, resamples: int = 2000) -> dict[str, Any]:
    """Area under the ROC curve of each arm, and what the cascade is ahead by."""
    state = torch.load(options.out / "edema_maps.pt", weights_only=True)
    labels = state["label"].numpy()
    scores = {"area": state["area"].numpy()}
    for arm in ("cascade", "whole"):
        scores[arm] = np.array(json.loads((options.out / f"edema_{arm}.json").read_text())["probabilities"])
    rng = np.random.default_rng(SEED)
    drawn: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for _ in range(resamples):
        chosen = rng.integers(len(labels), size=len(labels))
        for arm in ARMS:
            drawn[arm].append(float(roc_auc_score(labels[chosen], scores[arm][chosen])))
    summary: dict[str, Any] = {"photographs": len(labels), "edema": int(labels.sum()), "copies": int(state["copies"])}
    for arm in ARMS:
        summary[arm] = {"mean": float(roc_auc_score(labels, scores[arm])), "interval": percentiles(drawn[arm])}
    for arm in ARMS[1:]:
        gain = [ours - theirs for ours, theirs in zip(drawn["cascade"], drawn[arm], strict=True)]
        ahead = summary["cascade"]["mean"] - summary[arm]["mean"]
        summary[f"cascade - {arm}"] = {"mean": ahead, "interval": percentiles(gain)}
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="manifest with `training` and `lesions`")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--arm", choices=["maps", "cascade", "whole", "final", "summary"], required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    target = options.out / f"edema_{options.arm}.json"
    if options.arm == "summary":
        summary = summarise(options)
        atomic_write_text(options.out / "macular_edema.json", json.dumps(summary, indent=1) + "\n")
        print(json.dumps(summary, indent=1))
    elif options.arm == "maps":
        if not (options.out / "edema_maps.pt").exists():
            maps(options)
    elif options.arm == "final":
        final(options)
    elif not target.exists():
        atomic_write_text(target, json.dumps(cross_validate(options)) + "\n")


if __name__ == "__main__":
    main()
