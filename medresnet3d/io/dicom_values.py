"""Values of DICOM tags as plain Python: an absent or unreadable value is never an error here.

A series is hundreds of headers of which a few dozen values are needed. Values that are plain text in the file are taken
from there, which is much quicker than to have pydicom make an element of its own of each.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.errors import BytesLengthException
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag

_PLAIN = frozenset(("CS", "UI", "IS", "DS", "DA", "TM", "DT"))
"""Value representations in plain ASCII."""


def text(dataset: Dataset, name: str, default: str = "") -> str:
    """Give a tag as text, several values with a backslash between; an absent or unreadable one gives ``default``."""
    found, plain = _plain(dataset, name)
    if plain is not None:
        return plain or default
    if not found:
        return default
    try:
        value = dataset.get(name)
    except (ValueError, TypeError, UnicodeError, BytesLengthException):
        return default
    if value is None or value == "":
        return default
    return "\\".join(map(str, value)) if _is_multi(value) else str(value)


def numbers(dataset: Dataset, name: str, count: int) -> NDArray[np.float64] | None:
    """Give a numeric tag as ``count`` finite floats, or ``None`` if it is absent, unreadable or of another length."""
    found, plain = _plain(dataset, name)
    if not found:
        return None
    try:
        value = dataset.get(name) if plain is None else plain.split("\\")
        if value is None or value == "":
            return None
        array = np.array(value if _is_multi(value) else [value], dtype=np.float64)
    except (ValueError, TypeError, BytesLengthException):
        return None
    return array if array.shape == (count,) and np.isfinite(array).all() else None


def number(dataset: Dataset, name: str) -> float | None:
    """Give a numeric tag as a float, or ``None`` if it is absent or unreadable."""
    found = numbers(dataset, name, 1)
    return None if found is None else float(found[0])


def private_number(dataset: Dataset, tag: BaseTag) -> float | None:
    """Give a private numeric tag as a float, also where its type was lost on the way (``UN``), or ``None``.

    Of several values it is the first.
    """
    try:
        value = dataset[tag].value if tag in dataset else None
        if isinstance(value, bytes):
            binary = len(value) in (2, 4) and value.endswith(b"\0")
            value = int.from_bytes(value, "little") if binary else value.decode("ascii").strip(" \0")
        elif value is not None and _is_multi(value):
            value = value[0]
        return None if value is None or value == "" else float(value)
    except (ValueError, TypeError, LookupError, NotImplementedError):
        return None


def _plain(dataset: Dataset, name: str) -> tuple[bool, str | None]:
    """Tell whether a tag is there, and give its text if it is still as it was in the file."""
    tag, usual = _entry(name)
    element = dataset.get_item(tag) if tag in dataset else None
    if element is None:
        return False, None
    if not isinstance(element, RawDataElement) or (element.VR or usual) not in _PLAIN or element.value is None:
        return True, None
    try:
        return True, "\\".join(part.strip(" \0") for part in element.value.decode("ascii").split("\\"))
    except UnicodeDecodeError:
        return True, None


@cache
def _entry(name: str) -> tuple[BaseTag, str]:
    """Give the tag of a keyword and its usual value representation."""
    tag = Tag(tag_for_keyword(name) or 0)
    return tag, dictionary_VR(tag)


def _is_multi(value: Any) -> bool:
    return isinstance(value, (MultiValue, list, tuple, np.ndarray))
