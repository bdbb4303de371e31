from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from medresnet3d.cli import evaluate
from tests.workflows.conftest import save_scan
from tests.workflows.tiny_bundles import THRESHOLD, threshold_bundle

RUNNER = CliRunner()


@pytest.fixture
def app() -> typer.Typer:
    application = typer.Typer()
    application.callback()(lambda: None)
    evaluate.register(application)
    return application


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    array = save_scan(tmp_path / "scan.nii.gz")
    affine = nib.load(tmp_path / "scan.nii.gz").affine
    nib.save(nib.Nifti1Image((array > THRESHOLD).astype(np.uint8), affine), tmp_path / "mask.nii.gz")
    entry = {"image": "scan.nii.gz", "mask": "mask.nii.gz", "patient": "p"}
    content = {"name": "one scan", "task": "segmentation", "labels": ["background", "bright"], "test": [entry]}
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    return tmp_path / "manifest.json"


def test_figures_and_the_report_are_printed(app: typer.Typer, manifest: Path, tmp_path: Path) -> None:
    bundle = threshold_bundle(tmp_path / "thresholder")
    out = tmp_path / "out"
    result = RUNNER.invoke(app, ["evaluate", str(bundle), "--data", str(manifest), "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert "bright: dice 1.000" in result.stdout
    assert f"1 case of 1 patient (test); report: {out / 'report.html'}" in result.stdout
    assert "Not for clinical use" in result.stderr


def test_a_failed_case_is_exit_code_3_when_it_is_the_only_one(app: typer.Typer, manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "scan.nii.gz").write_bytes(b"broken")
    bundle = threshold_bundle(tmp_path / "thresholder")
    result = RUNNER.invoke(app, ["evaluate", str(bundle), "--data", str(manifest), "-o", str(tmp_path / "out")])
    assert result.exit_code == 3
    assert "Error: scan: " in result.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--section", "tset"], "--section tset: there is no such section"),
        (["--data", "absent.json"], "no such manifest"),
    ],
)
def test_wrong_use_is_exit_code_2_and_one_sentence(
    app: typer.Typer, manifest: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    bundle = threshold_bundle(tmp_path / "thresholder")
    command = ["evaluate", str(bundle), "--data", str(manifest), "-o", str(tmp_path / "out"), *options]
    result = RUNNER.invoke(app, command)
    assert result.exit_code == 2
    assert words in result.stderr and result.stderr.count("\n") == 1


def test_missing_weights_name_the_command(app: typer.Typer, manifest: Path, tmp_path: Path) -> None:
    bundle = threshold_bundle(tmp_path / "untrained", weights=False)
    result = RUNNER.invoke(app, ["evaluate", str(bundle), "--data", str(manifest), "-o", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "this bundle has no trained weights: train it with" in result.stderr
