"""What logs and reports may say about a patient: nothing, a pseudonym, or what the file says.

Pseudonyms give the same patient the same name on this computer, and nobody can compute the name back.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import zipfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from medresnet3d.bundle.trust import user_folder
from medresnet3d.errors import ConfigError
from medresnet3d.names import did_you_mean

PHI_CHOICES = ("none", "pseudonym", "keep")
_FILE = "pseudonym.key"


def check_phi(choice: str) -> None:
    """Check the value of ``--phi``.

    Raises:
        ConfigError: if it is unknown; the message names the nearest.
    """
    if choice in PHI_CHOICES:
        return
    hint = did_you_mean(choice.lower(), PHI_CHOICES, f"use {', '.join(PHI_CHOICES)}.")
    raise ConfigError(f"--phi {choice}: this choice is unknown; {hint}")


def shown_patient(patient_id: str | None, phi: str = "pseudonym") -> str | None:
    """Give what logs and reports call a patient.

    Args:
        patient_id: PatientID of a DICOM file.
        phi: ``"none"``: nothing; ``"pseudonym"``: a name such as ``anon-3f9c0a1b2c``; ``"keep"``: the PatientID itself.

    Returns:
        the name; ``None`` where nothing is to be said or known.

    Raises:
        ConfigError: if ``phi`` is unknown.
    """
    check_phi(phi)
    known = (patient_id or "").strip()
    if phi == "none" or not known:
        return None
    return known if phi == "keep" else pseudonym(known)


def unnamed(sentence: str, path: str | Sequence[str], case: str) -> str:
    """Give a sentence with the case's name in the place of the names of its files and folders.

    Args:
        sentence: a warning or an error.
        path: the input, or one for each modality.
        case: what to say instead.
    """
    texts = {text for one in ([path] if isinstance(path, str) else path) for text in _names(Path(one))}
    for text in sorted(texts, key=len, reverse=True):
        sentence = sentence.replace(text, case)
    return sentence


def _names(place: Path) -> set[str]:
    """Give what a file or folder, and what is in it, may be called in a sentence."""
    inside = [str(one) for one in place.rglob("*")] if place.is_dir() else []
    if zipfile.is_zipfile(place):
        with zipfile.ZipFile(place) as archive:
            inside += archive.namelist()
    names = [str(place), str(place.absolute()), *inside, place.name, *(Path(one).name for one in inside)]
    return {name for name in names if name.strip("./")}


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
