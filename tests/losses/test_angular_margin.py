from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medresnet3d.errors import ConfigError
from medresnet3d.losses.angular_margin import AngularMarginLoss, angular_margin

ANGLES = [0, math.pi / 8, math.pi / 4, math.pi / 3, math.pi / 2, 2 * math.pi / 3, math.pi]
ROWS = {2: [1, 0.707107, 0, -0.5, -1, -1.5, -3], 4: [1, 0, -1, -1.5, -3, -4.5, -7]}


def reference(theta: np.ndarray, margin: int) -> np.ndarray:
    """The paper's piecewise definition, by the angle."""
    k = np.clip(np.floor(theta * margin / np.pi), 0, margin - 1)
    return (-1) ** k * np.cos(margin * theta) - 2 * k


@pytest.mark.parametrize("margin", ROWS)
def test_reference_values(margin: int) -> None:
    values = angular_margin(torch.tensor(ANGLES, dtype=torch.float64).cos(), margin)
    torch.testing.assert_close(values, torch.tensor(ROWS[margin], dtype=torch.float64), atol=1e-6, rtol=0)


@given(st.lists(st.floats(0, math.pi), min_size=1, max_size=50), st.integers(1, 6))
def test_agrees_with_the_definition_by_the_angle(angles: list[float], margin: int) -> None:
    theta = np.array(angles)
    values = angular_margin(torch.from_numpy(np.cos(theta)), margin).numpy()
    np.testing.assert_allclose(values, reference(theta, margin), atol=1e-6)


@pytest.mark.parametrize("margin", range(1, 7))
def test_falls_from_one_without_a_jump(margin: int) -> None:
    values = angular_margin(torch.linspace(0, math.pi, 10_001, dtype=torch.float64).cos(), margin)
    steps = values.diff()
    assert float(values[0]) == 1 and float(values[-1]) == pytest.approx(1 - 2 * margin)
    assert float(steps.max()) <= 1e-12 and float(steps.min()) > -0.01


def test_a_margin_of_one_is_none() -> None:
    cosine = torch.linspace(-1, 1, 11)
    assert torch.equal(angular_margin(cosine, 1), cosine)


@pytest.mark.parametrize("margin", range(2, 6))
def test_slope_is_finite_where_that_of_the_arc_cosine_is_not(margin: int) -> None:
    cosine = torch.tensor([-1.0, 1.0], requires_grad=True)
    angular_margin(cosine, margin).sum().backward()
    assert cosine.grad.tolist() == pytest.approx([margin**2, margin**2])


@pytest.mark.parametrize("margin", [0, 2.5])
def test_impossible_margins_are_named(margin: float) -> None:
    with pytest.raises(ConfigError, match="an angular margin is a whole number"):
        AngularMarginLoss(margin)  # type: ignore[arg-type]
