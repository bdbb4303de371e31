"""Fetch published weights into the user's folder: by download, or from a file that came another way."""

from __future__ import annotations

import hashlib
import json
from contextlib import closing
from pathlib import Path
from typing import BinaryIO
from urllib.error import URLError
from urllib.parse import urlparse
from urllib.request import Request, urlopen

from medresnet3d._version import __version__
from medresnet3d.errors import WeightsError
from medresnet3d.io.atomic import atomic_path, atomic_write_text
from medresnet3d.progress import Progress
from medresnet3d.weights.cards import WeightsCard, find_card
from medresnet3d.weights.store import SCHEMES, Digest, check_digest, record_file, stored_digest, stored_file

MEGABYTE = 1 << 20
TIMEOUT_S = 60


def fetch_weights(
    name: str, source: Path | None = None, sha256: str | None = None, again: bool = False
) -> tuple[Path, Digest]:
    """Bring a published weights file into the store, whole and checked or not at all.

    Args:
        name: of a card (``medresnet3d weights list``).
        source: a file to copy instead of the download.
        sha256: SHA-256 that the file must have, besides what is known of it.
        again: fetch it although it is there.

    Returns:
        where it lies, and its SHA-256 with what that was compared with.

    Raises:
        ConfigError: if there is no such card.
        WeightsError: if the source is missing, the download fails or a hash differs; the store is as it was then.
        DataError: if the store cannot be written.
    """
    card = find_card(name)
    target, present = stored_file(card), stored_digest(card)
    if present is not None and not again and source is None:
        return target, check_digest(card, present.sha256, sha256)
    with atomic_path(target) as temporary:
        digest = check_digest(card, _copy(card, source, temporary), sha256)
    record = {"url": card.url, "sha256": digest.sha256, "checked": digest.checked, "medresnet3d": __version__}
    atomic_write_text(record_file(card), json.dumps(record, indent=1) + "\n")
    return target, digest


def _copy(card: WeightsCard, source: Path | None, target: Path) -> str:
    """Write the file to ``target`` and give its SHA-256."""
    content, size = _open(card, source)
    digest = hashlib.sha256()
    megabytes = -(-size // MEGABYTE) if size else None
    with closing(content), target.open("wb") as out, Progress(f"{card.name} (MB)", megabytes) as progress:
        try:
            for chunk in iter(lambda: content.read(MEGABYTE), b""):
                digest.update(chunk)
                out.write(chunk)
                progress.advance()
        except (URLError, TimeoutError, ConnectionError) as error:
            raise _failed(card, error) from error
        written = out.tell()
    if size and written != size:
        raise WeightsError(f"{card.url}: the connection ended after {written} of {size} bytes; run the command again.")
    return digest.hexdigest()


def _open(card: WeightsCard, source: Path | None) -> tuple[BinaryIO, int]:
    """Where to read from, and how many bytes there are (0: unknown)."""
    if source is not None:
        if not source.is_file():
            raise WeightsError(f"{source}: there is no such file; --from takes a downloaded copy of {card.file_name}.")
        return source.open("rb"), source.stat().st_size
    if urlparse(card.url).scheme not in SCHEMES:
        raise WeightsError(f"{card.url}: is no address that can be downloaded from; use --from FILE.")
    try:
        answer = urlopen(Request(card.url, headers={"User-Agent": f"medresnet3d/{__version__}"}), timeout=TIMEOUT_S)
    except (URLError, TimeoutError, ConnectionError) as error:
        raise _failed(card, error) from error
    return answer, int(answer.headers.get("Content-Length") or 0)


def _failed(card: WeightsCard, error: Exception) -> WeightsError:
    reason = getattr(error, "reason", None) or error
    return WeightsError(
        f"{card.url}: the download failed ({reason}); fetch the file by hand and give it with --from FILE."
    )
