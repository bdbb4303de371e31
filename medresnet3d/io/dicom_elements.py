"""DICOM headers in one quick pass: elements stay raw until they are asked for, pixel data stay in the file.

A series is hundreds of files, and a general reader is slow at them. The pass made here knows the usual encodings
only and gives pydicom's own elements; whatever else it meets is left to pydicom.
"""

from __future__ import annotations

import os
import struct
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pydicom import Dataset, dcmread
from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import RawDataElement, convert_raw_data_element, empty_value_for_VR
from pydicom.dataset import FileMetaDataset
from pydicom.tag import BaseTag
from pydicom.uid import UID, ImplicitVRLittleEndian
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, STANDARD_VR

from medresnet3d.io.reading import is_dicom

FIRST_READ = 65536
UNDEFINED = 0xFFFFFFFF
PIXEL_TAGS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
_CHARACTER_SET = BaseTag(0x00080005)
_TRANSFER_SYNTAX = BaseTag(0x00020010)
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_VRS = {str(vr).encode(): str(vr) for vr in STANDARD_VR}
_LONG = frozenset(str(vr).encode() for vr in EXPLICIT_VR_LENGTH_32)
_EMPTY: dict[str | None, Any] = {vr: empty_value_for_VR(vr, raw=True) for vr in [*_VRS.values(), None]}
_explicit = struct.Struct("<HH2sH").unpack_from
_implicit = struct.Struct("<HHL").unpack_from
_length = struct.Struct("<L").unpack_from


class PixelPlace(NamedTuple):
    """Where the pixel data of a file are.

    Args:
        keyword: ``"PixelData"``, ``"FloatPixelData"`` or ``"DoubleFloatPixelData"``.
        vr: value representation, or ``None`` where it is implicit.
        offset: of the value, bytes from the start of the file.
        length: of the value in bytes; ``UNDEFINED`` where it ends with a delimiter.
    """

    keyword: str
    vr: str | None
    offset: int
    length: int


class Header(Dataset):
    """All elements of a file before its pixel data, as pydicom's data set, and where the pixel data are.

    Args:
        elements: raw elements by tag.
        file_meta: the elements of group 2.
        pixels: where the pixel data are; ``None`` if there are none.
    """

    def __init__(self, elements: Any, file_meta: FileMetaDataset, pixels: PixelPlace | None) -> None:
        super().__init__(elements)
        self.file_meta = file_meta
        self.pixels = pixels


class _IncompleteError(Exception):
    """The bytes end before the header does."""


class _UnusualError(Exception):
    """The encoding is one that pydicom has to read."""


def read_header(path: Path) -> Dataset:
    """Read the header of a DICOM file.

    Args:
        path: the file.

    Returns:
        A :class:`Header`, or pydicom's own data set for deflated, big-endian and irregular files.

    Raises:
        InvalidDicomError, EOFError, OSError, ValueError, NotImplementedError, AttributeError: if the file is damaged or
            no DICOM file.
    """
    with path.open("rb", buffering=0) as handle:
        size = os.fstat(handle.fileno()).st_size
        content = b""
        try:
            for wanted in (FIRST_READ, 16 * FIRST_READ, size):
                content += handle.read(max(wanted - len(content), 0)) or b""
                try:
                    return _scan(content, whole=len(content) >= size)
                except _IncompleteError:
                    continue
        except _UnusualError:
            pass
    return dcmread(path, stop_before_pixels=True, force=is_dicom(path))


def _scan(content: bytes, *, whole: bool) -> Header:
    if content[128:132] != b"DICM":
        raise _UnusualError
    try:
        meta, position, _ = _elements(content, 132, explicit=True, meta=True)
        explicit = _is_explicit(meta)
        if not explicit and content[position + 4 : position + 6] in _VRS:
            raise _UnusualError
        found, position, pixels = _elements(content, position, explicit=explicit, meta=False)
    except struct.error as error:
        raise (_UnusualError if whole else _IncompleteError) from error
    if pixels is None:
        raise _UnusualError if whole else _IncompleteError
    file_meta = FileMetaDataset(meta)
    file_meta.set_original_encoding(False, True, default_encoding)
    header = Header(found, file_meta, pixels)
    element = found.get(_CHARACTER_SET)
    header.set_original_encoding(not explicit, True, default_encoding if element is None else _encodings(element))
    return header


