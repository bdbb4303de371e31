"""How arrays lie in an entry: as they are, or compressed in blocks, in the smallest type that gives back every bit."""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

import numpy as np
from isal.isal_zlib import crc32
from numcodecs import blosc
from numpy.typing import NDArray

from medresnet3d.data.cache.header import ALIGNMENT, FRAME, DamagedEntryError

BLOCKS = {1: (32768,), 2: (128, 256), 3: (1, 128, 256), 4: (1, 32, 32, 32)}
"""Shape of the blocks that are compressed, by the number of axes; the first of 3 or 4 is the channel."""
MIN_BLOCKED = 32768
SAMPLE = 65536
SLAB = 2**16
_INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32")
_FLOATS = ("float16", "float32")
LOGICAL = frozenset({*_INTEGERS, "uint64", "int64", *_FLOATS, "float64", "bool", "complex64", "complex128"})
HALF_LIMIT = 65504.0
BLOSC_HEADER = struct.Struct("<4xIII")
"""Versions and flags; then the sizes decompressed, of blosc's own blocks, and compressed."""
Box = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class ArraySpec:
    """Where an array lies in the file, and as what.

    Attributes:
        shape: its shape.
        logical: its type.
        stored: type that its values are stored in.
        codec: ``raw`` or ``blosc``.
        offset: first byte.
        nbytes: number of bytes.
        crc: CRC-32 of these bytes.
    """

    shape: tuple[int, ...]
    logical: str
    stored: str
    codec: str
    offset: int
    nbytes: int
    crc: int

    @classmethod
    def parse(cls, raw: Any, end: int) -> ArraySpec:
        """Read and check what a header says; ``end`` is the first byte after all arrays.

        Raises:
            DamagedEntryError: if it is not the description of an array within the file.
        """
        try:
            spec = cls(**{**raw, "shape": tuple(raw["shape"])})
        except (TypeError, KeyError) as error:
            raise DamagedEntryError("an array is not described as it should be") from error
        numbers = [*spec.shape, spec.offset, spec.nbytes, spec.crc]
        known = spec.logical in LOGICAL and spec.stored in LOGICAL and spec.codec in ("raw", "blosc")
        if not known or not all(type(number) is int and number >= 0 for number in numbers) or len(spec.shape) > 8:
            raise DamagedEntryError("an array is not described as it should be")
        size = math.prod(spec.shape) * np.dtype(spec.stored).itemsize
        least = size if spec.codec == "raw" else 8 * (1 + math.prod(grid(spec.shape)))
        inside = FRAME.size <= spec.offset and spec.offset + spec.nbytes <= end and spec.offset % ALIGNMENT == 0
        if not inside or spec.nbytes < least or (spec.codec == "raw" and spec.nbytes != size):
            raise DamagedEntryError("an array lies outside of the file")
        return spec

    def as_json(self) -> dict[str, Any]:
        """Return what :meth:`parse` reads."""
        return {**asdict(self), "shape": list(self.shape)}


