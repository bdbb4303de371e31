from __future__ import annotations

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from medresnet3d.data import likeness
from medresnet3d.data.likeness import (
    AGREEMENT,
    SIGNS_BYTES,
    agreement,
    array_signs,
    content_digest,
    near_duplicate_groups,
    picture_signs,
)
from tests.data.checking.cohorts import texture


def alike(first: Image.Image, second: Image.Image) -> float:
    return float(agreement(picture_signs(first), picture_signs(second))[0, 0])


def as_jpeg(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


seeds = st.integers(0, 10_000)


@settings(max_examples=40, deadline=None)
@given(
    seed=seeds,
    brightness=st.floats(0.75, 1.1),
    size=st.tuples(st.integers(130, 400), st.integers(100, 300)),
    quality=st.integers(60, 95),
)
def test_a_copy_that_is_brightened_resized_and_encoded_again_is_near(
    seed: int, brightness: float, size: tuple[int, int], quality: int
) -> None:
    picture = texture(seed, (240, 180))
    copy = as_jpeg(ImageEnhance.Brightness(picture).enhance(brightness).resize(size), quality)
    assert alike(picture, copy) >= AGREEMENT


@settings(max_examples=60, deadline=None)
@given(first=seeds, second=seeds)
def test_another_picture_is_far(first: int, second: int) -> None:
    if first != second:
        assert alike(texture(first), texture(second)) < AGREEMENT - 0.2


@settings(max_examples=20, deadline=None)
@given(seed=seeds, left=st.integers(0, 40), top=st.integers(0, 40))
def test_a_black_border_does_not_matter(seed: int, left: int, top: int) -> None:
    picture = texture(seed, (240, 180))
    framed = Image.new("RGB", (240 + left + 11, 180 + top + 7))
    framed.paste(picture, (left, top))
    assert alike(picture, framed) >= AGREEMENT


def test_arrays_of_any_type_are_compared_like_pictures() -> None:
    picture = texture(3, (120, 90)).convert("L")
    pixels = np.asarray(picture).T
    expected = picture_signs(picture)
    assert array_signs(pixels).shape == (SIGNS_BYTES,)
    np.testing.assert_array_equal(array_signs(pixels), expected)
    for other in (pixels.astype(np.uint16) * 200, pixels.astype(np.float32) * 3 - 700):
        assert agreement(array_signs(other), expected)[0, 0] > 0.95
    colour = np.asarray(texture(3, (120, 90))).swapaxes(0, 1)
    np.testing.assert_array_equal(array_signs(colour), picture_signs(texture(3, (120, 90))))


@pytest.mark.parametrize("block", [2, 3, 2048])
def test_groups_are_those_of_a_plain_search_whatever_the_block(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "BLOCK", block)
    order = [5, 1, 2, 1, 3, 5, 4, 5]
    packed = np.stack([picture_signs(texture(seed)) for seed in order])
    groups = near_duplicate_groups(packed)
    for (one, first), (two, second) in itertools.combinations(enumerate(order), 2):
        assert (groups[one] == groups[two]) == (first == second)


def test_groups_go_through_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain of pictures, each like the next only."""
    monkeypatch.setattr(likeness, "BLOCK", 2)
    signs = np.where(np.random.default_rng(0).random(1024) < 0.5, 1, -1)
    chain = [signs.copy() for _ in range(5)]
    for number, link in enumerate(chain):
        link[: 80 * number] *= -1
    packed = np.stack([packed_of(link) for link in chain])
    assert agreement(packed[:1], packed[1:2])[0, 0] > AGREEMENT > agreement(packed[:1], packed[2:3])[0, 0]
    assert len(set(near_duplicate_groups(packed))) == 1


def packed_of(signs: NDArray[np.int64]) -> NDArray[np.uint8]:
    return np.concatenate([np.packbits(signs > 0), np.packbits(signs < 0)])


def test_what_is_nearly_empty_is_like_nothing() -> None:
    empty = np.zeros((2, SIGNS_BYTES), np.uint8)
    assert agreement(empty, empty).max() == 0
    assert len(set(near_duplicate_groups(empty))) == 2
    assert near_duplicate_groups(empty[:0]) == []


def test_the_digest_is_of_the_bytes_alone(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder / "deep").mkdir(parents=True)
        (tmp_path / folder / "a.dcm").write_bytes(b"a")
        (tmp_path / folder / "deep" / "b.dcm").write_bytes(b"b")
    one, two = tmp_path / "one", tmp_path / "two"
    assert content_digest([one]) == content_digest([two]) != content_digest([one / "a.dcm"])
    assert content_digest([one / "a.dcm", one / "deep" / "b.dcm"]) == content_digest([one])
    (two / "deep" / "b.dcm").write_bytes(b"c")
    assert content_digest([one]) != content_digest([two])
