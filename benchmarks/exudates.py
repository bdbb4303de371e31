"""Hard exudates on real fundus photographs, pixel by pixel: stage one of ``macular_edema_cascade`` and a threshold.

    python benchmarks/exudates.py --data fundus/manifest.json --out results --arm network --fold 0
    python benchmarks/exudates.py --data fundus/manifest.json --out results --arm threshold --fold 0
    python benchmarks/exudates.py --data fundus/manifest.json --out results --arm final
    python benchmarks/exudates.py --out results --arm summary

The manifest lists photographs with an exudate mask under ``lesions`` (``image``, ``EX``). Both arms are scored by the
area under the precision-recall curve (average precision) over all pixels of all photographs of the held-out folds, on
the grid of the file; what lies outside of the camera's disc counts as not found. The network learns from tiles by the
processor time of one thread, and the average of its weights answers, over four mirrored views. ``threshold``
is brightness above a local background; channel, background and smoothing are those of the best average precision on the
training folds. Intervals are 95% percentile bootstrap intervals over photographs. A fold that has left its file is not
run again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from by_fold import SEED, percentiles, results_of
from monai.transforms import Compose
from numpy.typing import NDArray
from scipy import ndimage
from timed_training import TimedTraining
from torch import nn
from torch.nn import functional

from medresnet3d.data.splits import assign_folds
from medresnet3d.engines.precision import Precision
from medresnet3d.io import load
from medresnet3d.io.atomic import atomic_path, atomic_write_text
from medresnet3d.losses import build_loss
from medresnet3d.losses.deep_supervision import FadingDeepSupervisionLoss
from medresnet3d.networks.multi_level_fcn import MultiLevelFCN
from medresnet3d.transforms.fundus import field_of_view
from medresnet3d.transforms.fundus_lesions import RandCameraLooksd, RandLesionTiled
from medresnet3d.transforms.picture_pipelines import IMAGENET_DEVIATION, IMAGENET_MEAN

ARMS = ("network", "threshold")
DISC = 896  # pixels that the box around the camera's disc is brought to along each edge
TILE, BATCH = 320, 8
RATE, DECAY = 2e-3, 5e-2
BINS = 4096  # of scores between 0 and 1, over which average precision is summed
Photograph = dict[str, Any]


def make_network() -> MultiLevelFCN:
    """The default of ``macular_edema_cascade``."""
    torch.manual_seed(SEED)
    return MultiLevelFCN(18, width=0.25, fusion_channels=32, norm=("batch", {"momentum": 0.05}))


def photographs(manifest: Path) -> list[Photograph]:
    """Each photograph by its disc: ``image`` (3, n, n) and ``mask`` (1, n, n), and the mask on the file's grid."""
    listed = json.loads(manifest.read_text())["lesions"]
    found = []
    for item in listed:
        image = load(manifest.parent / item["image"]).array[:, :, 0].transpose(2, 0, 1)
        truth = load(manifest.parent / item["EX"], constant_ok=True).array[:, :, 0] > 0
        box = disc_box(image)
        found.append(
            {
                "name": item["image"],
                "image": torch.from_numpy(resized(cut(image, box), DISC)),
                "mask": torch.from_numpy(resized(cut(truth[None].astype(np.float32), box), DISC) > 0.5),
                "truth": truth,
                "box": box,
                "colours": image,
            }
        )
    return found


def disc_box(image: NDArray[Any]) -> tuple[int, int, int]:
    """Begin of the square box around the camera's disc on both axes (it may lie outside), and its edge, in pixels."""
    rows = [np.flatnonzero(field_of_view(image).any(axis)) for axis in (1, 0)]
    (low_i, high_i), (low_j, high_j) = ((int(row[0]), int(row[-1]) + 1) for row in rows)
    edge = max(high_i - low_i, high_j - low_j)
    return low_i - (edge - (high_i - low_i)) // 2, low_j - (edge - (high_j - low_j)) // 2, edge


def cut(image: NDArray[Any], box: tuple[int, int, int]) -> NDArray[Any]:
    """The box of (C, i, j), with zeros outside of it."""
    first, second, edge = box
    padded = np.pad(image, ((0, 0), (edge, edge), (edge, edge)))
    return padded[:, first + edge : first + 2 * edge, second + edge : second + 2 * edge]


def resized(image: NDArray[Any], size: int) -> NDArray[np.float32]:
    """(C, i, j) with ``size`` pixels along each edge, from 0 to 1 where it was 0 to 255."""
    scale = 255.0 if image.dtype == np.uint8 else 1.0
    tensor = torch.from_numpy(image.astype(np.float32) / scale)[None]
    found = functional.interpolate(tensor, (size, size), mode="bilinear", antialias=True)[0]
    return np.asarray(found.numpy(), dtype=np.float32)


