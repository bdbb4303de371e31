from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from medresnet3d.bundle import inspect
from medresnet3d.bundle.inspect import inspect_bundle
from medresnet3d.bundle.registry import list_bundles
from medresnet3d.errors import BundleError
from tests.bundle.small_bundle import write_bundle


@pytest.mark.parametrize("name", [bundle.name for bundle in list_bundles()])
def test_every_shipped_bundle_is_clean_also_when_copied(name: str, tmp_path: Path) -> None:
    own = next(bundle for bundle in list_bundles() if bundle.name == name)
    copy = shutil.copytree(own.path, tmp_path / "copy", ignore=shutil.ignore_patterns("__pycache__"))
    assert inspect_bundle(copy).findings == ()


def test_weights_of_tensors_pass(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    (folder / "models").mkdir()
    torch.save({"a": torch.zeros(3)}, folder / "models/model.pt")
    assert inspect_bundle(folder).ok


def test_hash_covers_names_and_contents(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    hashes = [inspect_bundle(folder).content_hash]
    assert inspect_bundle(folder).content_hash == hashes[0]
    (folder / "notes.txt").write_text("a")
    hashes.append(inspect_bundle(folder).content_hash)
    (folder / "notes.txt").write_text("b")
    hashes.append(inspect_bundle(folder).content_hash)
    (folder / "notes.txt").rename(folder / "other.txt")
    hashes.append(inspect_bundle(folder).content_hash)
    (folder / "link").symlink_to("other.txt")
    hashes.append(inspect_bundle(folder).content_hash)
    assert len(set(hashes)) == len(hashes)


def test_hash_does_not_depend_on_the_place(tmp_path: Path) -> None:
    one, two = write_bundle(tmp_path / "one"), write_bundle(tmp_path / "two")
    assert inspect_bundle(one).content_hash == inspect_bundle(two).content_hash


def test_link_inside_the_folder_passes(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    (folder / "CARD.md").symlink_to("docs/README.md")
    assert inspect_bundle(folder).ok


def test_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such folder"):
        inspect_bundle(tmp_path / "nothing")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file_is_one_sentence(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    (folder / "LICENSE").chmod(0)
    with pytest.raises(BundleError, match="permissions"):
        inspect_bundle(folder)


def test_number_of_files_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect, "MAX_FILES", 3)
    assert "more than 3 files" in str(inspect_bundle(write_bundle(tmp_path / "bundle")).findings[0])


def test_size_of_texts_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect, "MAX_TEXT_BYTES", 10)
    assert any("not inspected" in str(finding) for finding in inspect_bundle(write_bundle(tmp_path / "b")).findings)
