"""Static inspection of a bundle folder: what in it could run code?

Nothing of the bundle is imported, evaluated or unpickled, and neither torch nor monai is imported. The rule is an
allow-list: a configuration may call exact names that are known to be harmless and use a small grammar of expressions;
everything else is a finding, and so is every Python file, every pickle that is more than tensors, and everything that
cannot be read or leads out of the folder.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from medresnet3d.bundle.binaries import inspect_binary
from medresnet3d.bundle.configs import SUFFIXES as CONFIG_SUFFIXES
from medresnet3d.bundle.configs import ConfigScan
from medresnet3d.bundle.findings import Finding, Inspection
from medresnet3d.bundle.logging_files import SUFFIXES as LOGGING_SUFFIXES
from medresnet3d.bundle.logging_files import inspect_logging
from medresnet3d.errors import BundleError

__all__ = ["Finding", "Inspection", "inspect_bundle"]

MAX_FILES = 20_000
MAX_TEXT_BYTES = 64 * 2**20
_CODE_SUFFIXES = (".py", ".pyc", ".pyo", ".pyw", ".pyd", ".pyx", ".so", ".dll", ".dylib", ".egg", ".whl")
_PYTHON_MARKS = (b"#!/usr/bin/env python", b"#!/usr/bin/python")


def inspect_bundle(path: str | os.PathLike[str]) -> Inspection:
    """List everything in a bundle folder that could run code, and hash its content.

    Args:
        path: the folder.

    Raises:
        BundleError: if there is no such folder or a file in it cannot be read.
    """
    root = Path(path).resolve()
    if not root.is_dir():
        raise BundleError(f"{path}: there is no such folder; give a bundle folder or a name from `bundle list`.")
    findings: list[Finding] = []
    digest = hashlib.sha256()
    scan = ConfigScan(root)
    for name in _files(root, findings):
        try:
            _inspect_file(root, name, scan, findings, digest)
        except OSError as error:
            raise BundleError(f"{root / name}: cannot be read ({error.strerror}); check the permissions.") from error
    return Inspection((*findings, *scan.finish()), digest.hexdigest())


def _files(root: Path, findings: list[Finding]) -> Iterator[str]:
    """Paths of all files below ``root`` in a fixed order; what is not a plain file is a finding."""
    count = 0
    for folder, folders, files in os.walk(root, onerror=_unreadable):
        folders.sort()
        linked = [name for name in folders if (Path(folder) / name).is_symlink()]
        for name in sorted([*files, *linked]):
            count += 1
            if count > MAX_FILES:
                findings.append(Finding(str(root), "", f"more than {MAX_FILES} files; they were not all inspected"))
                return
            yield (Path(folder) / name).relative_to(root).as_posix()


def _unreadable(error: OSError) -> None:
    raise BundleError(f"{error.filename}: cannot be read ({error.strerror}); check the permissions.") from error


def _inspect_file(root: Path, name: str, scan: ConfigScan, findings: list[Finding], digest: hashlib._Hash) -> None:
    file = root / name
    digest.update(f"\0{name}\0".encode(errors="surrogatepass"))
    if file.is_symlink():
        digest.update(os.fsencode(file.readlink()))
        if not Path(os.path.realpath(file)).is_relative_to(root) or not file.exists():
            findings.append(Finding(name, str(file.readlink()), "this link leads out of the folder or nowhere"))
            return
        if file.is_dir():
            findings.append(Finding(name, str(file.readlink()), "links to folders are not followed"))
            return
    if not stat.S_ISREG(file.stat().st_mode):
        findings.append(Finding(name, "", "this is not a plain file"))
        return
    with file.open("rb") as handle:
        digest.update(hashlib.file_digest(handle, "sha256").digest())
    _inspect_content(file, name, scan, findings)


def _inspect_content(file: Path, name: str, scan: ConfigScan, findings: list[Finding]) -> None:
    lower = name.lower()
    if lower.endswith(_CODE_SUFFIXES) or ".so." in lower:
        findings.append(Finding(name, "", "this file holds code"))
        return
    if lower.endswith((*CONFIG_SUFFIXES, *LOGGING_SUFFIXES)):
        content = _read_text_file(file, name, findings)
        if content is not None and lower.endswith(CONFIG_SUFFIXES):
            scan.add(name, content)
        elif content is not None:
            findings += inspect_logging(name, content)
        return
    with file.open("rb") as handle:
        if handle.read(64).startswith(_PYTHON_MARKS):
            findings.append(Finding(name, "", "this file holds code"))
            return
        handle.seek(0)
        findings += inspect_binary(name, handle)


def _read_text_file(file: Path, name: str, findings: list[Finding]) -> bytes | None:
    if file.stat().st_size > MAX_TEXT_BYTES:
        findings.append(Finding(name, "", f"larger than {MAX_TEXT_BYTES // 2**20} MiB; it was not inspected"))
        return None
    return file.read_bytes()
