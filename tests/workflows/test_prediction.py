from __future__ import annotations

import numpy as np
import pytest

from medresnet3d.workflows.prediction import structure_volumes


def test_volumes_in_millilitres() -> None:
    pred = np.zeros((4, 5, 6), np.uint8)
    pred[:2] = 1
    pred[3, 0, 0] = 7
    affine = np.array([[0, -2.0, 0, 9], [3.0, 0, 0, 9], [0, 0, 5.0, 9], [0, 0, 0, 1]])
    volumes = structure_volumes(("background", "organ", "absent"), pred, affine)
    assert volumes == {"organ": pytest.approx(60 * 30 / 1000), "absent": 0, "label 7": pytest.approx(0.03)}
