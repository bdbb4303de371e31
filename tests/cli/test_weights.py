from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from medresnet3d.cli.main import app
from medresnet3d.weights.cards import find_card, list_cards


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


def test_the_list_names_licences_and_the_long_one_addresses_and_hashes() -> None:
    table = run("list").output
    assert all(len(line) <= 100 for line in table.splitlines())
    rows = {line.split()[0]: line for line in table.splitlines() if line}
    for name, licence in (("resnet18_imagenet", "BSD-3-Clause"), ("medicalnet_resnet10", "MIT")):
        assert f"  {licence}  " in rows[name]
    assert "non-commercial research" in table
    assert "https://" not in table
    long = run("list", "--long").output
    for card in list_cards():
        assert f"  url: {card.url}\n" in long and f"  licence: {card.licence}\n" in long
    assert "  known of its SHA-256: f37072fd (first 8 digits)\n" in long


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
    for text in (
        f"url: {find_card('medicalnet_resnet10').url}\n",
        "licence: MIT\n",
        "known of its SHA-256: nothing (none published)\n",
        f"its SHA-256: {sha256(b'tensors').hexdigest()}\n",
    ):
        assert text in result.output
    assert str(tmp_path / "store") in run("show", "medicalnet_resnet10").output
    assert json.loads(run("list", "--json").output)[7]["fetched"]


def test_a_wrong_hash_and_a_wrong_name_are_usage_errors(tmp_path: Path) -> None:
    file = tmp_path / "resnet18.pth"
    file.write_bytes(b"something else")
    result = run("fetch", "resnet18_imagenet", "--from", file)
    assert result.exit_code == 2
    assert "the first 8 digits of its SHA-256 in its name is f37072fd" in result.stderr
    assert "licence: BSD-3-Clause" in result.output
    assert "file: " not in result.stdout
    result = run("fetch", "resnet18_imagnet")
    assert result.exit_code == 2
    assert "did you mean 'resnet18_imagenet'" in result.stderr
