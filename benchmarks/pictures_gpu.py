"""What ``pictures.py`` compares, trained on a GPU: every network of every fold at once, each step one CUDA graph.

    python benchmarks/pictures.py prepare --data DATA --output results --set dermoscopy
    python benchmarks/pictures_gpu.py --output results --set dermoscopy
    python benchmarks/pictures.py forest --output results --set dermoscopy --fold 0
    python benchmarks/pictures.py summary --output results

Small networks on small pictures leave a GPU waiting for the processor that starts their thousands of kernels. Here the
pictures lie on the GPU, all that is random is drawn beforehand, a whole step (augmentation, forward, backward, update,
average) is recorded once as a CUDA graph and played again, and the graphs of several trainings overlap on streams.

``ours`` is the bundle's network with its loss, pictures and distribution of augmentations and the recipe of
:data:`RECIPES`; the members of an ensemble weigh alike, so that no picture has to be held out for their weights.
``plain`` is the ResNet-18 of ``pictures.py`` with its recipe; it sees as many pictures as all networks of ``ours``
together. ``final`` learns from all pictures and is what ships.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.networks.nets import resnet18
from picture_figures import over_all
from pictures import FLIPS, SETS, WIDTH, one_cycle
from timed_training import half_precision
from torch import Tensor, nn
from torch.nn import functional

from medresnet3d.bundle.load import load_config
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.io.atomic import atomic_path, atomic_write_text
from medresnet3d.transforms.colour_augmentation import RandColourMap
from medresnet3d.weights.normalisation import IMAGENET_DEVIATION, IMAGENET_MEAN

WARM_UP, EVERY = 3, 200


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Args:
        epochs: passes over the pictures.
        networks: members, for the budget of the plain network.
        mixing: ``none``, ``mixup``, ``cutmix`` or ``both``, in half of the batches.
        tint: of each colour; brightness, contrast and saturation vary by ``jitter``.
        smoothing: of labels.
        averaging: decay of the average of weights that answers; 0: the last weights.
    """

    epochs: int
    networks: int = 1
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    mixing: str = "none"
    jitter: float = 0.2
    tint: float = 0.1
    smoothing: float = 0.1
    averaging: float = 0.99
    size: int = 128


RECIPES = {
    "dermoscopy": Recipe(250, networks=4),
    "blood_cells": Recipe(200, mixing="both"),
    "fundus": Recipe(400, batch_size=32, learning_rate=2e-3, size=224),
}


@dataclass(frozen=True)
class Job:
    """One training.

    Args:
        name: of its result.
        arm: ``ours`` or ``plain``.
        manifest: pictures to learn and to answer.
    """

    name: str
    arm: str
    manifest: Path
    recipe: Recipe


def jobs_of(options: argparse.Namespace) -> list[Job]:
    """Ours and the plain network on each fold, and what ships."""
    recipe = RECIPES[options.set]
    plain = replace(
        recipe,
        epochs=recipe.epochs * recipe.networks,
        weight_decay=0.01,
        mixing="none",
        tint=0,
        smoothing=0,
        averaging=0,
    )
    folder = options.output / "data" / options.set
    folds = [folder / f"fold{fold}.json" for fold in range(5)]
    ours = [Job(f"ours_{path.stem}", "ours", path, recipe) for path in folds]
    peers = [Job(f"plain_{path.stem}", "plain", path, plain) for path in folds]
    return [*ours, Job("final", "ours", folder / "all.json", recipe), *peers]


def bundle_of(name: str, size: int) -> Any:
    """The configuration of the bundle of a set, without the finder of lesions, which learns in a stage of its own."""
    chosen = SETS[name]
    values = {key: value for key, value in chosen.recipe.items() if "::" not in key and key not in ("loss", "mixing")}
    values |= chosen.without
    return load_config(find_bundle(chosen.bundle), ("train.json",), {**values, "image_size": size, "device": "cpu"})


def read_picture(transform: Callable[[Any], Any], path: str) -> np.ndarray:
    found: np.ndarray = transform({"image": path})["image"].numpy()  # tensors would come back through open files
    return found


