"""The frame of an entry's file: a magic word, arrays, and a JSON header that says where they lie.

::

    0   8  b"MR3DCCH1"
    8   8  where the header begins, little-endian
    16  4  length of the header
    20  4  CRC-32 of the header
    24  8  0
    32     arrays, each from a multiple of 64 on; then the header, UTF-8 JSON
"""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

MAGIC = b"MR3DCCH1"
ALIGNMENT = 64
FRAME = struct.Struct("<8sQII8x")
MAX_HEADER_BYTES = 64 * 2**20


class DamagedEntryError(Exception):
    """An entry of the cache is not what was written; it is made anew."""


def write_header(file: BinaryIO, header: dict[str, Any]) -> None:
    """End a file whose arrays have been written with its header."""
    text = json.dumps(header, separators=(",", ":")).encode()
    start = file.tell()
    file.write(text)
    file.seek(0)
    file.write(FRAME.pack(MAGIC, start, len(text), zlib.crc32(text)))


def read_header(path: Path) -> dict[str, Any]:
    """Read the header of an entry.

    Raises:
        DamagedEntryError: if it is incomplete or not what was written.
        OSError: if there is no such file or it cannot be read.
    """
    with path.open("rb") as file:
        start, length, checksum = parse_frame(file.read(FRAME.size), path.stat().st_size)
        file.seek(start)
        return parse_header(file.read(length), checksum)


def parse_frame(frame: bytes, size: int) -> tuple[int, int, int]:
    """Return start, length and checksum of the header of a file of ``size`` bytes."""
    if len(frame) < FRAME.size or not frame.startswith(MAGIC):
        raise DamagedEntryError("it does not begin as an entry does")
    _, start, length, checksum = FRAME.unpack(frame[: FRAME.size])
    if length > MAX_HEADER_BYTES or start + length != size:
        raise DamagedEntryError("it is cut off")
    return start, length, checksum


def parse_header(text: bytes, checksum: int) -> dict[str, Any]:
    """Read a header; nothing but plain JSON values comes of it."""
    if zlib.crc32(text) != checksum:
        raise DamagedEntryError("the checksum of its header is wrong")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedEntryError("its header is no JSON") from error
    if not isinstance(header, dict):
        raise DamagedEntryError("its header is no JSON object")
    return header
