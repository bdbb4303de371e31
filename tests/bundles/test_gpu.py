"""Every bundle trains, evaluates and infers on a GPU, and there it says what it says on a processor."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from medresnet3d.io import load
from tests.bundles.conftest import BundleUnderTest
from tests.bundles.test_workflows import workflow

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_train_and_evaluate(bundle: BundleUnderTest, tmp_path: Path) -> None:
    for verb, options in (("train", {"max_epochs": 1}), ("evaluate", {})):
        flow = workflow(bundle, verb, tmp_path / verb, device="cuda", **options)
        flow.initialize()
        network = flow.parser.get_parsed_content("network")
        assert all(parameter.is_cuda for parameter in network.parameters())
        flow.run()
        flow.finalize()
    rows = list(csv.DictReader((tmp_path / "train/metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["1"]
    assert flow.parser.get_parsed_content("validate#evaluator").state.metrics


def test_inference_as_on_a_processor(bundle: BundleUnderTest, tmp_path: Path) -> None:
    for device in ("cpu", "cuda"):
        flow = workflow(bundle, "inference", tmp_path / device, device=device, precision="fp32")
        flow.initialize()
        flow.run()
        flow.finalize()
    if bundle.metadata["task"] == "segmentation":
        masks = sorted(path.relative_to(tmp_path / "cpu") for path in (tmp_path / "cpu").rglob("*.nii.gz"))
        assert masks
        for mask in masks:
            first, second = (load(tmp_path / device / mask, constant_ok=True).array for device in ("cpu", "cuda"))
            assert np.mean(first == second) > 0.995
        return
    tables = [list(csv.DictReader((tmp_path / device / "predictions.csv").open())) for device in ("cpu", "cuda")]
    assert [row["case"] for row in tables[0]] == [row["case"] for row in tables[1]]
    for rows in zip(*tables, strict=True):
        first, second = ([float(row[key]) for key in row if key.startswith("probability")] for row in rows)
        assert np.allclose(first, second, atol=2e-3), json.dumps(rows)
