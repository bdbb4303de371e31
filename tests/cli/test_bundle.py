from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from medresnet3d.bundle.registry import list_bundles
from medresnet3d.cli.main import app
from tests.bundle.attacks import ATTACKS
from tests.bundle.small_bundle import METADATA, write_bundle, write_json


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["bundle", *map(str, arguments)])


def test_list_is_a_table() -> None:
    lines = _run("list").output.splitlines()
    assert lines[0].split() == ["name", "system", "task", "modality", "version", "weights"]
    assert [line.split()[0] for line in lines[1:]] == [bundle.name for bundle in list_bundles()]


def test_list_as_json() -> None:
    content = json.loads(_run("list", "--json").output)
    assert [item["name"] for item in content] == [bundle.name for bundle in list_bundles()]
    assert all(Path(item["path"]).is_dir() for item in content)


def test_show_prints_what_the_metadata_says(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    extra = {"labels": {"1": "spleen"}, "inferred": {"overlap": "half is usual"}}
    write_json(folder / "configs/metadata.json", METADATA | extra)
    output = _run("show", folder).output
    for text in (
        "A. Stranger",
        "1: spleen",
        "overlap: half is usual",
        "dataset_dir: /workspace/data",
        "none: train it",
    ):
        assert text in output


def test_show_of_every_shipped_bundle_gives_each_inferred_value_its_reason() -> None:
    for bundle in list_bundles():
        metadata = json.loads((bundle.path / "configs/metadata.json").read_text())
        output = _run("show", bundle.name).output
        assert all(f"{key}: {reason}" in output for key, reason in metadata["inferred"].items())
        assert all(f"{key}: {name}" in output for key, name in metadata.get("labels", {}).items())


def test_show_as_json_with_weights(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    (folder / "models").mkdir()
    (folder / "models/model.pt").write_bytes(b"abc")
    content = json.loads(_run("show", folder, "--json").output)
    assert content["ids"]["inference.json"]["dataset_dir"] == "/workspace/data"
    assert "sha256 ba7816bf" in content["weights"]


def test_inspect_tells_clean_from_suspicious(tmp_path: Path) -> None:
    clean = _run("inspect", write_bundle(tmp_path / "clean"))
    assert (clean.exit_code, "nothing found" in clean.output) == (0, True)
    ATTACKS["expression call"](tmp_path / "bad", tmp_path / "sentinel")
    bad = _run("inspect", tmp_path / "bad")
    assert (bad.exit_code, "__import__" in bad.output) == (2, True)
    content = json.loads(_run("inspect", tmp_path / "bad", "--json").output)
    assert content["findings"][0]["where"] == "configs/inference.json at attack"


def test_verify_reports_and_counts(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    assert _run("verify", folder).exit_code == 0
    write_json(folder / "configs/metadata.json", {})
    result = _run("verify", folder)
    assert result.exit_code == 1
    assert "WRONG  metadata" in result.output


def test_unknown_bundle_suggests_the_nearest() -> None:
    name = list_bundles()[0].name
    result = _run("show", name[:-1])
    assert result.exit_code == 2
    assert f"did you mean {name!r}" in result.output


def test_show_path_prints_the_folder_and_nothing_else() -> None:
    bundle = list_bundles()[0]
    assert Path(_run("show", bundle.name, "--path").output.strip()) == bundle.path
