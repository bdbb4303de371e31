from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from medresnet3d.errors import DataError
from medresnet3d.workflows.evaluate import evaluate
from medresnet3d.workflows.run_folder import own_name
from medresnet3d.workflows.side_by_side import find_rivals
from tests.workflows.conftest import save_scan
from tests.workflows.tiny_bundles import THRESHOLD, cube_bundle, save_weights, threshold_bundle


def write_manifest(folder: Path, task: str, entries: list[dict[str, Any]], **more: Any) -> Path:
    path = folder / "manifest.json"
    path.write_text(json.dumps({"name": "toy", "task": task, "test": entries, **more}))
    return path


@pytest.fixture
def cubes(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    entries = []
    for number in range(16):
        array = (rng.normal(-600, 200, size=(18, 18, 18)) + 200 * (number % 2)).astype(np.float32)
        nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / f"cube_{number:02d}.nii.gz")
        entries.append({"image": f"cube_{number:02d}.nii.gz", "label": number % 2, "patient": f"p{number // 2}"})
    return write_manifest(tmp_path, "classification", entries, labels=["vessel", "nodule"])


def run_folder(folder: Path, kind: str, bundle: Path, rivals: dict[str, Any] | None = None, **record: Any) -> Path:
    """What ``train`` leaves, as far as an evaluation looks at it."""
    shutil.copytree(bundle, folder / "bundle")
    (folder / "config.json").write_text(json.dumps({"kind": kind, "rivals": rivals or {}}))
    (folder / "environment.json").write_text(json.dumps(record))
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with one rival, which has other weights."""
    bundle = cube_bundle(tmp_path / "bundle")
    rivals = {"plain": {"kind": "plain"}, "fancy": {"kind": "fancy"}}
    folder = run_folder(tmp_path / "run", "fancy", bundle, rivals, budget={"search_in_steps": 7, "steps_in_all": 30})
    weights = torch.load(bundle / "models" / "model.pt", weights_only=True)
    generator = torch.Generator().manual_seed(5)
    save_weights(bundle, {name: torch.randn(value.shape, generator=generator) for name, value in weights.items()})
    run_folder(folder / "rivals" / "plain", "plain", bundle, result={"iteration": 30})
    return folder


def test_a_run_is_compared_with_the_rivals_that_it_trained(run: Path, cubes: Path, tmp_path: Path) -> None:
    found = evaluate(run, cubes, tmp_path / "out", n_boot=200, seed=1)
    alone = evaluate(run / "rivals" / "plain", cubes, tmp_path / "alone", n_boot=200, seed=1)
    assert alone.side_by_side is None
    side = found.side_by_side
    assert side is not None
    assert [one.name for one in side.entrants] == ["fancy", "plain"]
    own, rival = side.entrants
    assert own.figures["auc"] == found["auc"] and rival.figures["auc"] == alone["auc"]
    assert own.difference is None and rival.difference is not None
    assert rival.difference.value == pytest.approx(alone["auc"].value - found["auc"].value)
    assert rival.difference.low <= rival.difference.value <= rival.difference.high
    assert own.budget == {"search in steps": 7, "steps in all": 30} and rival.budget == {"training steps": 30}
    report = (tmp_path / "out" / "report.html").read_text()
    assert "Side by side</h2>" in report and "Differences are to fancy in AUC" in report
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())["side_by_side"]
    assert [one["name"] for one in written["entrants"]] == ["fancy", "plain"]
    assert written["entrants"][1]["difference"]["value"] == pytest.approx(rival.difference.value)
    lines = side.lines()
    assert lines[0].split()[:2] == ["training", "AUC"] and lines[1].startswith("fancy ")
    assert lines[2].startswith("plain ") and str(rival.difference) in lines[2]


def test_any_other_run_can_be_compared_with_and_what_it_has_seen_is_told(
    run: Path, cubes: Path, tmp_path: Path
) -> None:
    other = run_folder(tmp_path / "other", "x", run / "bundle", patients={"training": ["p0", "p3"]})
    found = evaluate(run / "rivals" / "plain", cubes, tmp_path / "out", against=[other], n_boot=20)
    assert found.side_by_side is not None
    assert [one.name for one in found.side_by_side.entrants] == ["plain", "other"]
    assert any(text.startswith("other: 2 of the 8 patients were in the training") for text in found.warnings)


def test_one_for_another_task_is_refused(run: Path, cubes: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ages is for regression, so it cannot be compared on data for classification"):
        evaluate(run, cubes, tmp_path / "out", against=[cube_bundle(tmp_path / "ages", regression=True)])


def test_a_run_without_rivals_has_none(run: Path, tmp_path: Path) -> None:
    assert find_rivals(tmp_path / "bundle") == {}
    assert list(find_rivals(run / "bundle")) == ["plain"]
    namesake = tmp_path / "elsewhere" / "plain"
    assert list(find_rivals(run, [namesake])) == ["plain", str(namesake)], "two of one name are both there"
    shutil.rmtree(run / "rivals" / "plain" / "bundle")
    assert find_rivals(run) == {}, "one that is not trained yet is left out"


def test_own_name_is_that_of_the_rival_with_the_same_values() -> None:
    rivals = {"one": {"a": 1}, "two": {"a": 2, "b": 3}}
    assert own_name({"a": 2, "b": 3, "rivals": rivals}) == "two"
    assert own_name({"a": 2, "b": 4, "rivals": rivals}) is None
    assert own_name({"a": 2}) is None


def test_segmentations_are_compared_by_their_mean_dice(tmp_path: Path) -> None:
    entries = []
    for number in range(4):
        image, mask = tmp_path / f"scan_{number}.nii.gz", tmp_path / f"mask_{number}.nii.gz"
        array = save_scan(image, seed=number)
        nib.save(nib.Nifti1Image((array > THRESHOLD).astype(np.uint8), nib.load(image).affine), mask)
        entries.append({"image": image.name, "mask": mask.name, "patient": f"p{number}"})
    manifest = write_manifest(tmp_path, "segmentation", entries, labels=["background", "bright"])
    good, poor = threshold_bundle(tmp_path / "good"), threshold_bundle(tmp_path / "poor")
    weight = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1, 1)
    save_weights(poor, {"weight": weight, "bias": torch.tensor([0.0, -THRESHOLD - 60])})
    found = evaluate(good, manifest, tmp_path / "out", against=[poor], n_boot=50)
    assert found.side_by_side is not None
    own, other = found.side_by_side.entrants
    assert own.figures["dice"].value == 1.0 and other.difference is not None
    assert other.difference.value == pytest.approx(other.figures["dice"].value - 1.0) and other.difference.high < 0


def test_regressions_are_compared_by_their_error(tmp_path: Path, cubes: Path) -> None:
    entries = [{**entry, "label": 40.0 + n} for n, entry in enumerate(json.loads(cubes.read_text())["test"])]
    manifest = write_manifest(tmp_path, "regression", entries)
    one, two = (cube_bundle(tmp_path / name, regression=True) for name in ("one", "two"))
    weights = torch.load(two / "models" / "model.pt", weights_only=True)
    save_weights(two, {name: value + 0.1 for name, value in weights.items()})
    found = evaluate(one, manifest, tmp_path / "out", against=[two], n_boot=50)
    assert found.side_by_side is not None
    own, other = found.side_by_side.entrants
    assert other.difference is not None
    assert other.difference.value == pytest.approx(other.figures["mae"].value - own.figures["mae"].value)
