"""Sliding-window inference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medresnet3d._lazy import lazy_names

if TYPE_CHECKING:
    from medresnet3d.inferers.flips import FlipInferer
    from medresnet3d.inferers.report import InferenceReport
    from medresnet3d.inferers.sliding_window import SlidingWindowInferer
    from medresnet3d.inferers.two_stage import TwoStageInferer

_HOMES = {
    "FlipInferer": "flips",
    "InferenceReport": "report",
    "SlidingWindowInferer": "sliding_window",
    "TwoStageInferer": "two_stage",
}

__all__ = ["FlipInferer", "InferenceReport", "SlidingWindowInferer", "TwoStageInferer"]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
