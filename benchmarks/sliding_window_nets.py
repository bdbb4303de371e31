"""Train the networks of ``sliding_window.py`` for a few CPU minutes each, so that agreement is that of real answers.

An untrained network's logits are nearly equal everywhere, and the share of voxels that change their label in another
number format says nothing then. The MRI networks learn three brain tissues from a manifest of skull-stripped T1 scans
(or from phantoms, without one), the CT network thirteen organs from phantoms.

    python benchmarks/sliding_window_nets.py --net ct-unet --out NETS
    python benchmarks/sliding_window_nets.py --net mri-voxresnet --data MANIFEST --out NETS
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from torch import nn

from medresnet3d.data.phantoms.brain import brain_phantom
from medresnet3d.data.phantoms.organs import ORGANS, organ_phantom
from medresnet3d.engines.precision import Precision
from medresnet3d.io.atomic import atomic_path, atomic_write_text
from medresnet3d.networks.voxresnet import VoxResNet

CHANNELS = (32, 64, 128, 256)
CT_SPACING = (0.8, 0.8, 1.5)
MRI_SHAPE = (240, 240, 155)
ANYWHERE = 0.5  # how often a CT patch anywhere in the trunk or beside it comes before one of an organ
FREEZE_AFTER = {"ct-unet": 0.75}  # of the training, from when on normalisation has the statistics of its use
NORM_PATCHES = 64  # whose statistics those are
TEST_SCANS = 2  # the last ones of a manifest are kept out of the training
RATES = {"ct-unet": 4e-3}  # the highest learning rate where it is not RATE
RATE = 2e-3  # a tenth of the rate for a network that has been trained before
Batch = tuple[torch.Tensor, torch.Tensor]
Source = Callable[[int, int], Iterator[Batch]]  # patches of a size, by a seed


def make_network(name: str) -> nn.Module:
    """The network called ``mri-voxresnet``, ``mri-unet`` or ``ct-unet``, with fixed starting weights."""
    torch.manual_seed(0)
    if name == "mri-voxresnet":
        return VoxResNet(3, 1, 4, width=64)
    classes = len(ORGANS) if name == "ct-unet" else 4
    return UNet(3, 1, classes, CHANNELS, (2, 2, 2), num_res_units=2, norm="batch")


NETWORKS = {"mri-voxresnet": (48, 48), "mri-unet": (64, 64), "ct-unet": (24, 64)}
"""In-plane size of the training patches of each network: at first, and with fixed statistics."""
TOGETHER = {"ct-unet": 8}  # patches of a batch as long as normalisation has the statistics of the batch
SLICES = 64  # of a patch, at most


def load_network(folder: Path, name: str) -> nn.Module:
    """The trained network in eval mode."""
    network = make_network(name)
    network.load_state_dict(torch.load(folder / f"{name}.pt", weights_only=True))
    return network.eval()


def normalised_mri(image: np.ndarray) -> np.ndarray:
    """Zero mean and unit deviation inside the brain, zero outside."""
    inside = image > 0
    values = image[inside].astype(np.float32)
    return np.where(inside, (image - values.mean()) / values.std(), 0).astype(np.float32)


def normalised_ct(image: np.ndarray) -> np.ndarray:
    """-175 to 250 HU to 0 to 1, clipped, as MONAI's abdominal tutorials do."""
    return np.clip((image.astype(np.float32) + 175) / 425, 0, 1)


