from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from medresnet3d.data.checking import hounsfield
from medresnet3d.data.checking.hounsfield import is_ct, judge_hounsfield
from tests.data.checking.cohorts import body

SCAN = body(1).astype(np.float32).ravel()
RNG = np.random.default_rng(0)
CASES: dict[str, tuple[NDArray[np.float32], str]] = {
    "a body in air": (SCAN, hounsfield.UNITS),
    "a crop of lung": (RNG.normal(-860, 30, 4000), hounsfield.UNITS),
    "a crop of liver": (RNG.normal(90, 15, 4000), hounsfield.UNCLEAR),
    "a crop of an opacified vessel": (RNG.normal(350, 30, 4000), hounsfield.UNCLEAR),
    "a body clipped to a window": (np.clip(SCAN, -160, 240), hounsfield.UNITS),
    "padding": (np.where(RNG.random(SCAN.size) < 0.2, -3024, SCAN), hounsfield.PADDED),
    "a little padding": (np.where(np.arange(SCAN.size) < 5, -2000, SCAN), hounsfield.PADDED),
    "bytes": (np.clip((SCAN + 1000) / 5, 0, 255).round(), hounsfield.BYTES),
    "zero to one": ((SCAN + 1024) / 4096, hounsfield.UNIT_RANGE),
    "minus one to one": (SCAN / 1100, hounsfield.UNIT_RANGE),
    "stored values": (SCAN + 1024, hounsfield.NO_INTERCEPT),
    "a wrong slope": (SCAN * 0.55, hounsfield.AIR_ELSEWHERE),
    "far too large": (SCAN * 300, hounsfield.OUT_OF_RANGE),
    "far too small": (SCAN - 9000, hounsfield.OUT_OF_RANGE),
    "a shape": ((SCAN > 0).astype(np.float32) * 255, hounsfield.TWO_VALUES),
}


@pytest.mark.parametrize("name", CASES)
def test_kinds_of_values(name: str) -> None:
    values, kind = CASES[name]
    values = np.asarray(values, dtype=np.float32)
    assert judge_hounsfield(values, float(values.min()), float(values.max())) == kind


@pytest.mark.parametrize(
    ("modality", "ct"),
    [("CT", True), ("chest ct", True), ("CT, contrast", True), ("PET/CT", False), ("MR T1", False), ("OCT", False)],
)
def test_modalities(modality: str, ct: bool) -> None:
    assert is_ct(modality) is ct