def narrowest(array: NDArray[Any], half_precision: bool = False) -> NDArray[Any]:
    """Give the values in the smallest number type from which every bit of them comes back.

    Whole numbers, also those in floating types, become the shortest integers; other values become float16 only where
    that loses nothing. Negative zeros and NaN do not survive as integers and are not taken for whole numbers.

    Args:
        array: any numbers.
        half_precision: store floating values as float16 although that rounds them (about three digits), unless some
            are too large for it.
    """
    name = array.dtype.name
    if array.size == 0 or name not in LOGICAL or name in ("bool", "complex64", "complex128"):
        return array
    wanted = [*_INTEGERS, *_FLOATS] if array.dtype.kind == "f" else list(_INTEGERS)
    smaller = [kind for kind in wanted if np.dtype(kind).itemsize < array.dtype.itemsize]
    smaller.sort(key=lambda kind: np.dtype(kind).itemsize)
    flat = array.reshape(-1)
    sample = np.ascontiguousarray(flat[:: max(1, flat.size // SAMPLE)])
    for kind in smaller:
        if _converted(sample, kind) is not None:
            converted = _converted(flat, kind)
            if converted is not None:
                return converted.reshape(array.shape)
    if half_precision and array.dtype.kind == "f" and _fits_half(flat):
        return array.astype(np.float16)
    return array


def _converted(flat: NDArray[Any], kind: str) -> NDArray[Any] | None:
    """The values as ``kind``, or ``None`` if a bit of them would not come back."""
    bits = np.dtype(f"u{flat.dtype.itemsize}")
    result = np.empty(flat.size, kind)
    with np.errstate(invalid="ignore", over="ignore"):
        for start in range(0, flat.size, SLAB):
            part, out = flat[start : start + SLAB], result[start : start + SLAB]
            out[...] = part.astype(kind)
            if not np.array_equal(out.astype(flat.dtype).view(bits), np.ascontiguousarray(part).view(bits)):
                return None
    return result


def _fits_half(flat: NDArray[Any]) -> bool:
    finite = flat[np.isfinite(flat)]
    return finite.size == 0 or float(np.abs(finite).max()) <= HALF_LIMIT


def block_shape(axes: int) -> tuple[int, ...]:
    """Return the shape of the blocks of an array with so many axes."""
    return BLOCKS[axes] if axes in BLOCKS else (1,) * (axes - 3) + (32, 32, 32)


def grid(shape: Sequence[int]) -> tuple[int, ...]:
    """Return how many blocks an array has along each axis."""
    return tuple(-(-size // edge) for size, edge in zip(shape, block_shape(len(shape)), strict=True))


def write_array(file: BinaryIO, array: NDArray[Any], compress: bool, half_precision: bool = False) -> ArraySpec:
    """Append an array to an entry.

    Args:
        file: positioned at its end.
        array: numbers of a type in ``LOGICAL``.
        compress: in blocks; small arrays are stored as they are anyway.
        half_precision: see :func:`narrowest`.
    """
    stored = np.ascontiguousarray(narrowest(array, half_precision)).reshape(array.shape)
    file.write(bytes(-file.tell() % ALIGNMENT))
    offset = file.tell()
    blocked = compress and array.ndim > 0 and array.size >= MIN_BLOCKED
    pieces = _compressed(stored) if blocked else [stored.reshape(-1).view(np.uint8).data]
    crc = 0
    for piece in pieces:
        file.write(piece)
        crc = crc32(piece, crc)
    codec = "blosc" if blocked else "raw"
    nbytes = file.tell() - offset
    return ArraySpec(array.shape, array.dtype.name, stored.dtype.name, codec, offset, nbytes, crc)


def _compressed(array: NDArray[Any]) -> Iterator[Any]:
    """A table of where each block ends, and the blocks, those at the borders filled up with zeros."""
    edges = block_shape(array.ndim)
    blocks = []
    for corner in itertools.product(*(range(count) for count in grid(array.shape))):
        part = array[tuple(slice(c * e, (c + 1) * e) for c, e in zip(corner, edges, strict=True))]
        if part.shape != edges:
            part = np.pad(part, [(0, e - n) for n, e in zip(part.shape, edges, strict=True)])
        blocks.append(blosc.compress(np.ascontiguousarray(part), b"lz4", 5, blosc.BITSHUFFLE, 0))
    yield np.cumsum([0, *map(len, blocks)], dtype="<i8").tobytes()
    yield from blocks


def read_box(data: memoryview, spec: ArraySpec, box: Box | None = None) -> NDArray[Any]:
    """Read a part of an array, in its own type; only the memory pages or blocks that it needs are touched.

    Args:
        data: the whole file.
        spec: which array.
        box: first index and end along each axis; ``None`` for all.

    Raises:
        DamagedEntryError: if a block is not what was written.
    """
    box = tuple((0, size) for size in spec.shape) if box is None else box
    out = np.empty([stop - start for start, stop in box], spec.logical)
    if out.size == 0:
        return out
    if spec.codec == "raw":
        out[...] = raw_view(data, spec)[tuple(slice(*limits) for limits in box)]
    else:
        _read_blocks(data[spec.offset : spec.offset + spec.nbytes], spec, box, out)
    return out


def raw_view(data: memoryview, spec: ArraySpec) -> NDArray[Any]:
    """Return an uncompressed array as it lies in the file, in its stored type, read-only."""
    return np.frombuffer(data, spec.stored, math.prod(spec.shape), spec.offset).reshape(spec.shape)


def _read_blocks(region: memoryview, spec: ArraySpec, box: Box, out: NDArray[Any]) -> None:
    edges, counts = block_shape(len(spec.shape)), grid(spec.shape)
    ends = np.frombuffer(region, "<i8", math.prod(counts) + 1)
    body = region[ends.nbytes :]
    block = np.empty(edges, spec.stored)
    ranges = [range(start // edge, -(-stop // edge)) for (start, stop), edge in zip(box, edges, strict=True)]
    for corner in itertools.product(*ranges):
        number = int(np.ravel_multi_index(corner, counts))
        _decompress(body, int(ends[number]), int(ends[number + 1]), block)
        source, target = [], []
        for at, edge, (start, stop) in zip(corner, edges, box, strict=True):
            first, last = max(start, at * edge), min(stop, (at + 1) * edge)
            source.append(slice(first - at * edge, last - at * edge))
            target.append(slice(first - start, last - start))
        out[tuple(target)] = block[tuple(source)]


def _decompress(body: memoryview, start: int, stop: int, block: NDArray[Any]) -> None:
    if not 0 <= start <= stop - BLOSC_HEADER.size <= len(body) - BLOSC_HEADER.size:
        raise DamagedEntryError("a block lies outside of its array")
    piece = body[start:stop]
    nbytes, _, cbytes = BLOSC_HEADER.unpack_from(piece)
    if nbytes != block.nbytes or cbytes != stop - start:
        raise DamagedEntryError("a block has the wrong size")
    try:
        blosc.decompress(piece, block)
    except (RuntimeError, ValueError) as error:
        raise DamagedEntryError("a block cannot be decompressed") from error


def verify(data: memoryview, spec: ArraySpec) -> None:
    """Compare an array with its checksum.

    Raises:
        DamagedEntryError: if it is not what was written.
    """
    if crc32(data[spec.offset : spec.offset + spec.nbytes]) != spec.crc:
        raise DamagedEntryError("a checksum is wrong")
