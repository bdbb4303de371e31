from __future__ import annotations

import pytest

from medresnet3d.networks.width import scaled


@pytest.mark.parametrize(
    ("channels", "width", "expected"), [(64, 1.0, 64), (64, 0.25, 16), (728, 0.25, 182), (2, 0.1, 1)]
)
def test_scaled(channels: int, width: float, expected: int) -> None:
    assert scaled(channels, width) == expected
