"""Whether a bundle may run: the package's own may, a clean one may, any other only after ``--trust``.

What a user trusted is remembered by content hash in one JSON file of the user, so that a changed bundle asks again.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from medresnet3d.bundle.inspect import Inspection, inspect_bundle
from medresnet3d.bundle.registry import is_own_bundle
from medresnet3d.errors import UntrustedBundleError

_FILE = "trusted_bundles.json"


def user_folder() -> Path:
    """Where per-user files live: ``$MEDRESNET3D_HOME``, or the platform's configuration folder."""
    override = os.environ.get("MEDRESNET3D_HOME")
    if override:
        return Path(override).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return base / "medresnet3d"


def trusted() -> dict[str, str]:
    """Remembered bundles: content hash to the folder it was seen in. An unreadable file counts as empty."""
    try:
        content = json.loads((user_folder() / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {str(key): str(value) for key, value in content.items()}


def record_trust(path: str | os.PathLike[str]) -> str:
    """Remember the bundle in folder ``path`` as it is now, and give its content hash.

    ``train`` calls this for the bundle that it wrote itself.

    Raises:
        BundleError: if the folder cannot be read.
        DataError: if the user's folder cannot be written.
    """
    return _record(inspect_bundle(path), Path(path))


def _record(inspection: Inspection, path: Path) -> str:
    from medresnet3d.io.atomic import atomic_write_text

    content = trusted() | {inspection.content_hash: str(path.resolve())}
    atomic_write_text(user_folder() / _FILE, json.dumps(content, indent=1, sort_keys=True) + "\n")
    return inspection.content_hash


def require_trust(path: str | os.PathLike[str], trust: bool = False) -> None:
    """Return if the bundle in folder ``path`` may be imported and run, raise otherwise.

    The package's own bundles, bundles in which the static inspection finds nothing, and bundles trusted before in
    exactly this state pass.

    Args:
        path: bundle folder.
        trust: the user accepts what the inspection finds (``--trust``); remembered by content hash.

    Raises:
        UntrustedBundleError: with one line for each finding (exit code 2).
        BundleError: if the folder is not a bundle.
    """
    folder = Path(path)
    if is_own_bundle(folder):
        return
    inspection = inspect_bundle(folder)
    if inspection.ok or inspection.content_hash in trusted():
        return
    if trust:
        _record(inspection, folder)
        return
    raise UntrustedBundleError(
        f"{folder}: this bundle could run code of its own ({len(inspection.findings)} findings below); nothing of it "
        "was run. Read them, and pass --trust (in Python: trust=True) if you trust whoever made it.",
        [str(finding) for finding in inspection.findings],
    )
