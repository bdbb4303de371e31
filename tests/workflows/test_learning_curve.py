from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

import medresnet3d
from medresnet3d.errors import ConfigError
from tests.workflows.toy_bundle import write_cubes, write_toy_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy bundle with an id for the share of the training patients."""
    folder = write_toy_bundle(tmp_path_factory.mktemp("bundles") / "toy_cubes")
    file = folder / "configs" / "train.json"
    config = json.loads(file.read_text())
    config["training_fraction"] = 1.0
    config["train"]["dataset"]["data"] |= {"fraction": "@training_fraction", "seed": "@seed"}
    file.write_text(json.dumps(config))
    return folder


def test_a_learning_curve_counts_patients_and_draws_them(bundle: Path, tmp_path: Path) -> None:
    manifest = write_cubes(tmp_path / "data", cases=32)
    options = {"fractions": (0.25, 1), "seeds": 2, "budget": "6steps", "workers": 1}
    result = medresnet3d.learning_curve(bundle, manifest, tmp_path / "out", **options)
    assert [(arm.name, arm.costs["training_patients"]) for arm in result.summary.arms] == [
        ("training_fraction=1", 24),
        ("training_fraction=0.25", 6),
    ]
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["steps"] for row in rows} == {"6"}
    assert [row["training_patients"] for row in rows] == ["24", "24", "6", "6"]
    assert "after training on a part of the patients" in result.report.read_text()


def test_a_bundle_without_the_id_is_refused(tmp_path: Path) -> None:
    manifest = write_cubes(tmp_path / "data", cases=16)
    with pytest.raises(ConfigError, match="has no id 'training_fraction'"):
        medresnet3d.learning_curve(write_toy_bundle(tmp_path / "toy_cubes"), manifest, tmp_path / "out")
