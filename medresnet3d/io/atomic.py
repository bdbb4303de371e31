"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medresnet3d.errors import DataError


@contextmanager
def atomic_path(target: str | os.PathLike[str], *, scratch: Path | None = None, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path beside ``target`` and rename it to ``target`` when the block ends without an error.

    The temporary name keeps the target's suffixes, since many writers choose their format by them. Parent folders are
    created. A killed process leaves at most a hidden temporary file, never a half-written target.

    Args:
        target: the file to write.
        scratch: a folder on the same file system for the temporary file, instead of the one of ``target``.
        durable: wait until the content is on the disk, so that the loss of power cannot leave a half file either.

    Raises:
        DataError: if the disk is full or the folder cannot be written.
    """
    target = Path(target)
    temporary = (scratch or target.parent) / f".{os.getpid()}.{target.name}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if durable:
            with temporary.open("rb") as handle:
                os.fsync(handle.fileno())
        temporary.replace(target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(f"{target}: the disk is full; free some space or choose another output folder.") from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise DataError(f"{target}: cannot be written ({error.strerror}); choose another output folder.") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write_text(target: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` as UTF-8 to ``target``, whole or not at all."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
