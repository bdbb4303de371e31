"""Width multiplier shared by the slim variants of all network families."""

from __future__ import annotations


def scaled(channels: int, width: float) -> int:
    """Number of channels at a width factor: ``channels * width``, rounded, at least one.

    Args:
        channels: the published number of channels.
        width: factor; 1.0 is the published size.

    >>> scaled(64, 0.25), scaled(728, 0.25), scaled(32, 1.0)
    (16, 182, 32)
    """
    return max(1, round(channels * width))