def read_pictures(name: str, size: int, paths: list[str]) -> dict[str, Tensor]:
    """Pictures (3, size, size) as the bundle prepares them, by path; read by several processes."""
    transform = bundle_of(name, size).get_parsed_content("validate#preprocessing")
    with ProcessPoolExecutor() as pool:
        found = pool.map(read_picture, [transform] * len(paths), paths, chunksize=16)
        return {path: torch.from_numpy(picture) for path, picture in zip(paths, found, strict=True)}


def network_and_loss(job: Job, name: str, classes: int) -> tuple[nn.Module, Callable[[Any, Tensor], Tensor]]:
    """What learns, and its loss of outputs and class numbers."""
    smoothing = job.recipe.smoothing

    def cross_entropy(outputs: Any, labels: Tensor) -> Tensor:
        members = outputs[1:] if isinstance(outputs, list) else [outputs]  # the first one is what is fused
        return torch.stack(
            [functional.cross_entropy(each.float(), labels, label_smoothing=smoothing) for each in members]
        ).sum()

    torch.manual_seed(0)
    if job.arm == "plain":
        network = resnet18(
            spatial_dims=2, n_input_channels=3, num_classes=classes, widen_factor=WIDTH, conv1_t_stride=2
        )
        return network, cross_entropy
    parser = bundle_of(name, job.recipe.size)
    network = parser.get_parsed_content("network_def")
    return network, parser.get_parsed_content("loss") if name == "blood_cells" else cross_entropy


class Draws:
    """All that is random of a training, on the GPU: one row of numbers and two of places for each step.

    Args:
        labels: (n,) class numbers, each class of which is drawn as often.
        steps: of the training.
        recipe: see there.
    """

    def __init__(self, labels: np.ndarray, steps: int, recipe: Recipe, device: str) -> None:
        rng, size = np.random.default_rng(0), recipe.batch_size
        weights = 1 / np.bincount(labels)[labels]
        self.chosen = self._on(rng.choice(len(labels), (steps, size), p=weights / weights.sum()), device)
        self.partner = self._on(rng.permuted(np.tile(np.arange(size), (steps, 1)), axis=1), device)
        self.maps = self._on(self._maps(rng, steps * size).reshape(steps, size, 2, 3), device)
        ranges = [recipe.jitter] * 3 + [recipe.tint] * 3
        colours = 1 + rng.uniform(-1, 1, (steps, size, 6)) * ranges
        colours[rng.random((steps, size)) >= 0.8] = 1
        self.colours = self._on(colours, device)
        rates = [recipe.learning_rate * one_cycle(step / steps) for step in range(steps)]
        self.scalars = self._on(np.column_stack([rates, self._mixtures(rng, steps, recipe)]), device)

    @staticmethod
    def _on(values: np.ndarray, device: str) -> Tensor:
        kind = torch.int64 if values.dtype.kind == "i" else torch.float32
        return torch.as_tensor(values, dtype=kind).to(device)

    @staticmethod
    def _maps(rng: np.random.Generator, count: int) -> np.ndarray:
        """Maps (count, 2, 3) of ``picture_augmentation("strong")``, for ``affine_grid``: flips, turns, scale, shear."""
        angle = rng.uniform(-np.pi, np.pi, count)  # right-angle turns vanish in turns by any angle
        scale, shear = rng.uniform(0.8, 1.2, (2, count)), rng.uniform(-0.1, 0.1, (2, count))
        flips = np.where(rng.random((2, count)) < 0.5, -1.0, 1.0)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        stretch = np.array([[scale[0], shear[0] * scale[1]], [shear[1] * scale[0], scale[1]]])
        linear = np.einsum("ijn,jkn->nik", turn, stretch) * flips.T[:, :, None]
        return np.concatenate([linear, np.zeros((count, 2, 1))], 2)

    @staticmethod
    def _mixtures(rng: np.random.Generator, steps: int, recipe: Recipe) -> np.ndarray:
        """For each step: the share of a picture in the sum, the box of its partner, and the share of its label."""
        rows = np.tile([1.0, 0, 0, 0, 0, 1], (steps, 1))
        for row in rows if recipe.mixing != "none" else ():
            if rng.random() < 0.5:
                share = rng.beta(1, 1)
                if recipe.mixing == "mixup" or (recipe.mixing == "both" and rng.random() < 0.5):
                    row[[0, 5]] = share
                else:
                    edge = round(recipe.size * math.sqrt(1 - share))
                    begin = rng.integers(0, recipe.size - edge + 1, 2)
                    row[1:5] = begin[0], begin[0] + edge, begin[1], begin[1] + edge
                    row[5] = 1 - (edge / recipe.size) ** 2
        return rows


