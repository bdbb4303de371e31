from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

import medresnet3d
from medresnet3d.errors import ConfigError, DataError, ExitCode, UntrustedBundleError
from medresnet3d.workflows import compare_cell
from medresnet3d.workflows.compare import Comparison, ComparisonInterrupted, compare
from tests.workflows.toy_bundle import write_cubes, write_toy_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_bundle(tmp_path_factory.mktemp("bundles") / "toy_cubes")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cubes(tmp_path_factory.mktemp("data"), cases=64)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def run(bundle: Path, manifest: Path, folder: Path, vary: Any, **options: Any) -> Comparison:
    result = medresnet3d.compare(bundle, manifest, folder, vary=vary, workers=1, **{"budget": "20steps", **options})
    assert isinstance(result, Comparison)
    return result


@pytest.fixture(scope="module")
def contest(bundle: Path, manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """A learning rate that works against one that does nothing, one that diverges, and a setting without effect."""
    rates = ["learning_rate=0.01,1e-9,1e30", "checkpoint_seconds=60,61"]
    return run(bundle, manifest, tmp_path_factory.mktemp("contest") / "out", rates, seeds=5, one_at_a_time=True)


def test_a_part_that_is_better_is_found_and_equal_arms_are_not_told_apart(contest: Comparison) -> None:
    verdicts = {arm.name: arm.verdict for arm in contest.summary.arms}
    assert verdicts == {
        "learning_rate=0.01, checkpoint_seconds=60": "baseline",
        "learning_rate=0.01, checkpoint_seconds=61": "no evidence of a difference",
        "learning_rate=1e-09, checkpoint_seconds=60": "worse",
        "learning_rate=1e+30, checkpoint_seconds=60": "not tested",
    }
    assert contest.summary.arms[1].same
    assert "worse than the baseline" in contest.conclusion
    assert contest.exit_code == ExitCode.SOME_FAILED


def test_the_folder_holds_tables_splits_and_a_report(contest: Comparison) -> None:
    assert {path.name for path in contest.folder.iterdir()} == {
        "cells",
        "comparison.json",
        "report.html",
        "results.csv",
        "splits",
        "summary.csv",
    }
    cells = rows(contest.folder / "results.csv")
    assert len(cells) == 20
    assert {cell["seed"] for cell in cells} == set("01234")
    failed = [cell for cell in cells if cell["status"] == "failed"]
    assert len(failed) == 5 and all("training loss became" in cell["error"] for cell in failed)
    assert all(cell["steps"] == "20" for cell in cells if cell["status"] == "finished")
    assert len(rows(contest.folder / "summary.csv")) == 4
    report = contest.report.read_text()
    assert "no evidence of a difference" in report and "Cells that failed" in report
    assert "exactly the values of the baseline" in report
    assert "http-equiv" in report and "Research use only. Not for clinical use." in report
    plan = json.loads((contest.folder / "comparison.json").read_text())
    assert plan["budget"] == "20 steps" and plan["versions"]["torch"]


def test_all_cells_share_the_split(contest: Comparison) -> None:
    assert [path.name for path in sorted((contest.folder / "splits").iterdir())] == ["fixed.json", "fixed_inner.json"]
    assert {
        cell["training_cases"] for cell in rows(contest.folder / "results.csv") if cell["status"] == "finished"
    } == {"48"}


def test_finished_cells_are_never_run_again(
    bundle: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(bundle, manifest, tmp_path / "out", ["learning_rate=0.01,0.001"], seeds=1, budget="4steps")
    trained: list[str] = []
    train = compare_cell._train
    monkeypatch.setattr(compare_cell, "_train", lambda job, *rest: trained.append(job.folder) or train(job, *rest))
    again = run(bundle, manifest, tmp_path / "out", ["learning_rate=0.01,0.001"], seeds=1, budget="4steps")
    assert trained == [] and again.summary == first.summary
    more = run(bundle, manifest, tmp_path / "out", ["learning_rate=0.01,0.001,0.1"], seeds=2, budget="4steps")
    assert len(trained) == 4 and len(more.cells) == 6
    assert [cell.result for cell in more.cells if cell.seed == 0][:2] == [cell.result for cell in first.cells]


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(
    bundle: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, calls = compare_cell._train, []

    def interrupted(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(*arguments)

    with monkeypatch.context() as patch, pytest.raises(ComparisonInterrupted, match="1 of 4 cells finished"):
        patch.setattr(compare_cell, "_train", interrupted)
        run(bundle, manifest, tmp_path / "out", ["learning_rate=0.01,0.001"], seeds=2, budget="4steps")
    assert len(list(tmp_path.glob("out/cells/*/result.json"))) == 1
    done = run(bundle, manifest, tmp_path / "out", ["learning_rate=0.01,0.001"], seeds=2, budget="4steps")
    assert done.exit_code == ExitCode.OK


def test_failed_cells_are_run_again_only_when_asked(bundle: Path, manifest: Path, tmp_path: Path) -> None:
    vary = {"batch": {"good": {"batch_size": 4}, "bad": {"batch_size": -3}}}
    first = run(bundle, manifest, tmp_path / "out", vary, seeds=1, budget="4steps")
    (bad,) = [cell for cell in first.cells if cell.error]
    result = tmp_path / "out" / "cells" / bad.folder / "result.json"
    before = result.stat().st_mtime_ns
    run(bundle, manifest, tmp_path / "out", vary, seeds=1, budget="4steps")
    assert result.stat().st_mtime_ns == before
    run(bundle, manifest, tmp_path / "out", vary, seeds=1, budget="4steps", retry_failed=True)
    assert result.stat().st_mtime_ns != before


def test_folds_hold_out_other_patients_for_each_seed(bundle: Path, manifest: Path, tmp_path: Path) -> None:
    options = {"seeds": 3, "budget": "4steps", "folds": 2}
    result = run(bundle, manifest, tmp_path / "out", ["learning_rate=0.01,0.001"], **options)
    assert [cell["fold"] for cell in rows(tmp_path / "out" / "results.csv")] == ["0", "1", "0"] * 2
    assert "Nadeau and Bengio" in result.report.read_text()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"seeds": 0}, "--seeds 0"),
        ({"folds": 1}, "--folds 1"),
        ({"threads": 0}, "--threads 0"),
        ({"learning_rates": [0.1]}, "two or more numbers"),
        ({"learning_rates": [0.1, 0.2]}, "leave one of the two out"),
        ({"budget": "soon"}, "The budget 'soon' means nothing"),
        ({"vary": ["learningrate=1,2"]}, "did you mean 'learning_rate'"),
        ({"vary": ["learning_rate=1,2"], "set": ["batchsize=4"]}, "did you mean 'batch_size'"),
        ({"preset": "survey-activations"}, "either vary"),
    ],
)
def test_wrong_use_is_refused_before_anything_is_computed(
    bundle: Path, manifest: Path, tmp_path: Path, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        compare(bundle, manifest, tmp_path / "out", **{"vary": ["learning_rate=0.1,0.2"], "workers": 1, **options})
    assert not (tmp_path / "out" / "cells").exists()


def test_a_folder_with_something_else_is_refused(bundle: Path, manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="something else than a comparison"):
        compare(bundle, manifest, tmp_path, vary=["learning_rate=0.1,0.2"])
    with pytest.raises(ConfigError, match=r"notes\.txt is a file"):
        compare(bundle, manifest, tmp_path / "notes.txt", vary=["learning_rate=0.1,0.2"])


def test_a_data_set_for_another_task_and_an_untrusted_bundle_are_refused(
    bundle: Path, manifest: Path, tmp_path: Path
) -> None:
    content = json.loads(manifest.read_text()) | {"task": "regression"}
    content.pop("labels")
    for entry in content["training"] + content["validation"]:
        entry["label"] = 1.5
    other = manifest.with_name("regression.json")
    other.write_text(json.dumps(content))
    with pytest.raises(DataError, match="is for regression"):
        compare(bundle, other, tmp_path / "out", vary=["learning_rate=0.1,0.2"])
    evil = write_toy_bundle(tmp_path / "evil")
    (evil / "scripts.py").write_text("")
    with pytest.raises(UntrustedBundleError):
        compare(evil, manifest, tmp_path / "out", vary=["learning_rate=0.1,0.2"])
