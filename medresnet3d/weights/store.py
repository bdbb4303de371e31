"""Where fetched weights files lie, and whether one is what it should be."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

from medresnet3d.errors import WeightsError
from medresnet3d.weights.cards import WeightsCard

SCHEMES = ("http", "https", "file")


class Digest(NamedTuple):
    """SHA-256 of a file, and what it was compared with.

    Args:
        sha256: 64 hexadecimal digits.
        checked: what was compared, in words; empty if there was nothing to compare with.
    """

    sha256: str
    checked: str


def store_folder() -> Path:
    """The folder of fetched weights: ``$MEDRESNET3D_WEIGHTS``, or one in the platform's folder for caches."""
    override = os.environ.get("MEDRESNET3D_WEIGHTS")
    if override:
        return Path(override).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "medresnet3d" / "weights"


def stored_file(card: WeightsCard) -> Path:
    """Where the file of a card lies once it is fetched."""
    return store_folder() / card.name / card.file_name


def record_file(card: WeightsCard) -> Path:
    """The JSON file beside it that says what was fetched."""
    return stored_file(card).with_name("fetched.json")


def stored_digest(card: WeightsCard) -> Digest | None:
    """What was written down when the file was fetched; ``None`` if it was not, or is no longer there."""
    if not stored_file(card).is_file():
        return None
    try:
        content = json.loads(record_file(card).read_text(encoding="utf-8"))
        return Digest(str(content["sha256"]), str(content["checked"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def require_stored(card: WeightsCard) -> Path:
    """The fetched file of a card, unchanged since it was fetched.

    Raises:
        WeightsError: if it was not fetched or has changed.
    """
    digest = stored_digest(card)
    if digest is None:
        raise WeightsError(
            f"{card.name}: these weights are not on this computer; run `medresnet3d weights fetch {card.name}` "
            f"(or, without a network, `... --from FILE` with {card.file_name})."
        )
    file = stored_file(card)
    if file_sha256(file) != digest.sha256:
        raise WeightsError(
            f"{file}: has changed since it was fetched; run `medresnet3d weights fetch {card.name} --again`."
        )
    return file


def file_sha256(path: Path) -> str:
    """SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def check_digest(card: WeightsCard, sha256: str, expected: str | None = None) -> Digest:
    """Compare the SHA-256 of what came with all that is known.

    Args:
        card: what is known about the file.
        sha256: of what came.
        expected: SHA-256 that the user wants it to have (from the publisher's page, or from a colleague).

    Raises:
        WeightsError: if one differs.
    """
    known = [(expected, "the given SHA-256"), (card.sha256, "its published SHA-256")]
    known.append((card.sha256_prefix, f"the first {len(card.sha256_prefix or '')} digits of its SHA-256 in its name"))
    checked = []
    for digits, words in known:
        if not digits:
            continue
        if not sha256.startswith(digits.lower()):
            raise WeightsError(
                f"{card.file_name}: {words} is {digits.lower()}, but what came has SHA-256 {sha256}; nothing was "
                f"stored. Get the file again from {card.url}."
            )
        checked.append(words)
    return Digest(sha256, " and ".join(checked))