class Training:
    """A network on the GPU that makes one step at a time.

    Args:
        job: what to train.
        name: of the set.
        pictures: (n, 3, size, size).
        labels: (n,) class numbers.
    """

    def __init__(self, job: Job, name: str, pictures: Tensor, labels: np.ndarray, classes: int, device: str) -> None:
        self.job, recipe = job, job.recipe
        network, self.loss = network_and_loss(job, name, classes)
        if isinstance(self.loss, nn.Module):
            self.loss.to(device)
        self.network = network.to(device).to(memory_format=torch.channels_last).train()
        self.average = copy.deepcopy(self.network).eval()
        live = self.network.state_dict()
        self.pairs = [(kept, live[key]) for key, kept in self.average.state_dict().items() if kept.is_floating_point()]
        self.pictures, self.labels = pictures.to(device), torch.as_tensor(labels).to(device)
        self.steps = recipe.epochs * (len(labels) // recipe.batch_size)
        self.draws, self.done = Draws(labels, self.steps, recipe, device), 0
        self.now = [each[0].clone() for each in self._tables()]
        self.colour = RandColourMap(mean=IMAGENET_MEAN, deviation=IMAGENET_DEVIATION)
        self.colour.mean, self.colour.deviation = self.colour.mean.to(device), self.colour.deviation.to(device)
        self.places = torch.arange(recipe.size, device=device)
        self.rate = torch.tensor(0.0, device=device)
        decayed = [each for each in self.network.parameters() if each.ndim > 1]
        others = [each for each in self.network.parameters() if each.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
        on_gpu = device == "cuda"
        self.optimizer = torch.optim.AdamW(groups, lr=self.rate, fused=on_gpu, capturable=on_gpu, foreach=False)
        self.device, self.play, self.value = device, self.step, torch.zeros((), device=device)
        self.stream = torch.cuda.Stream() if on_gpu else None

    def _tables(self) -> list[Tensor]:
        draws = self.draws
        return [draws.chosen, draws.partner, draws.maps, draws.colours, draws.scalars]

    def step(self) -> None:
        """One step with the draws that lie in ``now``; nothing in it waits for the processor."""
        chosen, partner, maps, colours, scalars = self.now
        rate, share, top, bottom, left, right, own = scalars.unbind()
        self.rate.copy_(rate)
        images, labels = self.pictures[chosen], self.labels[chosen]
        grid = functional.affine_grid(maps, list(images.shape), align_corners=False)
        images = functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
        self.colour.carry_out(images, colours)
        others = images[partner]
        rows, columns = self.places[:, None], self.places
        box = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
        images = torch.where(box, others, others + share * (images - others))
        images = images.contiguous(memory_format=torch.channels_last)
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device, torch.bfloat16, cache_enabled=False):
            outputs = self.network(images)
        loss = own * self.loss(outputs, labels) + (1 - own) * self.loss(outputs, labels[partner])
        loss.backward()
        self.optimizer.step()
        self.value.copy_(loss.detach())
        with torch.no_grad():
            kept, live = zip(*self.pairs, strict=True)
            torch._foreach_lerp_(kept, live, 1 - self.job.recipe.averaging)

    def on_stream(self) -> AbstractContextManager[Any]:
        """Where its kernels go."""
        return nullcontext() if self.stream is None else torch.cuda.stream(self.stream)

    def record(self) -> None:
        """Make the step a CUDA graph, after a few that change nothing, since their rate is zero."""
        self.now[-1][0] = 0.0
        torch.cuda.synchronize()
        with self.on_stream():
            for _ in range(WARM_UP):
                self.step()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            self.step()
        self.play = graph.replay

    def advance(self) -> bool:
        """Make one step; whether more are to come."""
        with self.on_stream():
            for buffer, table in zip(self.now, self._tables(), strict=True):
                buffer.copy_(table[self.done], non_blocking=True)
            self.play()
        self.done += 1
        return self.done < self.steps

    @torch.inference_mode()
    def answer(self, pictures: Tensor) -> np.ndarray:
        """Probabilities (n, K), averaged over mirror images."""
        network = self.average if self.job.recipe.averaging else self.network.eval()
        found = []
        for some in pictures.to(self.device).split(64):
            views = [network(some.flip(axes) if axes else some).float().softmax(1) for axes in FLIPS]
            found.append(torch.stack(views).mean(0))
        return torch.cat(found).cpu().double().numpy()


def train_all(trainings: list[Training], limit: float) -> Iterator[Training]:
    """Step by step, all in turn; give each as it is done, and those not done by the limit of seconds not at all."""
    begin, active, rounds = time.perf_counter(), list(trainings), 0
    while active and time.perf_counter() - begin < limit:
        finished = [training for training in active if not training.advance()]
        rounds += 1
        if rounds % EVERY == 0 or finished:
            if active[0].stream is not None:
                torch.cuda.synchronize()
            losses = ", ".join(f"{each.job.name} {each.done}/{each.steps} {float(each.value):.2f}" for each in active)
            if rounds % (EVERY * 5) == 0:
                print(f"{time.perf_counter() - begin:.0f} s: {losses}", flush=True)
        active = [training for training in active if training not in finished]
        yield from finished


def finish(
    training: Training, folder: Path, entries: dict[str, Any], pictures: dict[str, Tensor], seconds: float
) -> None:
    """Write what a training says of its test pictures, or the weights that ship."""
    job, names = training.job, list(entries["labels"].values())
    result: dict[str, Any] = {"seconds": seconds, "device": torch.cuda.get_device_name() if training.stream else "cpu"}
    result |= {"epochs": job.recipe.epochs, "mixing": job.recipe.mixing}
    if job.name == "final":
        with atomic_path(folder / "model.pt") as path:
            torch.save(half_precision({key: each.cpu() for key, each in training.average.state_dict().items()}), path)
        result["patients"] = sorted({entry["patient"] for entry in entries["training"]})
    else:
        score = training.answer(torch.stack([pictures[entry["image"]] for entry in entries["test"]]))
        label = [names.index(entry["label"]) for entry in entries["test"]]
        result |= {"score": score.round(6).tolist(), "label": label}
        result["patient"] = [entry["patient"] for entry in entries["test"]]
        print(job.name, {key: round(value, 4) for key, value in over_all(score, label).items()}, flush=True)
    atomic_write_text(folder / f"{job.name}.json", json.dumps(result) + "\n")


def run(options: argparse.Namespace, jobs: list[Job]) -> None:
    """Train all of a set's jobs and write their results."""
    begin = time.perf_counter()
    contents = {job.manifest: json.loads(job.manifest.read_text(encoding="utf-8")) for job in jobs}
    every = {
        entry["image"] for one in contents.values() for part in ("training", "test") for entry in one.get(part, ())
    }
    pictures = read_pictures(options.set, jobs[0].recipe.size, sorted(every))
    trainings = []
    for job in jobs:
        training, names = contents[job.manifest]["training"], list(contents[job.manifest]["labels"].values())
        images = torch.stack([pictures[entry["image"]] for entry in training])
        labels = np.array([names.index(entry["label"]) for entry in training])
        trainings.append(Training(job, options.set, images, labels, len(names), options.device))
        if options.device == "cuda":
            trainings[-1].record()
    print(f"{options.set}: {len(jobs)} trainings begin after {time.perf_counter() - begin:.0f} s", flush=True)
    begin = time.perf_counter()
    for training in train_all(trainings, options.limit):
        seconds = time.perf_counter() - begin
        finish(training, options.output / options.set, contents[training.job.manifest], pictures, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=RECIPES, default="dermoscopy")
    parser.add_argument("--output", type=Path, required=True, help="as of pictures.py")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: to try it out, slowly")
    parser.add_argument("--limit", type=float, default=math.inf, help="seconds of training")
    parser.add_argument("--only", nargs="*", help="names of jobs: ours_fold0, plain_fold0, final, ...")
    options = parser.parse_args()
    chosen = [job for job in jobs_of(options) if not options.only or job.name in options.only]
    run(options, chosen)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