def normalised(image: torch.Tensor) -> torch.Tensor:
    """Colours (B, 3, i, j) from 0 to 1 as the network sees them."""
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    return (image - mean) / deviation


def batches(known: list[Photograph]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches of tiles, as the training of the bundle draws them."""
    rng = np.random.default_rng(SEED)
    vary = Compose([RandLesionTiled(size=TILE), RandCameraLooksd("image")]).set_random_state(SEED)
    items = [{"image": one["image"], "label": one["mask"].float()} for one in known]
    while True:
        chosen = [vary(items[index]) for index in rng.integers(len(items), size=BATCH)]
        yield normalised(torch.stack([one["image"] for one in chosen])), torch.stack([one["label"] for one in chosen])


def train(known: list[Photograph], seconds: float) -> tuple[nn.Module, int]:
    """Train for ``seconds`` of processor time and give the averaged network."""
    network = make_network().to(memory_format=torch.channels_last)
    training = TimedTraining(network, RATE, seconds, weight_decay=DECAY, warm_up=20, averaging=0.98)
    loss_function = FadingDeepSupervisionLoss(
        build_loss("dice_ce", sigmoid=True, batch=True, class_weights=[3.0]), 200, 0.3, 0.03
    ).train()
    precision, device, source = Precision("auto"), torch.device("cpu"), batches(known)
    for progress in training.progress():
        image, label = next(source)
        with precision.active(device):
            outputs = [output.float() for output in network(image.to(memory_format=torch.channels_last))]
            loss = loss_function(outputs, label)
        training.descend(loss)
        training.tell(progress, 25)
    return training.average.eval(), training.iteration


def network_map(network: nn.Module, photograph: Photograph) -> NDArray[np.float32]:
    """Probability of an exudate on the grid of the file, (i, j): the mean over four views."""
    image = normalised(photograph["image"][None]).to(memory_format=torch.channels_last)
    total = torch.zeros(1, 1, DISC, DISC)
    with torch.inference_mode(), Precision("auto").active(torch.device("cpu")):
        for turns, mirror in product((0, 2), (False, True)):
            view = torch.rot90(image.flip(2) if mirror else image, turns, (2, 3))
            dense = torch.rot90(network(view).float().sigmoid(), -turns, (2, 3))
            total += (dense.flip(2) if mirror else dense) / 4
    return on_the_grid(total, photograph)


def on_the_grid(dense: torch.Tensor, photograph: Photograph) -> NDArray[np.float32]:
    """A map (1, 1, n, n) of the disc on the grid of the file, (i, j), 0 outside of the box."""
    first, second, edge = photograph["box"]
    box = functional.interpolate(dense, (edge, edge), mode="bilinear")[0, 0].numpy()
    shape = photograph["truth"].shape
    padded = np.zeros((shape[0] + 2 * edge, shape[1] + 2 * edge), dtype=np.float32)
    padded[first + edge : first + 2 * edge, second + edge : second + 2 * edge] = box
    return padded[edge : edge + shape[0], edge : edge + shape[1]]


CHANNELS = {"green": (0, 1, 0), "brightness": (1 / 3, 1 / 3, 1 / 3), "red and green": (0.5, 0.5, 0)}
BACKGROUNDS = (10.0, 25.0, 50.0)  # of the Gaussian that tells the brightness around a pixel, in pixels
SMOOTHINGS = (0.0, 1.5)


def threshold_map(photograph: Photograph, channel: str, background: float, smoothing: float) -> NDArray[np.float32]:
    """Brightness above that of the surroundings, (i, j), from 0 to 1."""
    image = photograph["colours"].astype(np.float32) / 255
    grey = np.tensordot(np.array(CHANNELS[channel], dtype=np.float32), image, 1)
    inside = field_of_view(photograph["colours"])
    filled = np.where(inside, grey, np.median(grey[inside]))
    low = ndimage.gaussian_filter(filled[::2, ::2], background / 2)
    above = grey - low.repeat(2, 0).repeat(2, 1)[: grey.shape[0], : grey.shape[1]]
    if smoothing:
        above = ndimage.gaussian_filter(above, smoothing)
    depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    return np.where(depth > 12, np.clip(above * 2, 0, 1), 0).astype(np.float32)


def histogram(score: NDArray[np.float32], truth: NDArray[np.bool_]) -> list[list[int]]:
    """Numbers of pixels of each score among exudates and others; small probabilities are told apart finely."""
    index = np.minimum((np.sqrt(score) * BINS).astype(np.int64), BINS - 1)
    return [np.bincount(index[truth == kind], minlength=BINS).tolist() for kind in (True, False)]


def average_precision(counts: NDArray[np.int64]) -> float:
    """Average precision from numbers of pixels (2, BINS), as scikit-learn's for scores rounded to bins."""
    hits, false = counts[0][::-1].cumsum(), counts[1][::-1].cumsum()
    precision = hits / np.maximum(1, hits + false)
    return float((np.diff(hits, prepend=0) * precision).sum() / max(1, hits[-1]))


def best_threshold(known: list[Photograph]) -> tuple[str, float, float]:
    """Channel, background and smoothing of the best average precision."""
    scores = {}
    for choice in product(CHANNELS, BACKGROUNDS, SMOOTHINGS):
        counts = [histogram(threshold_map(one, *choice), one["truth"]) for one in known[::3]]
        scores[choice] = average_precision(np.sum(counts, axis=0))
    return max(scores, key=lambda choice: scores[choice])


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Learn from all folds but one and measure on that one."""
    found = photographs(options.data)
    folds = assign_folds([one["name"] for one in found], options.folds, seed=SEED)
    known = [one for one, fold in zip(found, folds, strict=True) if fold != options.fold]
    unseen = [one for one, fold in zip(found, folds, strict=True) if fold == options.fold]
    begin = time.process_time()
    if options.arm == "threshold":
        choice = best_threshold(known)
        maps = [threshold_map(one, *choice) for one in unseen]
        result: dict[str, Any] = {"settings": list(choice)}
    else:
        network, iterations = train(known, options.cpu_seconds)
        save(network, options.out / f"network_fold{options.fold}.pt")
        maps = [network_map(network, one) for one in unseen]
        result = {"iterations": iterations, "training_seconds": options.cpu_seconds}
    counts = [histogram(score, one["truth"]) for score, one in zip(maps, unseen, strict=True)]
    names = [one["name"] for one in unseen]
    return {"names": names, "counts": counts, "cpu_seconds": time.process_time() - begin, **result}


def save(network: nn.Module, path: Path) -> None:
    state = {name: tensor.clone().contiguous() for name, tensor in network.state_dict().items()}
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def summarise(folder: Path, resamples: int = 2000) -> dict[str, Any]:
    """Average precision over all pixels of each arm, and what the network is ahead by, of the folds that both have."""
    by_name: dict[str, dict[str, Any]] = {}
    for arm in ARMS:
        found = results_of(folder, arm)
        by_name[arm] = {name: one for fold in found for name, one in zip(fold["names"], fold["counts"], strict=True)}
    names = sorted(by_name["network"].keys() & by_name["threshold"].keys())
    counts = {arm: np.array([by_name[arm][name] for name in names]) for arm in ARMS}
    rng = np.random.default_rng(SEED)
    drawn: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for _ in range(resamples):
        chosen = rng.integers(len(counts["network"]), size=len(counts["network"]))
        for arm in ARMS:
            drawn[arm].append(average_precision(counts[arm][chosen].sum(0)))
    summary: dict[str, Any] = {}
    for arm in ARMS:
        mean = average_precision(counts[arm].sum(0))
        summary[arm] = {"photographs": len(counts[arm]), "mean": mean, "interval": percentiles(drawn[arm])}
    ahead = summary["network"]["mean"] - summary["threshold"]["mean"]
    gain = [ours - theirs for ours, theirs in zip(drawn["network"], drawn["threshold"], strict=True)]
    return {**summary, "network - threshold": {"mean": ahead, "interval": percentiles(gain)}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="manifest with photographs and masks under `lesions`")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--arm", choices=[*ARMS, "final", "summary"], required=True)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--cpu-seconds", type=float, default=240.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.arm == "summary":
        summary = summarise(options.out)
        atomic_write_text(options.out / "exudates.json", json.dumps(summary, indent=1) + "\n")
        print(json.dumps(summary, indent=1))
    elif options.arm == "final":
        network, _ = train(photographs(options.data), options.cpu_seconds)
        save(network, options.out / "exudates.pt")
    elif not (path := options.out / f"{options.arm}_fold{options.fold}.json").exists():
        result = run(options)
        atomic_write_text(path, json.dumps(result) + "\n")
        print(f"{path.stem}: {average_precision(np.sum(result['counts'], axis=0)):.3f}", flush=True)


if __name__ == "__main__":
    main()
