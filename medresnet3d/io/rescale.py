"""From stored values to real ones without widening the data type more than needed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def rescale(array: NDArray[Any], slope: float, intercept: float) -> NDArray[Any]:
    """Apply ``slope * array + intercept`` and choose the smallest fitting type.

    Args:
        array: stored values, any shape and byte order.
        slope: factor.
        intercept: added afterwards.

    Returns:
        The same object (in native byte order) for slope 1 and intercept 0; integers of int16 or int32 where slope is 1,
        the intercept whole and every possible stored value fits; else float32, or float64 for float64 input.
    """
    native = array.astype(array.dtype.newbyteorder("="), copy=False) if array.dtype.names is None else array
    if slope == 1 and intercept == 0:
        return native
    if slope == 1 and float(intercept).is_integer() and native.dtype.kind in "iu":
        wanted = integer_type(native, int(intercept))
        if wanted is not None:
            return np.add(native, wanted.type(intercept), dtype=wanted, casting="unsafe")  # the range was checked
    kind = np.float64 if native.dtype == np.float64 else np.float32
    result = native.astype(kind)
    np.multiply(result, kind(slope), out=result)
    return np.add(result, kind(intercept), out=result)


def integer_type(array: NDArray[Any], intercept: int) -> np.dtype[Any] | None:
    """Give int16 or int32, whichever holds ``array`` and ``array + intercept``; ``None`` if neither does."""
    low, high = int(array.min()), int(array.max())
    for kind in (np.int16, np.int32):
        limits = np.iinfo(kind)
        if limits.min <= min(low, low + intercept, intercept) and max(high, high + intercept, intercept) <= limits.max:
            return np.dtype(kind)
    return None
