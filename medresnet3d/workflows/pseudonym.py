"""Pseudonyms: the same patient gets the same name on this computer, and nobody can compute the name back."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from functools import cache
from pathlib import Path

from medresnet3d.bundle.trust import user_folder

_FILE = "pseudonym.key"


def pseudonym(patient_id: str) -> str:
    """Give a name such as ``anon-3f9c0a1b2c`` for a DICOM PatientID.

    It is a keyed hash (HMAC-SHA-256). The key is a secret of this user, made once and kept in the user's folder, so
    trying all possible identifiers does not lead back.
    """
    digest = hmac.new(_key(user_folder()), patient_id.strip().encode(), hashlib.sha256)
    return f"anon-{digest.hexdigest()[:10]}"


@cache
def _key(folder: Path) -> bytes:
    """Read the user's key, or make it; where nothing can be kept, one for this process."""
    file = folder / _FILE
    key = secrets.token_bytes(32)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with file.open("xb") as handle:
            file.chmod(0o600)
            handle.write(key)
    except FileExistsError:
        kept = file.read_bytes()
        return kept if len(kept) == len(key) else key
    except OSError:
        return key
    return key
