from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from pathlib import Path

import pytest

from medresnet3d.errors import WeightsError
from medresnet3d.weights.cards import WeightsCard, find_card
from medresnet3d.weights.store import (
    check_digest,
    record_file,
    require_stored,
    store_folder,
    stored_digest,
    stored_file,
)

DIGEST = hashlib.sha256(b"weights").hexdigest()


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightsCard:
    monkeypatch.setenv("MEDRESNET3D_WEIGHTS", str(tmp_path))
    return dataclasses.replace(find_card("resnet18_imagenet"), sha256_prefix=DIGEST[:8])


def put(card: WeightsCard, content: bytes = b"weights", record: str | None = None) -> None:
    stored_file(card).parent.mkdir(parents=True, exist_ok=True)
    stored_file(card).write_bytes(content)
    record_file(card).write_text(json.dumps({"sha256": DIGEST, "checked": "x"}) if record is None else record)


def test_folder_is_the_users_choice_or_the_platforms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEDRESNET3D_WEIGHTS", str(tmp_path / "here"))
    assert store_folder() == tmp_path / "here"
    monkeypatch.delenv("MEDRESNET3D_WEIGHTS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "platform", "linux")
    assert store_folder() == tmp_path / "cache/medresnet3d/weights"


def test_what_is_there_and_unchanged_is_given(card: WeightsCard) -> None:
    assert stored_digest(card) is None
    with pytest.raises(WeightsError, match="weights fetch resnet18_imagenet"):
        require_stored(card)
    put(card)
    assert require_stored(card) == stored_file(card)


def test_a_changed_file_is_refused(card: WeightsCard) -> None:
    put(card, b"other")
    with pytest.raises(WeightsError, match="has changed since it was fetched"):
        require_stored(card)


@pytest.mark.parametrize("record", ["", "{", "[]", "{}"])
def test_a_file_without_a_sound_record_counts_as_absent(card: WeightsCard, record: str) -> None:
    put(card, record=record)
    assert stored_digest(card) is None


def test_every_known_digest_is_compared(card: WeightsCard) -> None:
    assert "first 8 digits" in check_digest(card, DIGEST).checked
    full = dataclasses.replace(card, sha256=DIGEST)
    assert check_digest(full, DIGEST, DIGEST.upper()).checked.startswith("the given SHA-256 and its published SHA-256")
    unknown = dataclasses.replace(card, sha256_prefix=None)
    assert check_digest(unknown, DIGEST) == (DIGEST, "")


@pytest.mark.parametrize("change", [{"sha256_prefix": "00000000"}, {"sha256": "0" * 64}])
def test_a_wrong_digest_is_refused(card: WeightsCard, change: dict[str, str]) -> None:
    with pytest.raises(WeightsError, match=f"has SHA-256 {DIGEST}; nothing was stored"):
        check_digest(dataclasses.replace(card, **change), DIGEST)
    with pytest.raises(WeightsError, match="the given SHA-256 is 0000"):
        check_digest(card, DIGEST, "0" * 64)
