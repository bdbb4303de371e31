from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from medresnet3d.data.preparation.copies import near_duplicate_groups


def photograph(seed: int, size: int = 400) -> Image.Image:
    """A bright disc with blurred structure on black, as a fundus photograph is."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(60, 250, (12, 12, 3)).astype(np.uint8))
    pixels = np.asarray(small.resize((size, size), Image.Resampling.BICUBIC)).copy()
    rows, columns = np.indices((size, size)) - size / 2
    pixels[rows**2 + columns**2 > (0.45 * size) ** 2] = 0
    return Image.fromarray(pixels)


def test_changed_copies_are_one_group_and_others_are_not(tmp_path: Path) -> None:
    first = photograph(1)
    first.save(tmp_path / "first.png")
    first.save(tmp_path / "jpeg.jpg", quality=80)
    first.resize((240, 240)).save(tmp_path / "small.png")
    framed = Image.new("RGB", (500, 440))
    framed.paste(first, (30, 10))
    framed.save(tmp_path / "framed.png")
    for seed in (2, 3, 4):
        photograph(seed).save(tmp_path / f"other{seed}.png")
    paths = [tmp_path / name for name in ("first.png", "jpeg.jpg", "small.png", "framed.png")]
    others = [tmp_path / f"other{seed}.png" for seed in (2, 3, 4)]
    groups = near_duplicate_groups(paths + others)
    assert len(set(groups[:4])) == 1
    assert len(set(groups)) == 4


def test_a_black_picture_is_no_failure(tmp_path: Path) -> None:
    Image.new("L", (50, 50)).save(tmp_path / "black.png")
    photograph(1).save(tmp_path / "a.png")
    assert len(set(near_duplicate_groups([tmp_path / "black.png", tmp_path / "a.png"]))) == 2
