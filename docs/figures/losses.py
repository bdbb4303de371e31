"""Figures of the page on losses; run as a script, it prints the table of the page."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from sklearn.datasets import load_digits
from torch import Tensor, nn

from medresnet3d.losses import build_loss
from medresnet3d.losses.angular_margin import angular_margin
from medresnet3d.losses.contrastive import contrastive
from medresnet3d.losses.margin import MarginLoss
from medresnet3d.networks.heads import LinearHead

DIGITS = 6
TOY = {
    "softmax": {},
    "center": {"weight": 0.1},
    "l_softmax": {"margin": 4, "start": 10.0, "decay": 0.98},
    "a_softmax": {"start": 10.0, "gamma": 0.1, "minimum": 1.0},
    "l2_softmax": {},
    "cosface": {"scale": 16.0, "margin": 0.35},
}


def draw(folder: Path) -> None:
    """Write the page's SVG files into ``folder``."""
    with plt.rc_context({"svg.hashsalt": "losses", "figure.dpi": 100, "font.size": 9, "axes.grid": True}):
        for name, figure in {"margins": margins(), "logit_losses": logit_losses(), "toy": toy()}.items():
            figure.savefig(folder / f"losses_{name}.svg", metadata={"Date": None})
            plt.close(figure)


def margins() -> plt.Figure:
    """Logit of the true class over its angle, and the fall of lambda."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    theta = torch.linspace(0, math.pi, 400)
    curves = {"softmax: cos θ": theta.cos(), "cosface: cos θ - 0.35": theta.cos() - 0.35}
    for margin in (2, 4):
        curves[f"l_softmax, a_softmax: ψ(θ), m = {margin}"] = angular_margin(theta.cos(), margin)
    curves["the same, m = 4, λ = 5"] = (5 * theta.cos() + angular_margin(theta.cos(), 4)) / 6
    for label, values in curves.items():
        left.plot(np.degrees(theta), values, label=label)
    left.set(title="Logit of the true class / (|W| |x|)", xlabel="angle between features and weights in degrees")
    left.set_xticks(range(0, 181, 45))
    left.legend(fontsize=7)
    steps = torch.arange(2000)
    for name in ("l_softmax", "a_softmax"):
        right.semilogy(steps, build_loss(name).annealing(steps).clamp_min(1e-3), label=f"{name}, defaults")
    right.set(title="Weight λ of the plain logit", xlabel="training step", ylim=(1e-2, 2e3))
    right.legend(fontsize=7)
    return figure


def logit_losses() -> plt.Figure:
    """Losses of logits and pairs as curves."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    score = torch.linspace(-3, 3, 300)[:, None]
    for name in ("cross_entropy", "hinge", "focal"):
        left.plot(score, build_loss(name, reduction="none")(score, torch.ones(300, dtype=torch.int64)), label=name)
    left.set(title="Two classes, one output, truth is 1", xlabel="output")
    left.legend(fontsize=7)
    p = torch.linspace(0.01, 0.999, 300)
    logits = torch.stack([(1 - p).log(), p.log()], 1)
    for gamma in (0, 0.5, 1, 2, 5):
        loss = build_loss("focal", gamma=gamma, reduction="none")
        middle.plot(p, loss(logits, torch.ones(300, dtype=torch.int64)), label=rf"$\gamma$ = {gamma:g}")
    middle.set(title="Focal loss", xlabel="probability of the true class", ylim=(0, 3))
    middle.legend(fontsize=7)
    distance = torch.linspace(0, 1.5, 200)[:, None]
    for dissimilar in (False, True):
        values = contrastive(distance, torch.zeros_like(distance), torch.full((200,), dissimilar))
        right.plot(distance, values, label="dissimilar pair" if dissimilar else "similar pair")
    right.set(title="Contrastive loss, m = 1", xlabel="distance of the pair")
    right.legend(fontsize=7)
    return figure


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images (N, 64) and labels of the digits 0 to 5: training, then test."""
    data = load_digits(n_class=DIGITS)
    order = np.random.default_rng(0).permutation(len(data.target))
    images = torch.from_numpy(data.data[order]).float() / 16
    labels = torch.from_numpy(data.target[order])
    cut = len(labels) * 2 // 3
    return images[:cut], labels[:cut], images[cut:], labels[cut:]


def learn(name: str, seed: int = 0, steps: int = 200) -> tuple[Tensor, Tensor, LinearHead]:
    """Train a small network with two features: features and labels of the test images, and the last layer."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # quicker for layers as small as these
    body = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 2))
    head, loss = LinearHead(2, DIGITS), build_loss(name, **TOY[name])
    images, labels, test_images, test_labels = digits()
    if isinstance(loss, MarginLoss):
        loss.prepare(head)
    optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], 3e-3)
    for _ in range(steps):
        features = body(images)
        value = loss.on_head(features, head, labels) if isinstance(loss, MarginLoss) else loss(head(features), labels)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    with torch.no_grad():
        return body(test_images), test_labels, head


def measure(features: Tensor, labels: Tensor, head: LinearHead) -> dict[str, float]:
    """Accuracy, mean angle to the class's mean direction in degrees, and spread within over spread between classes."""
    with torch.no_grad():
        accuracy = (head(features).argmax(1) == labels).float().mean().item()
    centres = torch.stack([features[labels == k].mean(0) for k in range(DIGITS)])
    cosine = nn.functional.cosine_similarity(features, centres[labels])
    within = (features - centres[labels]).square().sum(1).mean()
    between = (centres - centres.mean(0)).square().sum(1).mean()
    angle = torch.rad2deg(cosine.clamp(-1, 1).acos()).mean().item()
    return {"accuracy": accuracy, "angle": angle, "within / between": (within / between).item()}


def toy() -> plt.Figure:
    """The learned features of the test images, by loss."""
    figure, axes = plt.subplots(2, 3, figsize=(10, 6.8), layout="constrained")
    for axis, name in zip(axes.flat, TOY, strict=True):
        _scatter(axis, name)
    return figure


def _scatter(axis: Axes, name: str) -> None:
    features, labels, head = learn(name)
    values = measure(features, labels, head)
    for k in range(DIGITS):
        axis.scatter(*features[labels == k].T, s=5, label=str(k), rasterized=True)
    axis.set_title(f"{name}: accuracy {values['accuracy']:.3f}, angle {values['angle']:.1f}°", fontsize=9)
    axis.axhline(0, color="grey", lw=0.5)
    axis.axvline(0, color="grey", lw=0.5)
    axis.set_aspect("equal", adjustable="datalim")


def table() -> str:
    """Means over five seeds, with the smallest and largest value."""
    lines = [
        "| loss | accuracy | mean angle to the class's direction | spread within / between classes |",
        "|---|---|---|---|",
    ]
    for name in TOY:
        rows = [list(measure(*learn(name, seed)).values()) for seed in range(5)]
        columns = list(zip(*rows, strict=True))
        texts = [
            form.format(sum(values) / len(values), min(values), max(values))
            for form, values in zip(
                ("{:.3f} ({:.3f} to {:.3f})", "{:.1f}° ({:.1f} to {:.1f})", "{:.3f} ({:.3f} to {:.3f})"),
                columns,
                strict=True,
            )
        ]
        lines.append(f"| `{name}` | {' | '.join(texts)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
