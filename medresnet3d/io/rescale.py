"""From stored values to real ones without widening the data type more than needed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def rescale(
    array: NDArray[Any],
    slope: float,
    intercept: float,
    *,
    limits: tuple[int, int] | None = None,
    reuse: bool = False,
) -> NDArray[Any]:
    """Apply ``slope * array + intercept`` and choose the smallest fitting type.

    Args:
        array: stored values, any shape and byte order.
        slope: factor.
        intercept: added afterwards.
        limits: the smallest and the largest stored value, where known already.
        reuse: whether ``array`` may be overwritten by the result.

    Returns:
        The same object (in native byte order) for slope 1 and intercept 0; integers of int16 or int32 where slope is 1,
        the intercept whole and every stored value fits; else float32, or float64 for float64 input.
    """
    native = array.astype(array.dtype.newbyteorder("="), copy=False) if array.dtype.names is None else array
    if slope == 1 and intercept == 0:
        return native
    if slope == 1 and float(intercept).is_integer() and native.dtype.kind in "iu":
        low, high = limits or (int(native.min()), int(native.max()))
        wanted = integer_type(low, high, int(intercept))
        if wanted is not None:
            return _shifted(native, int(intercept), wanted, reuse=reuse)
    kind = np.float64 if native.dtype == np.float64 else np.float32
    result = native.astype(kind)
    np.multiply(result, kind(slope), out=result)
    return np.add(result, kind(intercept), out=result)


def _shifted(array: NDArray[Any], intercept: int, wanted: np.dtype[Any], *, reuse: bool) -> NDArray[Any]:
    """Add a whole number; the range was checked, so that wrapping around in between does no harm."""
    if wanted.itemsize == array.dtype.itemsize:
        same = array.view(wanted)
        return np.add(same, wanted.type(intercept), out=same if reuse else None)
    return np.add(array, wanted.type(intercept), dtype=wanted, casting="unsafe")


def integer_type(low: int, high: int, intercept: int) -> np.dtype[Any] | None:
    """Give int16 or int32, whichever holds ``low`` and ``high`` with and without ``intercept``; ``None`` if neither."""
    for kind in (np.int16, np.int32):
        limits = np.iinfo(kind)
        if limits.min <= min(low, low + intercept, intercept) and max(high, high + intercept, intercept) <= limits.max:
            return np.dtype(kind)
    return None
