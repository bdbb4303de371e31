"""What an inferer says about a call that it has finished."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class InferenceReport:
    """How an image was computed.

    Attributes:
        strategy: ``windows``, ``halo``, ``whole`` or ``exact``.
        reason: why ``auto`` chose that strategy; empty where the caller did.
        precision: number format of the network's computations: ``fp32``, ``bf16`` or ``fp16``.
        backend: ``torch`` or ``openvino``.
        windows_total: windows, or tiles, of the planned grid, all images of the batch together.
        windows_run: those that were computed.
        left_out: share of the voxels that no computed window covers, and that got the declared answer.
        crop: first voxel and the one after the last, along each spatial axis, of the box that was computed; ``None``:
            the whole image.
        halo: voxels along each axis that a tile was widened by on each side; ``None``: no tiles.
        flips: spatial axes along which windows were mirrored for averaging.
        views: how many mirrored or turned views of each window were averaged, 1 for the window as it is.
        kept_bytes: the most memory that unfinished sums and their buffers took, beside the output.
        seconds: duration of the call.
        notes: what else happened, e.g. after too little memory, or why the network runs in a slower form.
    """

    strategy: str
    precision: str
    backend: str = "torch"
    reason: str = ""
    windows_total: int = 0
    windows_run: int = 0
    left_out: float = 0.0
    crop: tuple[tuple[int, int], ...] | None = None
    halo: tuple[int, ...] | None = None
    flips: tuple[int, ...] = ()
    views: int = 1
    kept_bytes: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def windows_skipped(self) -> int:
        """Windows that were left out because there is nothing in them."""
        return self.windows_total - self.windows_run

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes as plain values, for JSON."""
        return {**asdict(self), "windows_skipped": self.windows_skipped}
