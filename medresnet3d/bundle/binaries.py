"""Inspection of weights and other binary files without loading them: what would unpickling them import?"""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from collections.abc import Iterator
from typing import IO

from medresnet3d.bundle.findings import Finding

WEIGHT_SUFFIXES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib", ".ts", ".jit", ".npy", ".npz")
MAX_PICKLE_BYTES = 64 * 2**20
MAX_OPCODES = 5_000_000
MAX_MEMBERS = 100_000
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # starts torch's format before version 1.6
_LEGACY_PICKLES = 5  # magic number, protocol, system information, object, storage keys; raw tensors follow
_DTYPES = "float16 bfloat16 float32 float64 half float double uint8 int8 int16 int32 int64 bool complex64 complex128"
_STORAGES = "Float Double Half BFloat16 Long Int Short Char Byte Bool ComplexFloat ComplexDouble Untyped"
HARMLESS_GLOBALS = frozenset(
    {
        ("collections", "OrderedDict"),
        ("torch._utils", "_rebuild_tensor"),
        ("torch._utils", "_rebuild_tensor_v2"),
        ("torch._utils", "_rebuild_parameter"),
        ("torch", "Size"),
        ("torch", "device"),
        ("torch", "Tensor"),
        ("torch.nn.parameter", "Parameter"),
        ("torch.serialization", "_get_layout"),
        ("torch.storage", "UntypedStorage"),
        ("torch.storage", "TypedStorage"),
    }
    | {("torch", name) for name in _DTYPES.split()}
    | {("torch", f"{name}Storage") for name in _STORAGES.split()}
)


class _UnreadableError(Exception):
    """A file is not what its name or first bytes say."""


def inspect_binary(name: str, handle: IO[bytes]) -> list[Finding]:
    """Findings about a file that holds weights, arrays or pickles, told by its suffix or its first bytes.

    Args:
        name: its path in the bundle.
        handle: the open file.
    """
    start = handle.read(8)
    handle.seek(0)
    try:
        if start.startswith(b"PK"):
            return list(_inspect_zip(name, handle))
        if start.startswith(b"\x93NUMPY"):
            return list(_inspect_array(name, handle))
        if re.match(rb"\x80[\x02-\x05]", start):
            return list(_inspect_pickles(name, handle))
        if name.lower().endswith(WEIGHT_SUFFIXES):
            raise _UnreadableError("its format is unknown")
    except _UnreadableError as error:
        return [Finding(name, "", f"the file cannot be inspected ({error})")]
    return []


def _inspect_zip(name: str, handle: IO[bytes]) -> Iterator[Finding]:
    try:
        with zipfile.ZipFile(handle) as archive:
            members = archive.infolist()
            if len(members) > MAX_MEMBERS:
                raise _UnreadableError(f"more than {MAX_MEMBERS} members")
            if any(re.search(r"(^|/)(code/|constants\.pkl$)", item.filename) for item in members):
                yield Finding(name, "", "this is a TorchScript program, not weights")
            for item in members:
                if item.filename.lower().endswith((".pkl", ".npy")):
                    yield from _inspect_member(name, archive, item)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise _UnreadableError(str(error)) from error


def _inspect_member(name: str, archive: zipfile.ZipFile, item: zipfile.ZipInfo) -> Iterator[Finding]:
    if item.filename.lower().endswith(".npy"):
        with archive.open(item) as stream:
            yield from _inspect_array(name, stream)
        return
    if item.file_size > MAX_PICKLE_BYTES:
        raise _UnreadableError(f"{item.filename} is larger than {MAX_PICKLE_BYTES // 2**20} MiB")
    with archive.open(item) as stream:
        yield from _inspect_pickles(name, io.BytesIO(stream.read(MAX_PICKLE_BYTES + 1)))


def _inspect_array(name: str, stream: IO[bytes]) -> Iterator[Finding]:
    header = stream.read(12)
    if not header.startswith(b"\x93NUMPY"):
        raise _UnreadableError("not a NumPy array")
    length = int.from_bytes(header[8:10] if header[6] == 1 else header[8:12], "little")
    text = header[10:] + stream.read(min(length, 2**20))
    if re.search(rb"""['"][|<>=]?O""", text):
        yield Finding(name, "", "this array holds pickled objects")


def _inspect_pickles(name: str, stream: IO[bytes]) -> Iterator[Finding]:
    strange: dict[str, None] = {}
    opcodes = 0
    left = 1
    try:
        while left:
            left -= 1
            for code, argument, _ in pickletools.genops(stream):
                opcodes += 1
                if opcodes > MAX_OPCODES:
                    raise _UnreadableError(f"more than {MAX_OPCODES} pickle instructions")
                if argument == _LEGACY_MAGIC and opcodes < 4:
                    left = _LEGACY_PICKLES - 1
                called = _called(code.name, argument)
                if called:
                    strange[called] = None
    except (ValueError, IndexError, EOFError, OverflowError) as error:
        raise _UnreadableError(f"not a pickle that can be followed: {error}") from error
    for called in strange:
        yield Finding(name, called, "this is called when the file is unpickled")


def _called(code: str, argument: object) -> str | None:
    """What an instruction imports, if it is not harmless."""
    if code in ("GLOBAL", "INST"):
        module, _, attribute = str(argument).partition(" ")
        return None if code == "GLOBAL" and (module, attribute) in HARMLESS_GLOBALS else f"{module}.{attribute}"
    if code in ("STACK_GLOBAL", "EXT1", "EXT2", "EXT4"):
        return f"a name that is put together while unpickling ({code})"
    return None
