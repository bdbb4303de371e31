from __future__ import annotations

import json
from pathlib import Path

import pytest

from medresnet3d.bundle.registry import list_bundles
from medresnet3d.bundle.trust import record_trust, require_trust, trusted, user_folder
from medresnet3d.errors import UntrustedBundleError
from tests.bundle.small_bundle import write_bundle


@pytest.fixture
def suspicious(tmp_path: Path) -> Path:
    folder = write_bundle(tmp_path / "bundle")
    (folder / "scripts.py").write_text("")
    return folder


def test_own_bundles_pass_without_a_question() -> None:
    for bundle in list_bundles():
        require_trust(bundle.path)
    assert trusted() == {}


def test_clean_bundle_passes_and_nothing_is_remembered(tmp_path: Path) -> None:
    require_trust(write_bundle(tmp_path / "bundle"), trust=True)
    assert trusted() == {}


def test_refusal_lists_the_findings_and_the_option(suspicious: Path) -> None:
    with pytest.raises(UntrustedBundleError, match="--trust") as caught:
        require_trust(suspicious)
    assert caught.value.findings == ["scripts.py: this file holds code"]


def test_recorded_bundle_passes_until_it_changes(suspicious: Path) -> None:
    content_hash = record_trust(suspicious)
    assert trusted() == {content_hash: str(suspicious.resolve())}
    require_trust(suspicious)
    (suspicious / "scripts.py").write_text("print()\n")
    with pytest.raises(UntrustedBundleError):
        require_trust(suspicious)


def test_several_bundles_are_remembered(suspicious: Path, tmp_path: Path) -> None:
    other = write_bundle(tmp_path / "other")
    record_trust(suspicious)
    record_trust(other)
    assert len(trusted()) == 2


@pytest.mark.parametrize("content", ["", "[]", "{", "\xff"])
def test_damaged_memory_means_no_trust(content: str, suspicious: Path) -> None:
    record_trust(suspicious)
    (user_folder() / "trusted_bundles.json").write_text(content, encoding="latin-1")
    with pytest.raises(UntrustedBundleError):
        require_trust(suspicious)
    require_trust(suspicious, trust=True)
    assert len(json.loads((user_folder() / "trusted_bundles.json").read_text())) == 1


def test_link_to_an_own_bundle_is_that_bundle_but_a_folder_of_its_name_is_not(tmp_path: Path) -> None:
    own = list_bundles()[0]
    (tmp_path / "link").symlink_to(own.path)
    require_trust(tmp_path / "link")
    fake = write_bundle(tmp_path / own.name)
    (fake / "scripts.py").write_text("")
    with pytest.raises(UntrustedBundleError):
        require_trust(fake)


@pytest.mark.parametrize(("platform", "part"), [("linux", "xdg"), ("darwin", "Application Support"), ("win32", "app")])
def test_user_folder_of_each_platform(
    platform: str, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEDRESNET3D_HOME")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("APPDATA", str(tmp_path / "app"))
    monkeypatch.setattr("sys.platform", platform)
    assert user_folder().name == "medresnet3d"
    assert part in str(user_folder())
