"""What the benchmarks' simple baselines are made of: a baseline that is wrong makes every lead wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import pictures

    return pictures


def test_histograms_are_of_the_colours_of_pixels(pictures: Any, tmp_path: Path) -> None:
    pixels = np.zeros((6, 9, 3), np.uint8)
    pixels[:, :6] = (255, 0, 0)
    pixels[:, 6:] = (0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "red.png")
    found = pictures.histograms(str(tmp_path / "red.png"))
    assert np.allclose(found[-6:], [2 / 3, 0, 1 / 3, 2**0.5 / 3, 0, 2**0.5 / 3])
    red = found[: pictures.BINS]
    assert np.allclose([red[0], red[-1]], [1 / 3, 2 / 3]) and np.isclose(sum(red), 1)
