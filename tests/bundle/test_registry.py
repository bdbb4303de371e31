from __future__ import annotations

import json
from pathlib import Path

import pytest

from medresnet3d.bundle.registry import (
    bundles_root,
    describe,
    find_bundle,
    is_own_bundle,
    list_bundles,
    read_metadata,
    weights_file,
)
from medresnet3d.errors import BundleError
from tests.bundle.small_bundle import write_bundle


def test_own_bundles_are_listed_from_their_folders() -> None:
    bundles = list_bundles()
    folders = sorted(path.parent.parent.name for path in bundles_root().glob("*/configs/metadata.json"))
    assert [bundle.name for bundle in bundles] == folders
    for bundle in bundles:
        metadata = json.loads((bundle.path / "configs/metadata.json").read_text())
        assert (bundle.system, bundle.task) == (metadata["system"], metadata["task"])
        assert bundle.has_weights == (bundle.path / "models/model.pt").exists()
        assert is_own_bundle(bundle.path)


def test_name_wins_and_path_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = list_bundles()[0].name
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    assert find_bundle(name) == bundles_root() / name
    folder = write_bundle(tmp_path / "mine")
    assert find_bundle("mine") == find_bundle(folder) == folder.resolve()
    assert not is_own_bundle(folder)


def test_run_folder_stands_for_its_bundle(tmp_path: Path) -> None:
    write_bundle(tmp_path / "run/bundle")
    assert find_bundle(tmp_path / "run") == (tmp_path / "run/bundle").resolve()


def test_unknown_name_suggests_the_nearest() -> None:
    name = list_bundles()[0].name
    with pytest.raises(BundleError, match=f"did you mean '{name}'"):
        find_bundle(name[:-1])


def test_folder_without_metadata_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a bundle"):
        find_bundle(tmp_path)


@pytest.mark.parametrize("content", ["[1]", "{", "[" * 100_000])
def test_unreadable_metadata_is_one_sentence(content: str, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    (folder / "configs/metadata.json").write_text(content)
    with pytest.raises(BundleError, match="metadata"):
        read_metadata(folder)


def test_metadata_may_be_yaml(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    (folder / "configs/metadata.json").unlink()
    (folder / "configs/metadata.yaml").write_text("task: segmentation\nversion: 1.0.0\n")
    assert describe(find_bundle(folder)).task == "segmentation"


def test_weights_are_found_in_both_formats(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    assert weights_file(folder) is None
    (folder / "models").mkdir()
    (folder / "models/model.safetensors").write_bytes(b"")
    assert weights_file(folder) == folder / "models/model.safetensors"
