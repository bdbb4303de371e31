from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medresnet3d.optimizers.figure_presets import FIGURES
from medresnet3d.workflows.curves import activation_curves, draw_curves, schedule_figure


def test_every_figure_is_a_picture_in_two_formats_and_on_the_page(tmp_path: Path) -> None:
    page = draw_curves(tmp_path)
    for name in ("figure_2", "figure_3", "figure_4", "figure_5", "activations"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (tmp_path / f"{name}.svg").read_bytes()
    text = page.read_text()
    assert text.count("<img") >= 5 and "hyper-parameters are inferred" in text


@pytest.mark.parametrize("number", FIGURES)
def test_figures_hold_the_computed_rates(number: int) -> None:
    (axes,) = schedule_figure(number).axes
    assert [list(line.get_ydata()) for line in axes.lines] == [curve.values() for curve in FIGURES[number][1]]


def test_activations_have_their_known_values() -> None:
    curves = activation_curves()
    assert len(curves) == 8
    _, y, slope = curves["sigmoid"]
    assert torch.allclose(slope, y * (1 - y))
    at_minus_two = {name: float(y[x == -2]) for name, (x, y, _) in curves.items()}
    assert at_minus_two["prelu"] == pytest.approx(-0.5)
    assert at_minus_two["rrelu"] == pytest.approx(-2 / 5.5)
    assert at_minus_two["elu"] == pytest.approx(-0.8647, abs=1e-4)
