"""What is special about this bundle: a swarm searches its kernels, and it is compared with those that were drawn."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from medresnet3d.bundle.load import load_config, load_network
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.cli.main import app
from medresnet3d.data.phantoms.cube_cohort import write_tumour_cubes
from medresnet3d.engines import load_checkpoint
from medresnet3d.engines.kernel_search import KernelSearch
from medresnet3d.engines.kernels import read_kernels
from medresnet3d.workflows.predictor import Predictor
from medresnet3d.workflows.train import train
from tests.bundles.as_configured import parameter_count

BUNDLE = find_bundle("lung_nodule_pso_convk")
TINY = {"max_epochs": 2, "source_epochs": 2, "population": 4, "iterations": 3, "batch_size": 12}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tumour_cubes(tmp_path_factory.mktemp("cubes"), cubes=36, size=32)


@pytest.fixture(scope="module")
def run(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(BUNDLE, manifest, tmp_path_factory.mktemp("run") / "run", set=TINY, device="cpu")


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


@pytest.mark.parametrize(("dims", "parameters"), [(2, 2_354), (3, 11_306)])
def test_the_network_is_that_of_the_paper_and_3d_is_one_id(dims: int, parameters: int) -> None:
    network = load_config(BUNDLE, ("inference.json",), {"spatial_dims": dims}).get_parsed_content("network_def")
    assert parameter_count(network) == parameters
    with torch.inference_mode():
        assert network.eval()(torch.zeros(1, 1, *[28] * dims)).shape == (1, 2)


def test_the_kernels_that_training_starts_from_are_the_best_of_the_swarm(run: Path) -> None:
    stages = run / "stages"
    best = load_checkpoint(stages / "kernels" / "swarm.pt")["swarm"]["best"]
    network = load_network(run)
    network.load_state_dict(load_checkpoint(stages / "kernels.pt")["network"])
    np.testing.assert_array_equal(read_kernels(network), np.float32(best["position"]))
    with (stages / "kernels" / "search.csv").open(newline="") as file:
        course = [float(row["best"]) for row in csv.DictReader(file)]
    assert course == sorted(course, reverse=True) and len(course) == TINY["iterations"]
    source = load_checkpoint(stages / "source" / "checkpoints" / "last.pt")["network"]
    network.load_state_dict(source)
    box = np.abs(read_kernels(network) - np.asarray(best["position"]))
    assert 0 < box.max() < 1.0, "the swarm searched around the source network's kernels"


def test_every_choice_of_kernels_spent_the_same(run: Path) -> None:
    spent = {
        name: read(folder / "environment.json")
        for name, folder in {"pso": run, **{name: run / "rivals" / name for name in ("random", "gaussian")}}.items()
    }
    assert len({record["budget"]["steps_in_all"] for record in spent.values()}) == 1
    own = spent["pso"]["budget"]
    assert own["kernel_evaluations"] == 12 and own["search_in_steps"] > 0 and own["source_steps"] == 4
    assert spent["pso"]["result"]["iteration"] == own["training_steps"] == 4
    for name in ("random", "gaussian"):
        assert spent[name]["result"]["iteration"] == own["steps_in_all"] > 4


def test_evaluate_prints_and_reports_all_choices_side_by_side(run: Path, manifest: Path, tmp_path: Path) -> None:
    command = ["evaluate", str(run), "--data", str(manifest), "-o", str(tmp_path / "out"), "--device", "cpu"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    lines = [line.split()[0] for line in result.stdout.splitlines() if line.strip()]
    start = lines.index("training")
    assert lines[start + 1 : start + 4] == ["pso", "gaussian", "random"]
    assert "kernel evaluations" in result.stdout and "difference" in result.stdout
    assert "Side by side</h2>" in (tmp_path / "out" / "report.html").read_text()
    side = read(tmp_path / "out" / "metrics.json")["side_by_side"]
    assert [one["difference"] is None for one in side["entrants"]] == [True, False, False]


def test_resuming_searches_nothing_again_and_goes_on_with_rivals(
    run: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = (run, run / "rivals" / "random", run / "rivals" / "gaussian")
    before = [load_checkpoint(folder / "checkpoints" / "best.pt")["network"] for folder in folders]
    monkeypatch.setattr(KernelSearch, "_measure", lambda *arguments: pytest.fail("measured again"))
    (run / "rivals" / "gaussian" / "checkpoints" / "last.pt").unlink()
    train(BUNDLE, manifest, run, resume=True, device="cpu")
    for folder, state in zip(folders, before, strict=True):
        after = load_checkpoint(folder / "checkpoints" / "best.pt")["network"]
        assert all(torch.equal(value, after[name]) for name, value in state.items()), folder


def test_a_source_network_that_is_loaded_is_not_trained(run: Path, manifest: Path, tmp_path: Path) -> None:
    source = run / "bundle" / "models" / "model.pt"
    chosen = {**TINY, "pretrained": str(source), "iterations": 1, "population": 1}
    again = train(BUNDLE, manifest, tmp_path / "again", set=chosen, device="cpu", rivals=False)
    assert not (again / "stages" / "source").exists() and not (again / "rivals").exists()
    start = load_checkpoint(again / "stages" / "kernels.pt")["network"]
    trained = load_network(run).state_dict()
    assert torch.equal(start["features.0.0.weight"], trained["features.0.0.weight"]), "particle 0 is the source network"
    assert read(again / "environment.json")["budget"]["source_steps"] == 0


def test_frozen_kernels_are_neither_searched_nor_trained(manifest: Path, tmp_path: Path) -> None:
    overrides = {**TINY, "freeze_until": "stem", "data": str(manifest), "output_dir": str(tmp_path), "device": "cpu"}
    parser = load_config(BUNDLE, ("train.json",), overrides)
    parser.get_parsed_content("initialize")
    network = parser.get_parsed_content("network")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    parser.get_parsed_content("train#trainer").run()
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.rpartition(".")[0] for name in changed} == {"features.1.0", "classifier"}


def test_a_picture_is_answered_too(run: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (60, 48), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "patch.png")
    prediction = Predictor(run, device="cpu")(str(tmp_path / "patch.png"))
    assert sum(prediction.probabilities.values()) == pytest.approx(1)
    assert set(prediction.probabilities) == {"normal", "tumour"}


def test_random_kernels_have_the_other_two_as_rivals(manifest: Path, tmp_path: Path) -> None:
    run = train(BUNDLE, manifest, tmp_path / "run", set={**TINY, "initial_kernels": "random"}, device="cpu")
    assert sorted(path.name for path in (run / "rivals").iterdir()) == ["gaussian", "pso"]
    assert (run / "rivals" / "pso" / "stages" / "kernels" / "search.csv").is_file()
