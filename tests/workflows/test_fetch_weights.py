from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from medresnet3d.errors import ConfigError, WeightsError
from medresnet3d.weights.cards import find_card
from medresnet3d.weights.store import record_file, stored_file
from medresnet3d.workflows import fetch_weights as module
from medresnet3d.workflows.fetch_weights import fetch_weights

CONTENT = b"weights" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NAME = "resnet18_imagenet"


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file on "the net", whose card is that of ResNet-18 but for its address and hash."""
    monkeypatch.setenv("MEDRESNET3D_WEIGHTS", str(tmp_path / "store"))
    file = tmp_path / f"resnet18-{DIGEST[:8]}.pth"
    file.write_bytes(CONTENT)
    use_card(monkeypatch, url=file.as_uri(), sha256_prefix=DIGEST[:8])
    return file


def use_card(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    card = dataclasses.replace(find_card(NAME), **changes)
    monkeypatch.setattr(module, "find_card", lambda name: card)


def test_download_is_checked_recorded_and_not_repeated(published: Path) -> None:
    file, digest = fetch_weights(NAME)
    assert file.read_bytes() == CONTENT
    assert digest.sha256 == DIGEST
    assert "first 8 digits" in digest.checked
    record = json.loads((file.parent / "fetched.json").read_text())
    assert (record["url"], record["sha256"]) == (published.as_uri(), DIGEST)
    published.unlink()
    assert fetch_weights(NAME) == (file, digest)
    with pytest.raises(WeightsError, match=r"download failed .* --from FILE"):
        fetch_weights(NAME, again=True)
    assert file.read_bytes() == CONTENT


def test_a_copy_may_have_any_name_but_not_any_content(published: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.bin").write_bytes(CONTENT)
    file, _ = fetch_weights(NAME, tmp_path / "copy.bin")
    assert file.name == published.name
    (tmp_path / "wrong.bin").write_bytes(b"other")
    with pytest.raises(WeightsError, match="nothing was stored"):
        fetch_weights(NAME, tmp_path / "wrong.bin")
    assert file.read_bytes() == CONTENT
    assert sorted(path.name for path in file.parent.iterdir()) == ["fetched.json", file.name]


def test_a_wrong_download_leaves_nothing(published: Path) -> None:
    published.write_bytes(b"a page that says: moved")
    with pytest.raises(WeightsError, match="nothing was stored"):
        fetch_weights(NAME)
    card = module.find_card(NAME)
    assert not stored_file(card).exists()
    assert not record_file(card).exists()


def test_a_hash_that_the_user_knows_is_checked_too(published: Path) -> None:
    with pytest.raises(WeightsError, match="the given SHA-256"):
        fetch_weights(NAME, sha256="1" * 64)
    assert fetch_weights(NAME, sha256=DIGEST)[1].checked.startswith("the given SHA-256")
    with pytest.raises(WeightsError, match="the given SHA-256"):
        fetch_weights(NAME, sha256="1" * 64)


def test_where_no_hash_is_known_that_is_said(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_card(monkeypatch, url=published.as_uri(), sha256_prefix=None)
    assert fetch_weights(NAME)[1] == (DIGEST, "")


def test_a_cut_connection_is_told(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = module._open
    monkeypatch.setattr(module, "_open", lambda card, source: (real(card, source)[0], len(CONTENT) + 5))
    with pytest.raises(WeightsError, match="ended after 7000 of 7005 bytes"):
        fetch_weights(NAME)


def test_other_addresses_names_and_files_are_refused(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        fetch_weights(NAME, tmp_path / "absent")
    use_card(monkeypatch, url="ftp://example.org/file.pth")
    with pytest.raises(WeightsError, match="no address that can be downloaded"):
        fetch_weights(NAME)
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="did you mean"):
        fetch_weights("resnet18")
