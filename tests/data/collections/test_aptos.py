from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.data.collections.trap import Result, paint, write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    for name in ("a", "b", "c", "d"):
        paint(tmp_path / "aptos" / "train_images" / f"{name}.png", rng.integers(20, 230, (60, 60, 3)))
    return tmp_path / "aptos"


def pixels(root: Path, name: str) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(root / "train_images" / f"{name}.png")).astype(int)


def test_exact_copies_stay_once_or_not_at_all(root: Path) -> None:
    for copy, source in (("a2", "a"), ("b2", "b")):
        paint(root / "train_images" / f"{copy}.png", pixels(root, source))
    write(root / "train.csv", "id_code,diagnosis\na,0\na2,0\nb,1\nb2,2\nc,3\nd,4\n")
    result = Result("aptos", root)
    assert sorted(result.by_name()) == ["a.png", "c.png", "d.png"]
    assert result.dropped == {"copy of another image": 1, "copies with different labels": 2}


def test_what_looks_the_same_is_one_group(root: Path) -> None:
    paint(root / "train_images" / "a2.png", np.clip(pixels(root, "a") + 6, 0, 255))
    write(root / "train.csv", "id_code,diagnosis\na,0\na2,0\nb,1\nc,3\nd,4\n")
    groups = Result("aptos", root).values("patient")
    assert groups["a.png"] == groups["a2.png"]
    assert len(set(groups.values())) == 4
    apart = Result("aptos", root, options={"near_duplicates": "no"}).values("patient")
    assert len(set(apart.values())) == 5


def test_the_test_part_has_no_public_grades(root: Path) -> None:
    paint(root / "test_images" / "x.png")
    write(root / "train.csv", "id_code,diagnosis\na,0\nb,1\nc,3\nd,4\n")
    write(root / "test.csv", "id_code\nx\n")
    result = Result("aptos", root)
    assert "test" not in result.raw
    assert result.dropped == {"test image whose grade is not public": 1}
