from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from medresnet3d.data.manifest import load_manifest
from medresnet3d.data.preparation.cards import find_card
from medresnet3d.data.preparation.prepare import mimic, prepare
from medresnet3d.errors import ConfigError, DataError


def images(manifest: Path) -> list[str]:
    return [entry["image"] for entry in json.loads(manifest.read_text())["training"]]


def test_paths_are_relative_where_the_data_lies_below_the_manifest(tmp_path: Path) -> None:
    root = mimic("folder", tmp_path / "data")
    below = prepare("folder", root, tmp_path / "m.json", folds=0).path
    assert images(below)[0] == "data/images/benign/p0_0.PNG"
    assert "root" not in json.loads(below.read_text())
    moved = shutil.copytree(tmp_path, tmp_path.parent / f"{tmp_path.name}_moved")
    assert all((moved / image).is_file() for image in images(moved / "m.json"))


def test_root_is_recorded_where_the_manifest_lies_elsewhere(tmp_path: Path) -> None:
    root = mimic("folder", tmp_path / "data")
    manifest = prepare("folder", root, tmp_path / "elsewhere" / "m.json", folds=0).path
    assert json.loads(manifest.read_text())["root"] == str(root)
    assert images(manifest)[0] == "images/benign/p0_0.PNG"


def test_derived_files_lie_beside_the_manifest(tmp_path: Path) -> None:
    root = mimic("medmnist", tmp_path / "data")
    manifest = prepare("medmnist", root, tmp_path / "out" / "m.json").path
    assert images(manifest)[0] == str(tmp_path / "out" / "m_files" / "images" / "adrenalmnist3d" / "train0.nii.gz")
    assert all(Path(image).is_file() for image in images(manifest))
    assert [path.name for path in root.iterdir()] == ["adrenalmnist3d.npz"]


def test_an_unknown_data_set_names_the_nearest() -> None:
    for name in ("HAM_1000", "ham", "Ham 10000x"):
        with pytest.raises(ConfigError, match=f"No data set is called '{name}'; did you mean 'ham10000'"):
            find_card(name)
    assert find_card("HAM-10000").name == "ham10000"


def test_one_fold_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="1 folds cannot be made"):
        prepare("folder", tmp_path, tmp_path / "m.json", folds=1)


def test_a_mimic_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(DataError, match="holds something already"):
        mimic("folder", tmp_path)


def test_another_seed_gives_other_folds(tmp_path: Path) -> None:
    root = mimic("ham10000", tmp_path / "data")
    folds = []
    for seed in range(4):
        raw = json.loads(prepare("ham10000", root, tmp_path / f"{seed}.json", folds=2, seed=seed).path.read_text())
        folds.append(tuple(entry["fold"] for entry in raw["training"]))
    assert len(set(folds)) > 1


def test_a_table_says_the_same_as_the_json(tmp_path: Path) -> None:
    root = mimic("mrbrains18", tmp_path / "data")
    as_json = prepare("mrbrains18", root, tmp_path / "m.json").path
    for output, table in ((tmp_path / "t.csv", False), (tmp_path / "u.json", True)):
        written = prepare("mrbrains18", root, output, table=table).path
        assert written.suffix == ".csv" and written.stem == output.stem
        assert load_manifest(written).sections == load_manifest(as_json).sections
        assert load_manifest(written).labels == load_manifest(as_json).labels
    (tmp_path / "out").mkdir()
    assert prepare("mrbrains18", root, tmp_path / "out", table=True).path == tmp_path / "out" / "manifest.csv"
