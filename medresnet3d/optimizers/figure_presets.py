"""The four learning-rate figures of the survey (its figures 2 to 5): initial rate 0.5, 400 iterations.

What the survey gives is the kinds of curves, some colours and the shapes that its text describes. **Inferred** are all
other hyper-parameters: they are those of a widely copied TensorFlow tutorial where there is one, and make the shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from medresnet3d.optimizers.schedule_names import schedule_curve

INITIAL_RATE = 0.5
ITERATIONS = 400


@dataclass(frozen=True)
class Curve:
    """One curve of a figure.

    Args:
        label: for the legend.
        colour: a name that matplotlib knows.
        name: of the schedule.
        options: its hyper-parameters.
    """

    label: str
    colour: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def values(self) -> list[float]:
        """The learning rates of iterations 0 to 399."""
        return schedule_curve(self.name, INITIAL_RATE, ITERATIONS, **self.options)


_POLYNOMIAL = {"decay_steps": 50, "end_learning_rate": 0.01, "power": 0.5}
_COSINE = {"decay_steps": 300, "num_periods": 0.2, "alpha": 0.5, "beta": 0.2}
_NOISE = {"initial_variance": 0.01, "variance_decay": 0.1}

#: Number of the survey's figure to its title and curves.
FIGURES: Mapping[int, tuple[str, tuple[Curve, ...]]] = MappingProxyType(
    {
        2: (
            "Polynomial decay",
            (
                Curve("polynomial", "red", "polynomial", _POLYNOMIAL),
                Curve("polynomial, cycle", "green", "polynomial", {**_POLYNOMIAL, "cycle": True}),
            ),
        ),
        3: (
            "Inverse time decay",
            (
                Curve("inverse time", "red", "inverse_time", {"decay_steps": 50, "decay_rate": 0.5}),
                Curve(
                    "inverse time, staircase",
                    "green",
                    "inverse_time",
                    {"decay_steps": 50, "decay_rate": 0.5, "staircase": True},
                ),
            ),
        ),
        4: (
            "Piecewise constant, exponential and natural exponential decay",
            (
                Curve(
                    "piecewise constant",
                    "green",
                    "piecewise_constant",
                    {"boundaries": [100, 200, 300], "values": [0.5, 0.25, 0.1, 0.05]},
                ),
                Curve("exponential", "red", "exponential", {"decay_steps": 50, "decay_rate": 0.9}),
                Curve("natural exponential", "blue", "natural_exp", {"decay_steps": 50, "decay_rate": 0.9}),
            ),
        ),
        5: (
            "Cosine, linear cosine and noisy linear cosine decay",
            (
                Curve("cosine", "red", "cosine", {"decay_steps": 300}),
                Curve("linear cosine", "blue", "linear_cosine", _COSINE),
                Curve("noisy linear cosine", "green", "noisy_linear_cosine", {**_COSINE, **_NOISE}),
            ),
        ),
    }
)
