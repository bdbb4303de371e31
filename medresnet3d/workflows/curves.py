"""``compare --curves``: the survey's learning-rate figures and its activations, drawn."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from matplotlib.figure import Figure as MatplotlibFigure

from medresnet3d.io.atomic import atomic_path
from medresnet3d.networks.layers.activations import SURVEY, activation
from medresnet3d.optimizers.figure_presets import FIGURES, INITIAL_RATE, ITERATIONS
from medresnet3d.reports.blocks import Block, Figure, Heading, Report, Text
from medresnet3d.reports.comparison_figures import lines_plot, small_panels
from medresnet3d.reports.html import figure_bytes, write_report

_REACH = 4.0
_INFERRED = (
    "The survey names the decays of each figure, some colours, the initial rate and the number of iterations. All "
    "other hyper-parameters are inferred: they make the shapes that its text describes."
)


def draw_curves(output: str | os.PathLike[str]) -> Path:
    """Draw figures 2 to 5 of the survey and the activations as PNG and SVG, and a page with all of them.

    Args:
        output: folder for the files.

    Returns:
        The page.
    """
    folder = Path(output)
    blocks: list[Block] = [
        Heading("Learning-rate decays", f"Initial rate {INITIAL_RATE}, {ITERATIONS} iterations."),
        Text(_INFERRED),
        *(
            Figure(
                _save(schedule_figure(number), folder / f"figure_{number}"),
                f"After figure {number} of the survey: {title}.",
            )
            for number, (title, _) in FIGURES.items()
        ),
        Heading("Activations"),
        Figure(_save(activation_figure(), folder / "activations"), "The survey's activations and their derivatives."),
    ]
    return write_report(Report("The survey's curves", "Computed by medresnet3d", blocks), folder / "report.html")


def _schedules(number: int, folder: Path) -> Figure:
    image = _save(schedule_figure(number), folder / f"figure_{number}")
    return Figure(image, f"After figure {number} of the survey: {FIGURES[number][0]}.")


def _save(figure: MatplotlibFigure, path: Path) -> bytes:
    image = figure_bytes(figure)
    with atomic_path(path.with_suffix(".svg")) as temporary:
        temporary.write_bytes(image)
    with atomic_path(path.with_suffix(".png")) as temporary:
        figure.savefig(temporary, dpi=150, bbox_inches="tight", facecolor="white")
    return image


def schedule_figure(number: int) -> MatplotlibFigure:
    """Draw one of the survey's figures 2 to 5."""
    curves = FIGURES[number][1]
    lines = {curve.label: (list(range(ITERATIONS)), curve.values()) for curve in curves}
    return lines_plot(lines, "iteration", "learning rate", [f"tab:{curve.colour}" for curve in curves])


def activation_curves() -> dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Give (x, y, dy/dx) of each activation as it is in evaluation; maxout has no curve before it is trained."""
    curves = {}
    for name in SURVEY:
        if name == "maxout":
            continue
        x = torch.linspace(-_REACH, _REACH, 401, dtype=torch.float64, requires_grad=True)
        y = activation(name).double().eval()(x[None, None])[0, 0]
        (slope,) = torch.autograd.grad(y.sum(), x)
        curves[name] = (x.detach(), y.detach(), slope)
    return curves


def activation_figure() -> MatplotlibFigure:
    """Draw the activations and their derivatives, a panel each."""
    panels = {name: {"value": (x, y), "derivative": (x, slope)} for name, (x, y, slope) in activation_curves().items()}
    return small_panels(panels)
