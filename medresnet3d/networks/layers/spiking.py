"""Spiking networks from layers with noisy softplus: leaky integrate-and-fire neurons with the same weights.

Paper: Q. Liu, Y. Chen, S. Furber. Noisy softplus: an activation function that enables SNNs to be trained as ANNs.
arXiv:1706.03609 (2017). The neuron is that of its family of papers; the offset current, which puts the threshold at
zero input, and the way time is discretised are this project's choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from scipy.optimize import curve_fit
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.networks.layers.noisy_softplus import NSPConv, NSPLinear, noisy_softplus

WIRING = (nn.Flatten, nn.Identity, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
"""Layers without neurons that a spiking network may have: what they do to rates they do to spikes."""


@dataclass(frozen=True)
class LIFNeuron:
    """A leaky integrate-and-fire neuron with a synaptic current that decays exponentially.

    Args:
        tau_membrane: membrane time constant in ms.
        tau_refractory: time in ms for which the membrane rests after a spike.
        tau_synapse: time constant of the synaptic current in ms.
        capacitance: of the membrane, in nF.
        rest: potential at rest and after a spike, in mV.
        threshold: potential at which the neuron fires, in mV.
        step: time step of the simulation in ms.
    """

    tau_membrane: float = 20.0
    tau_refractory: float = 1.0
    tau_synapse: float = 10.0
    capacitance: float = 0.25
    rest: float = -65.0
    threshold: float = -50.0
    step: float = 1.0

    @property
    def resistance(self) -> float:
        """Of the membrane, in megohm."""
        return self.tau_membrane / self.capacitance

    @property
    def offset(self) -> float:
        """Current in nA that brings the membrane just to its threshold; every neuron gets it."""
        return (self.threshold - self.rest) / self.resistance


def measure_response(neuron: LIFNeuron, duration: float = 1000.0, repeats: int = 10, seed: int = 0) -> torch.Tensor:
    """Simulate the neuron at many means and noise levels of its current.

    Each neuron has one exciting and one inhibiting synapse of 0.05 nA, whose rates give mean and noise.

    Args:
        neuron: the neuron.
        duration: simulated time in ms.
        repeats: neurons for each mean and noise level.
        seed: seed of the spikes.

    Returns:
        (N, 3): mean current x in nA, noise level sigma in nA, rate in Hz.
    """
    weight, tau = 0.05, neuron.tau_synapse / 1000
    mean, sigma = torch.meshgrid(torch.linspace(-0.4, 0.6, 26), torch.tensor([0.1, 0.2, 0.4, 0.6]), indexing="ij")
    both = (2 * sigma**2 / (tau * weight**2)).maximum(mean.abs() / (tau * weight))  # rates cannot be negative
    difference = mean / (tau * weight)
    sigma = (0.5 * tau * both).sqrt() * weight
    layer = NSPLinear(2, 1, tau=tau)
    layer.synapses.weight = nn.Parameter(torch.tensor([[weight, -weight]]))
    rates = torch.stack([both + difference, both - difference], -1).flatten(0, 1) / 2
    network = SpikingNetwork(nn.Sequential(layer), neuron)
    found = network.run(rates.repeat(repeats, 1), duration, seed, settle=10 * neuron.tau_synapse)
    return torch.stack([mean.flatten(), sigma.flatten(), found.reshape(repeats, -1).mean(0)], 1)


def fit_response(neuron: LIFNeuron) -> tuple[float, float]:
    """The constants k and scale (Hz per nA) with which noisy softplus comes closest to the neuron's rates.

    The published pairs, (0.19, 208.76) for synapses of 1 ms and (0.35, 201.06) for 10 ms, belong to the papers' own
    simulations; these belong to this one.
    """
    x, sigma, rate = measure_response(neuron).double().unbind(1)

    def curve(_: Any, k: float, scale: float) -> Any:
        return scale * noisy_softplus(x, sigma, k).numpy()

    (k, scale), _ = curve_fit(curve, x.numpy(), rate.numpy(), p0=(0.3, 200.0))
    return float(k), float(scale)


class _Population:
    """The neurons of one layer while they are simulated: currents, potentials and rest times."""

    def __init__(self, neuron: LIFNeuron, like: torch.Tensor) -> None:
        self.neuron = neuron
        self.current = torch.zeros_like(like)
        self.potential = torch.full_like(like, neuron.rest)
        self.resting = torch.zeros_like(like)  # ms

    def advance(self, jump: torch.Tensor) -> torch.Tensor:
        """One time step after spikes have made the synaptic current ``jump`` (nA); spikes, 0 or 1."""
        neuron = self.neuron
        self.current = self.current + jump
        decay = math.exp(-neuron.step / neuron.tau_synapse)
        mean_current = self.current * (neuron.tau_synapse / neuron.step * (1 - decay))  # exact over the step
        self.current = self.current * decay
        goal = neuron.rest + neuron.resistance * (mean_current + neuron.offset)
        leak = math.exp(-neuron.step / neuron.tau_membrane)
        free = self.resting <= 0
        self.potential = torch.where(free, goal + (self.potential - goal) * leak, self.potential)
        self.resting = self.resting - neuron.step
        spikes = self.potential >= neuron.threshold
        self.potential = torch.where(spikes, neuron.rest, self.potential)
        self.resting = torch.where(spikes, neuron.tau_refractory, self.resting)
        return spikes.to(jump.dtype)


class SpikingNetwork:
    """A trained network of :class:`NSPLinear` and :class:`NSPConv` run as spiking neurons with the same weights.

    Rates are in Hz and currents in nA, so the layers must have been trained with ``tau`` in seconds equal to the
    neuron's synaptic time constant and ``scale`` in Hz per nA (see :class:`NSPLinear`).

    Args:
        network: layers of those two kinds, and :data:`WIRING`.
        neuron: the neuron.

    Raises:
        ConfigError: for another layer, or a synaptic time constant that is not the neuron's.
    """

    def __init__(self, network: nn.Sequential, neuron: LIFNeuron | None = None) -> None:
        self.neuron = neuron or LIFNeuron()
        self.layers = list(network)
        for index, layer in enumerate(self.layers):
            if not isinstance(layer, (NSPLinear, NSPConv, *WIRING)):
                known = ", ".join(kind.__name__ for kind in (NSPLinear, NSPConv, *WIRING))
                raise ConfigError(f"Layer {index} is a {type(layer).__name__}; a spiking network has {known}.")
            if isinstance(layer, NSPLinear | NSPConv) and not math.isclose(
                1000 * layer.tau, self.neuron.tau_synapse, rel_tol=1e-6
            ):
                raise ConfigError(
                    f"Layer {index} was trained with synapses of {1000 * layer.tau:g} ms and the neuron has "
                    f"{self.neuron.tau_synapse:g} ms; give the neuron the same."
                )

    @torch.no_grad()
    def run(self, rates: torch.Tensor, duration: float, seed: int = 0, settle: float = 0.0) -> torch.Tensor:
        """Feed Poisson spikes and count those that come out.

        Args:
            rates: of the input neurons in Hz, not negative, (B, ...).
            duration: simulated time in ms over which spikes are counted.
            seed: seed of the spikes.
            settle: simulated time in ms before that, in which the currents build up.

        Returns:
            Rates of the last layer in Hz, (B, ...).
        """
        generator = torch.Generator(rates.device).manual_seed(seed)
        expected = rates * (self.neuron.step / 1000)
        populations: dict[int, _Population] = {}
        total: Any = 0.0
        before, counted = round(settle / self.neuron.step), round(duration / self.neuron.step)
        for step in range(before + counted):
            spikes = torch.poisson(expected, generator)
            for index, layer in enumerate(self.layers):
                if isinstance(layer, NSPLinear | NSPConv):
                    jump = layer.synapses(spikes)
                    if index not in populations:
                        populations[index] = _Population(self.neuron, jump)
                    spikes = populations[index].advance(jump)
                else:
                    spikes = layer(spikes)
            if step >= before:
                total = total + spikes
        return total * (1000 / (counted * self.neuron.step))
