from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medresnet3d.bundle import configs
from medresnet3d.bundle.configs import ConfigScan


def _findings(tmp_path: Path, content: Any, name: str = "configs/train.json") -> list[str]:
    scan = ConfigScan(tmp_path)
    text = content if isinstance(content, str) else json.dumps(content)
    scan.add(name, text.encode())
    return [str(finding) for finding in scan.finish()]


def test_a_finding_says_where_what_and_why(tmp_path: Path) -> None:
    found = _findings(tmp_path, {"a": [{"_target_": "os.system"}]})
    assert found == [
        "configs/train.json at a::0::_target_: os.system: this is not on the list of names known to be harmless"
    ]


def test_macro_to_a_file_of_the_bundle_passes(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/part.json").write_text("{}")
    assert _findings(tmp_path, {"a": "%configs/part.json::x", "b": "%a"}) == []


def test_relative_reference_passes_among_plain_names(tmp_path: Path) -> None:
    assert _findings(tmp_path, {"a": {"b": 1, "c": "$@::b + 1"}}) == []
    assert _findings(tmp_path, {"a b": {"b": 1, "c": "$@::b + 1"}})
    assert _findings(tmp_path, {"a": {"b": 1, "c": "$@::b + 1"}, "d": "%a"})


def test_component_as_reader_passes(tmp_path: Path) -> None:
    reader = {"_target_": "monai.data.ITKReader"}
    assert _findings(tmp_path, {"a": {"_target_": "LoadImage", "reader": reader}}) == []


def test_callable_mode_of_a_harmless_name_passes(tmp_path: Path) -> None:
    assert _findings(tmp_path, {"a": {"_target_": "monai.data.decollate_batch", "_mode_": "callable"}}) == []


def test_names_imported_in_one_file_count_in_another(tmp_path: Path) -> None:
    scan = ConfigScan(tmp_path)
    scan.add("configs/evaluate.json", b'{"a": "$glob.glob(\'*\')"}')
    scan.add("configs/train.json", b'{"imports": ["$import glob"]}')
    assert scan.finish() == []


def test_name_that_nothing_imports_is_a_finding(tmp_path: Path) -> None:
    assert _findings(tmp_path, {"a": "$glob.glob('*')"})


def test_plain_texts_are_not_expressions(tmp_path: Path) -> None:
    assert _findings(tmp_path, {"a": "costs $5", "b": "100%", "c": "a@b.org", "d": None, "e": [1, 2.5, True]}) == []


@pytest.mark.parametrize("suffix", ["yaml", "yml", "YML"])
def test_yaml_is_read_as_json_is(suffix: str, tmp_path: Path) -> None:
    name = f"configs/train.{suffix}"
    assert _findings(tmp_path, "a: {_target_: monai.networks.nets.UNet}\nb: 2026-01-01\n? 3\n: x\n", name) == []
    assert _findings(tmp_path, "a: {_target_: os.system}", name)
    assert _findings(tmp_path, "a: 1\n--- \nb: 2", name)
    assert _findings(tmp_path, "? [1, 2]\n: x", name)


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configs, "MAX_NODES", 50)
    monkeypatch.setattr(configs, "MAX_JSON_BYTES", 2**20)
    assert "50 values" in _findings(tmp_path, list(range(100)))[0]
    assert "larger than 1 MiB" in _findings(tmp_path, "[" + " " * 2**20 + "]")[0]