def fit_shape(array: np.ndarray, shape: tuple[int, ...] = MRI_SHAPE) -> np.ndarray:
    """Crop and pad with zeros around the middle."""
    out = np.zeros(shape, array.dtype)
    into, of = [], []
    for have, want in zip(array.shape, shape, strict=True):
        size = min(have, want)
        into.append(slice((want - size) // 2, (want - size) // 2 + size))
        of.append(slice((have - size) // 2, (have - size) // 2 + size))
    out[tuple(into)] = array[tuple(of)]
    return out


def mri_scans(manifest: Path | None, test: bool = False) -> list[tuple[np.ndarray, np.ndarray]]:
    """Normalised images and tissue labels; the scans kept for testing, or the others."""
    if manifest is None:
        phantoms = [brain_phantom(seed, 176) for seed in ((90, 91) if test else range(3))]
        return [(normalised_mri(phantom.image), phantom.labels) for phantom in phantoms]
    entries = json.loads(manifest.read_text(encoding="utf-8"))["training"]
    scans = []
    for entry in entries[-TEST_SCANS:] if test else entries[:-TEST_SCANS]:
        image, label = (_voxels(manifest.parent / entry[key]) for key in ("image", "mask"))
        scans.append((normalised_mri(image), label.astype(np.uint8)))
    return scans


def _voxels(path: Path) -> np.ndarray:
    volume: Any = nib.load(path)
    return np.asarray(volume.dataobj)


def mri_patches(manifest: Path | None, size: int, seed: int) -> Iterator[Batch]:
    """Endless patches of scans, mirrored left to right at random, each (1, 1, n, n, n)."""
    rng = np.random.default_rng(seed)
    scans = mri_scans(manifest)
    while True:
        image, label = scans[rng.integers(len(scans))]
        corner = [
            int(rng.integers(max(1, low), max(2, count - size - low)))
            for count, low in zip(image.shape, np.array(image.shape) // 16, strict=True)
        ]
        cut = tuple(slice(begin, begin + size) for begin in corner)
        turn = slice(None, None, -1) if rng.random() < 0.5 else slice(None)
        yield _batch(image[cut][turn], label[cut][turn])


def ct_patches(_manifest: Path | None, size: int, seed: int) -> Iterator[Batch]:
    """Endless patches of phantom patients, each around a voxel of an organ (every organ as often) or of anything.

    Where the organs are is looked up in one patient, and the patch is shifted by as much as patients differ.
    """
    rng = np.random.default_rng(seed)
    atlas = organ_phantom(0)
    places = [np.argwhere(atlas.labels == organ) for organ in range(len(ORGANS))]
    shape = (size, size, min(size, SLICES))
    for organ in organs_in_turn(rng):
        place = places[organ][rng.integers(len(places[organ]))] + rng.uniform(-4, 4, 3)
        centre = atlas.affine[:3, :3] @ place + atlas.affine[:3, 3]
        phantom = organ_phantom(int(rng.integers(1000, 100000)), shape, CT_SPACING, centre=centre.tolist())
        yield _batch(normalised_ct(phantom.image), phantom.labels)


def organs_in_turn(rng: np.random.Generator) -> Iterator[int]:
    """All organs in a random order, then in another; and now and then 0, for anywhere."""
    while True:
        for organ in rng.permutation(np.arange(1, len(ORGANS))):
            if rng.random() < ANYWHERE:
                yield 0
            yield int(organ)


def _batch(image: np.ndarray, label: np.ndarray) -> Batch:
    tensors = (torch.from_numpy(np.ascontiguousarray(array))[None, None].float() for array in (image, label))
    return next(tensors), next(tensors)


def together(patches: Iterator[Batch], count: int) -> Iterator[Batch]:
    """Batches of several patches, so that the statistics of normalisation are not those of one place."""
    while True:
        images, labels = zip(*(next(patches) for _ in range(count)), strict=True)
        yield torch.cat(images), torch.cat(labels)


def freeze_norms(network: nn.Module, patches: Iterator[Batch]) -> None:
    """Give batch normalisation the mean statistics of some patches, and keep those from now on.

    With one patch a step, the statistics of training are those of that patch (air, or liver), and a network that
    relies on them is much worse with the fixed ones of its use.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    with torch.no_grad():
        for _ in range(NORM_PATCHES):
            network(next(patches)[0].contiguous(memory_format=torch.channels_last_3d))
    for norm in norms:
        norm.eval()


def rarity(organs: int) -> torch.Tensor:
    """Weights of the classes in the cross-entropy: the rarer an organ in a phantom patient, the more."""
    counts = np.bincount(organ_phantom(0).labels.ravel(), minlength=organs).astype(np.float32)
    return torch.from_numpy((np.median(counts) / counts) ** 0.25)


def make_loss(name: str) -> nn.Module:
    """Dice and cross-entropy; for the CT network, whose patches lack most of its classes, weighted cross-entropy."""
    if name == "ct-unet":
        return nn.CrossEntropyLoss(rarity(len(ORGANS)))
    return DiceCELoss(softmax=True, to_onehot_y=True, include_background=False, batch=True, smooth_nr=50, smooth_dr=50)


def loss_of(loss_function: nn.Module, output: Any, label: torch.Tensor) -> torch.Tensor:
    """The loss of the main output, for labels (B, 1, i, j, k)."""
    logits = (output[0] if isinstance(output, list) else output).float()
    numbers = label[:, 0].long() if isinstance(loss_function, nn.CrossEntropyLoss) else label
    return torch.as_tensor(loss_function(logits, numbers))


def train(
    network: nn.Module,
    loss_function: nn.Module,
    source: Source,
    sizes: tuple[int, int],
    rate: float,
    seconds: float,
    freeze_after: float,
    batch: int,
    resumed: bool,
    keep: Callable[[], None],
) -> int:
    """AdamW with warm-up and cosine for ``seconds`` of CPU time in bf16 where the CPU has it; give the iterations.

    Args:
        network: trained.
        loss_function: of :func:`make_loss`.
        source: patches of a size.
        sizes: of the patches, at first and with fixed statistics.
        rate: the highest learning rate.
        seconds: of CPU time.
        freeze_after: this share of the time, normalisation has fixed statistics.
        batch: patches together until then.
        resumed: whether the network has been trained before.
        keep: called now and then, so that not all is lost when the training is interrupted.
    """
    network.train().to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-2)
    precision, device = Precision(), torch.device("cpu")
    begin, iteration, recent, frozen, done = time.process_time(), 0, 0.0, False, 0.0
    patches = together(source(sizes[0], 2 * resumed), batch)
    while done < 1:
        if not frozen and done >= freeze_after:
            with precision.active(device):
                freeze_norms(network, patches)
            frozen, patches = True, source(sizes[1], 1 + 2 * resumed)
        image, label = next(patches)
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (iteration + 1) / 30) * 0.5 * (1 + math.cos(math.pi * done))
        with precision.active(device):
            output = network(image.contiguous(memory_format=torch.channels_last_3d))
        loss = loss_of(loss_function, output, label)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        iteration += 1
        done = (time.process_time() - begin) / seconds
        recent = float(loss.detach()) if iteration == 1 else 0.97 * recent + 0.03 * float(loss.detach())
        if iteration % 50 == 0:
            print(f"{done:.0%} of the time, {iteration} iterations, loss {recent:.3f}", flush=True)
            keep()
    return iteration


def main() -> None:
    """Train one network and keep its weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", choices=NETWORKS, required=True)
    parser.add_argument("--data", type=Path, help="manifest of skull-stripped T1 scans; without it, phantoms")
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights")
    parser.add_argument("--cpu-seconds", type=float, default=300.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--resume", action="store_true", help="go on with the weights in that folder")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    weights = options.out / f"{options.net}.pt"
    network = load_network(options.out, options.net) if options.resume else make_network(options.net)
    source: Source = partial(ct_patches if options.net == "ct-unet" else mri_patches, options.data)
    sizes = NETWORKS[options.net]
    rate = RATES.get(options.net, RATE) / (10 if options.resume else 1)
    before: list[Any] = []
    if options.resume and weights.with_suffix(".json").exists():
        before = json.loads(weights.with_suffix(".json").read_text(encoding="utf-8"))

    def keep() -> None:
        with atomic_path(weights) as path:
            torch.save({key: value.contiguous() for key, value in network.state_dict().items()}, path)

    iterations = train(
        network,
        make_loss(options.net),
        source,
        sizes,
        rate,
        options.cpu_seconds,
        0.0 if options.resume and options.net in FREEZE_AFTER else FREEZE_AFTER.get(options.net, 1.0),
        TOGETHER.get(options.net, 1),
        options.resume,
        keep,
    )
    keep()
    note = {"net": options.net, "cpu_seconds": options.cpu_seconds, "iterations": iterations, "data": str(options.data)}
    atomic_write_text(weights.with_suffix(".json"), json.dumps([*before, note], indent=1))


if __name__ == "__main__":
    main()
