from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medresnet3d.inferers.foreground import Foreground, find_foreground, volume, widen_for_free


def image_with_box(sizes: list[int], background: float, box: tuple[slice, ...]) -> torch.Tensor:
    image = torch.full((1, 1, *sizes), background)
    image[(..., *box)] = background + 1 + torch.rand(image[(..., *box)].shape)
    return image


@given(st.lists(st.integers(10, 45), min_size=2, max_size=3), st.sampled_from([0.0, -1000.0, 0.3]), st.randoms())
@settings(max_examples=60, deadline=None)
def test_everything_that_is_no_background_is_in_the_box(sizes: list[int], background: float, random: object) -> None:
    box = tuple(slice(size // 3, size // 3 + 1 + random.randrange(size // 3)) for size in sizes)  # type: ignore[attr-defined]
    image = image_with_box(sizes, background, box)
    for given_value in (None, background):
        found = find_foreground(image, given_value)
        assert found is not None
        edges = found.box()
        assert edges is not None
        for (start, stop), part in zip(edges, box, strict=True):
            assert start <= part.start < part.stop <= stop
            assert start > part.start - 4
            assert stop < part.stop + 4
        assert found.holds(box)


def test_windows_hold_something_or_not() -> None:
    found = find_foreground(image_with_box([40, 40], 0, (slice(16, 20), slice(24, 25))))
    assert found is not None
    assert found.holds((slice(8, 17), slice(20, 28)))
    assert not found.holds((slice(0, 16), slice(0, 40)))
    assert not found.holds((slice(-8, 0), slice(0, 40)))


def test_margin_stays_inside_the_image() -> None:
    found = find_foreground(image_with_box([40, 40], 0, (slice(16, 20), slice(4, 8))))
    assert found is not None
    assert found.box(10) == ((6, 30), (0, 18))


def test_each_channel_has_its_own_background_and_any_image_counts() -> None:
    image = torch.zeros(2, 2, 24, 24)
    image[:, 1] = -3
    image[0, 0, 8:12, 8:12] = 1
    image[1, 1, 16:20, 8:12] = 1
    found = find_foreground(image)
    assert found is not None
    assert found.box() == ((8, 20), (8, 12))


def test_nothing_at_all() -> None:
    found = find_foreground(torch.full((1, 1, 20, 20), 7, dtype=torch.int16))
    assert found is not None
    assert found.box() is None


def test_a_body_in_dark_noise_is_found_with_what_is_dark_inside() -> None:
    random = torch.Generator().manual_seed(0)
    image = torch.randn(1, 1, 96, 96, 48, generator=random) * 20 - 1000
    image[:, :, 24:72, 28:68] += 1050
    image[:, :, 36:60, 36:60] -= 850  # the lungs
    found = find_foreground(image)
    assert found is not None
    box = found.box()
    assert box is not None
    assert all(
        start <= first and stop >= last for (start, stop), (first, last) in zip(box, [(24, 72), (28, 68)], strict=False)
    )
    assert volume(box) < 0.5 * 96 * 96 * 48
    assert found.holds((slice(44, 52), slice(44, 52), slice(20, 28)))
    assert not found.holds((slice(0, 12), slice(0, 12), slice(0, 48)))


def test_no_background_no_foreground() -> None:
    random = torch.Generator().manual_seed(0)
    assert find_foreground(torch.rand(1, 1, 40, 40, generator=random)) is None
    assert find_foreground(torch.full((1, 1, 40, 40), float("nan"))) is None


def test_box_is_widened_as_far_as_it_costs_no_window() -> None:
    widened = widen_for_free([(30, 60), (0, 8), (5, 9)], (100, 50, 7), (16, 16, 16), (8, 8, 8))
    assert widened == ((29, 61), (0, 16), (0, 7))
    assert widen_for_free([(30, 62)], (100,), (16,), (8,)) == ((30, 62),)


def test_cells_of_a_given_mask() -> None:
    cells = np.zeros((3, 2), bool)
    cells[1, 1] = True
    assert Foreground(cells, (10, 6)).box() == ((4, 8), (4, 6))
