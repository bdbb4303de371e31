from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medresnet3d.data.preparation.masks import foreground, layered, picture_shape, read_grey
from medresnet3d.errors import DataError


def save(path: Path, values: list[list[int]], mode: str = "L") -> Path:
    Image.fromarray(np.array(values, np.uint8)).convert(mode).save(path)
    return path


@pytest.mark.parametrize("values", [[[0, 255], [0, 255]], [[0, 1], [0, 1]], [[9, 250], [0, 255]]])
def test_black_and_white_becomes_zero_and_one(tmp_path: Path, values: list[list[int]]) -> None:
    assert foreground(save(tmp_path / "m.png", values)).tolist() == [[0, 1], [0, 1]]


def test_an_empty_mask_stays_empty(tmp_path: Path) -> None:
    assert foreground(save(tmp_path / "m.png", [[0, 0]])).tolist() == [[0, 0]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
@pytest.mark.parametrize("suffix", [".gif", ".png", ".tif"])
def test_every_mode_of_every_format(tmp_path: Path, mode: str, suffix: str) -> None:
    path = save(tmp_path / f"m{suffix}", [[0, 255], [255, 0]], mode)
    assert read_grey(path).tolist() in ([[0, 255], [255, 0]], [[False, True], [True, False]])
    assert foreground(path).tolist() == [[0, 1], [1, 0]]


def test_the_later_of_two_overlapping_masks_wins(tmp_path: Path) -> None:
    low, high = save(tmp_path / "a.png", [[255, 255, 0]]), save(tmp_path / "b.png", [[0, 255, 0]])
    assert layered((1, 3), [(1, low), (2, high), (3, None)]).tolist() == [[1, 2, 0]]
    with pytest.raises(DataError, match=r"a\.png: the mask has \(1, 3\) pixels, but the image has \(2, 3\)"):
        layered((2, 3), [(1, low)])
    assert picture_shape(low) == (1, 3)


def test_a_damaged_mask(tmp_path: Path) -> None:
    (tmp_path / "m.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DataError, match="the mask cannot be read"):
        read_grey(tmp_path / "m.png")