def _is_explicit(meta: dict[BaseTag, Any]) -> bool:
    element = meta.get(_TRANSFER_SYNTAX)
    if element is None or not element.value:
        raise _UnusualError
    syntax = UID(element.value.rstrip(b"\0 ").decode("ascii", "replace"))
    if syntax.is_private or not syntax.is_transfer_syntax or syntax.is_deflated or not syntax.is_little_endian:
        raise _UnusualError
    return syntax != ImplicitVRLittleEndian


def _elements(
    content: bytes, position: int, *, explicit: bool, meta: bool
) -> tuple[dict[BaseTag, Any], int, PixelPlace | None]:
    """Give the elements from ``position`` on, where they end, and the pixel data if it is these that end them."""
    found: dict[BaseTag, Any] = {}
    end = len(content)
    while position < end:
        group, element, code, length = _explicit(content, position)
        if meta and group != 2:
            break
        start = position + 8
        if explicit:
            vr = _VRS.get(code)
            if vr is None:
                raise _UnusualError
            if code in _LONG:
                (length,) = _length(content, start)
                start += 4
        else:
            vr = None
            (length,) = _length(content, position + 4)
        number = group << 16 | element
        if number in PIXEL_TAGS:
            return found, position, PixelPlace(PIXEL_TAGS[number], vr, start, length)
        if length != UNDEFINED:
            stop = position = start + length
        else:
            vr = _sequence_vr(vr, content, start)
            position = _end_of_items(content, start, explicit=explicit)
            stop = position - 8
            length = stop - start
        if position > end:
            raise struct.error("the value ends behind the bytes")
        value = content[start:stop] if length else _EMPTY[vr]
        found[_tag(number)] = RawDataElement(_tag(number), vr, length, value, start, not explicit, True)
    return found, position, None


def _sequence_vr(vr: str | None, content: bytes, start: int) -> str:
    """Give SQ for a value of undefined length that is a sequence; anything else of undefined length is unusual here."""
    if vr == "SQ" or (vr is None and _implicit(content, start)[:2] == (0xFFFE, 0xE000)):
        return "SQ"
    raise _UnusualError


def _end_of_items(content: bytes, position: int, *, explicit: bool) -> int:
    """Give the place after the delimiter of a sequence of undefined length that starts at ``position``."""
    while True:
        group, element, length = _implicit(content, position)
        number = group << 16 | element
        position += 8
        if number == _SEQUENCE_END:
            return position
        if number != _ITEM:
            raise _UnusualError
        position = position + length if length != UNDEFINED else _end_of_item(content, position, explicit=explicit)


def _end_of_item(content: bytes, position: int, *, explicit: bool) -> int:
    """Give the place after the delimiter of an item of undefined length whose elements start at ``position``."""
    while True:
        group, element, code, length = _explicit(content, position)
        if group << 16 | element == _ITEM_END:
            return position + 8
        start = position + 8
        if not explicit or code in _LONG:
            (length,) = _length(content, start if explicit else position + 4)
            start += 4 * explicit
        elif code not in _VRS:
            raise _UnusualError
        if length != UNDEFINED:
            position = start + length
            continue
        _sequence_vr(_VRS[code] if explicit else None, content, start)
        position = _end_of_items(content, start, explicit=explicit)


@cache
def _tag(number: int) -> BaseTag:
    """Give one object for each tag, so that looking it up compares identities."""
    return BaseTag(number)


def _encodings(element: RawDataElement) -> Any:
    return convert_encodings(convert_raw_data_element(element).value)
