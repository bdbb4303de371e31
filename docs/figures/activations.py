"""Figures of the page on activations; run as a script, it prints the numbers of the page."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

from medresnet3d.networks import build_classifier
from medresnet3d.networks.layers.activations import SURVEY, activation
from medresnet3d.networks.layers.maxout import Maxout
from medresnet3d.networks.layers.noisy_softplus import NoisySoftplus, noisy_softplus
from medresnet3d.networks.layers.spiking import LIFNeuron, fit_response, measure_response

SYNAPSE = 10.0  # ms
PUBLISHED = {1.0: (0.19, 208.76), 10.0: (0.35, 201.06)}


def survey_curves() -> plt.Figure:
    """The nine activations and their slopes."""
    figure, axes = plt.subplots(3, 3, figsize=(9, 7), sharex=True, layout="constrained")
    x = torch.linspace(-4, 4, 801)
    for ax, name in zip(axes.flat, SURVEY, strict=True):
        value = x.clone().requires_grad_()
        y = _maxout(value) if name == "maxout" else activation(name).eval()(value)
        (slope,) = torch.autograd.grad(y.sum(), value)
        if name == "rrelu":
            ax.fill_between(x[:401], x[:401] / 3, x[:401] / 8, alpha=0.3, label="training")
        ax.plot(x, y.detach(), label="value")
        ax.plot(x, slope, linestyle="--", linewidth=1, label="slope")
        ax.set_title(name, fontsize=9)
        ax.legend(fontsize=7)
    return figure


def _maxout(x: torch.Tensor) -> torch.Tensor:
    """Three pieces that someone may have learned."""
    layer = Maxout(1, 1, pieces=3)
    with torch.no_grad():
        layer[0].weight.copy_(torch.tensor([[-0.5], [0.1], [1.0]]))
        layer[0].bias.copy_(torch.tensor([-0.5, 0.0, -0.8]))
    return layer(x[:, None])[:, 0]


def noisy_curves() -> plt.Figure:
    """Noisy softplus for several noise levels, and beside simulated neurons."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    x = torch.linspace(-0.6, 0.6, 241)
    for sigma in (0.0, 0.2, 0.5, 1.0, 2.0):
        left.plot(x, NoisySoftplus(sigma=sigma)(x), label=rf"$\sigma$ = {sigma:g}")
    left.set(title="k = 0.19", xlabel="x", ylabel="y")
    neuron = LIFNeuron(tau_synapse=SYNAPSE)
    mean, noise, rate = measure_response(neuron).unbind(1)
    k, scale = fit_response(neuron)
    for column, sigma in enumerate((0.1, 0.2, 0.4, 0.6)):
        chosen = slice(column, None, 4)
        (line,) = right.plot(
            mean[chosen], scale * noisy_softplus(mean, noise, k)[chosen], label=rf"$\sigma$ = {sigma:g} nA"
        )
        right.plot(mean[chosen], rate[chosen], "o", markersize=3, color=line.get_color())
    right.set(title="simulated neurons (dots)", xlabel="mean current, nA", ylabel="rate, Hz")
    for ax in (left, right):
        ax.legend(fontsize=7)
    return figure


def draw(folder: Path) -> None:
    """Write the page's SVG files into ``folder``."""
    with plt.rc_context({"svg.hashsalt": "activations", "figure.dpi": 100, "font.size": 9, "axes.grid": True}):
        for name, figure in {"survey": survey_curves(), "noisy_softplus": noisy_curves()}.items():
            figure.savefig(folder / f"activations_{name}.svg", metadata={"Date": None})
            plt.close(figure)


def costs(rounds: int = 15) -> str:
    """Parameters and time of a training step of a slim ResNet-18 in 3D, relative to ReLU (medians, taken in turn)."""
    torch.set_num_threads(1)
    names = [*SURVEY, "maxout_relu"]
    networks = {name: build_classifier("resnet18", size="slim", act=name).train() for name in names}
    image, times = torch.rand(4, 1, 32, 32, 32), {name: [] for name in names}
    for _ in range(rounds):
        for name, network in networks.items():
            start = time.process_time()
            nn.functional.cross_entropy(network(image), torch.arange(4) % 2).backward()
            times[name].append(time.process_time() - start)
    lines = ["| activation | parameters | time of a step |", "| --- | --- | --- |"]
    for name, network in networks.items():
        share = statistics.median(times[name]) / statistics.median(times["relu"])
        lines.append(f"| `{name}` | {sum(p.numel() for p in network.parameters()):,} | {share:.2f} |")
    return "\n".join(lines)


def responses() -> str:
    """How well noisy softplus describes the simulated neurons."""
    lines = []
    for synapse, published in PUBLISHED.items():
        neuron = LIFNeuron(tau_synapse=synapse)
        x, sigma, rate = measure_response(neuron).unbind(1)
        for words, (k, scale) in {"published": published, "fitted": fit_response(neuron)}.items():
            curve = scale * noisy_softplus(x, sigma, k)
            distance = float((curve - rate).square().mean().sqrt())
            correlation = np.corrcoef(curve, rate)[0, 1]
            lines.append(
                f"{synapse:g} ms, {words} k = {k:.3f}, s = {scale:.1f}: r = {correlation:.3f}, {distance:.1f} Hz"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    print(costs())
    print(responses())
