from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from medresnet3d.data.cache.header import FRAME, MAGIC, DamagedEntryError, read_header, write_header


def write(path: Path) -> bytes:
    with path.open("wb") as file:
        file.write(bytes(FRAME.size) + b"arrays")
        write_header(file, {"name": "ü"})
    return path.read_bytes()


def test_headers_come_back(tmp_path: Path) -> None:
    write(tmp_path / "a")
    assert read_header(tmp_path / "a") == {"name": "ü"}


def test_every_changed_byte_but_those_of_arrays_is_noticed(tmp_path: Path) -> None:
    raw = write(tmp_path / "a")
    for position in [*range(24), *range(38, len(raw))]:
        changed = bytearray(raw)
        changed[position] ^= 4
        (tmp_path / "b").write_bytes(changed)
        with pytest.raises(DamagedEntryError):
            read_header(tmp_path / "b")
    for length in range(len(raw)):
        (tmp_path / "b").write_bytes(raw[:length])
        with pytest.raises(DamagedEntryError):
            read_header(tmp_path / "b")


@pytest.mark.parametrize("text", [b"no json", b"[1]", b"[" * 100000, b'{"a": ' + b"9" * 5000 + b"}"])
def test_hostile_headers_are_damage(tmp_path: Path, text: bytes) -> None:
    frame = struct.pack("<8sQII8x", MAGIC, FRAME.size, len(text), zlib.crc32(text))
    (tmp_path / "a").write_bytes(frame + text)
    with pytest.raises(DamagedEntryError, match="its header is no JSON"):
        read_header(tmp_path / "a")


def test_a_header_of_any_length_is_not_allocated(tmp_path: Path) -> None:
    frame = struct.pack("<8sQII8x", MAGIC, FRAME.size, 2**32 - 1, 0)
    (tmp_path / "a").write_bytes(frame)
    with pytest.raises(DamagedEntryError, match="cut off"):
        read_header(tmp_path / "a")
