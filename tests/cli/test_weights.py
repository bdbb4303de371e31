from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from medresnet3d.cli.main import app
from medresnet3d.weights.cards import list_cards


@pytest.fixture(autouse=True)
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDRESNET3D_WEIGHTS", str(tmp_path / "store"))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["weights", *map(str, arguments)])


def test_list_shows_every_card() -> None:
    result = run("list")
    assert result.exit_code == 0
    assert all(card.name in result.output for card in list_cards())
    assert "first 8 digits" in result.output
    listed = json.loads(run("list", "--json").output)
    assert len(listed) == len(list_cards())
    assert not any(each["fetched"] for each in listed)


def test_show_tells_licence_input_and_what_is_known_of_the_hash() -> None:
    result = run("show", "inception_v4_imagenet")
    assert result.exit_code == 0
    for text in ("8e4777a0 (first 8 digits)", "licence: Apache-2.0", "-1 to 1", "edge 299", "background class"):
        assert text in result.output
    assert json.loads(run("show", "medicalnet_resnet10", "--json").output)["arch"] == "resnet10"


def test_fetch_from_a_file_says_what_was_checked(tmp_path: Path) -> None:
    file = tmp_path / "resnet_10.pth"
    file.write_bytes(b"tensors")
    result = run("fetch", "medicalnet_resnet10", "--from", file)
    assert result.exit_code == 0
    assert "Nothing was checked" in result.stderr
    assert str(tmp_path / "store") in run("show", "medicalnet_resnet10").output
    assert json.loads(run("list", "--json").output)[7]["fetched"]


def test_a_wrong_hash_and_a_wrong_name_are_usage_errors(tmp_path: Path) -> None:
    file = tmp_path / "resnet18.pth"
    file.write_bytes(b"something else")
    result = run("fetch", "resnet18_imagenet", "--from", file)
    assert result.exit_code == 2
    assert "the first 8 digits of its SHA-256 in its name is f37072fd" in result.stderr
    result = run("fetch", "resnet18_imagnet")
    assert result.exit_code == 2
    assert "did you mean 'resnet18_imagenet'" in result.stderr
