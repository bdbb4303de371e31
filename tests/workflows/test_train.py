from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from medresnet3d.bundle.load import load_network
from medresnet3d.bundle.trust import require_trust
from medresnet3d.engines import TrainingInterrupted
from medresnet3d.engines.interrupt import InterruptGuard
from medresnet3d.errors import ConfigError, DataError, UntrustedBundleError
from medresnet3d.workflows.train import train
from tests.engines.test_handlers import assert_same_run
from tests.engines.toy import run_in_child
from tests.workflows.toy_bundle import write_cubes, write_toy_bundle


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cubes(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_bundle(tmp_path_factory.mktemp("bundles") / "toy_cubes")


@pytest.fixture(scope="module")
def run(bundle: Path, manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(bundle, manifest, tmp_path_factory.mktemp("runs") / "run")


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def test_the_run_folder_holds_everything(run: Path) -> None:
    assert {path.name for path in run.iterdir()} == {
        "bundle",
        "checkpoints",
        "config.json",
        "environment.json",
        "metrics.csv",
        "report.html",
        "tensorboard",
    }
    assert len(list(csv.DictReader((run / "metrics.csv").open()))) == 3
    report = (run / "report.html").read_text()
    assert "Research use only. Not for clinical use." in report
    assert "toy cubes" in report


def test_environment_tells_versions_seed_data_and_command(run: Path, bundle: Path, manifest: Path) -> None:
    environment = read(run / "environment.json")
    assert environment["versions"]["torch"] == torch.__version__.split("+")[0] or environment["versions"]["torch"]
    assert environment["seed"] == 0
    assert len(environment["data"]["content_hash"]) == 64
    assert environment["bundle"]["name"] == "toy_cubes"
    assert environment["command"] == f"medresnet3d train {bundle} --data {manifest} -o {run}"


def test_config_can_be_run_again_by_monai(run: Path, tmp_path: Path) -> None:
    parser = ConfigParser()
    parser.read_config(str(run / "config.json"))
    parser["output_dir"] = str(tmp_path)
    for part in ("initialize", "run"):
        parser.get_parsed_content(part)
    first, again = (torch.load(folder / "checkpoints" / "last.pt", weights_only=True) for folder in (run, tmp_path))
    assert all(torch.equal(first["network"][name], again["network"][name]) for name in first["network"])


def test_ready_bundle_is_trusted_and_has_the_best_weights(run: Path) -> None:
    require_trust(run / "bundle")
    best = torch.load(run / "checkpoints" / "best.pt", weights_only=True)["network"]
    network = load_network(run)
    assert all(torch.equal(best[name], tensor) for name, tensor in network.state_dict().items())
    metadata = read(run / "bundle" / "configs" / "metadata.json")
    assert metadata["training"]["data"]["name"] == "toy cubes"
    assert metadata["training"]["metrics"] == metadata["eval_metrics"]
    assert "weights" not in metadata
    card = (run / "bundle" / "docs" / "README.md").read_text()
    assert card.startswith("# Toy cubes") and "| data set | toy cubes |" in card


def test_training_a_run_further_replaces_the_cards_section(run: Path, manifest: Path, tmp_path: Path) -> None:
    again = train(run, manifest, tmp_path / "again", set={"max_epochs": 1})
    card = (again / "bundle" / "docs" / "README.md").read_text()
    assert card.count("## These weights") == 1
    assert "max_epochs=1" in card


def test_overrides_become_the_ready_bundles_values(bundle: Path, manifest: Path, tmp_path: Path) -> None:
    folder = train(bundle, manifest, tmp_path / "run", set=["features=6", "max_epochs=1", "device=cpu"])
    assert read(folder / "environment.json")["device"] == "cpu"
    assert read(folder / "bundle" / "configs" / "train.json")["device"] == read(bundle / "configs/train.json")["device"]
    with pytest.raises(ConfigError, match="device is given twice: --device cuda and --set device=cpu"):
        train(bundle, manifest, tmp_path / "twice", set=["device=cpu"], device="cuda")
    assert read(folder / "config.json")["features"] == 6
    assert read(folder / "bundle" / "configs" / "inference.json")["features"] == 6
    assert read(folder / "bundle" / "configs" / "train.json")["max_epochs"] == 1
    assert "max_epochs" not in read(folder / "bundle" / "configs" / "inference.json")
    load_network(folder)


def test_classes_are_those_of_the_data(bundle: Path, tmp_path: Path) -> None:
    manifest = write_cubes(tmp_path / "data", labels=("benign", "malignant"))
    folder = train(bundle, manifest, tmp_path / "run", set={"max_epochs": 1})
    labels = read(folder / "bundle" / "configs" / "metadata.json")["labels"]
    assert labels == {"0": "benign", "1": "malignant"}


def test_more_classes_than_the_network_has_is_refused(bundle: Path, tmp_path: Path) -> None:
    manifest = write_cubes(tmp_path / "data", labels=("a", "b"))
    content = read(manifest)
    content["labels"] = ["a", "b", "c"]
    content["training"][0]["label"] = "c"
    manifest.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"Class 2 occurs .* the network gives 2 classes"):
        train(bundle, manifest, tmp_path / "run")


def test_a_classifier_gets_as_many_classes_as_the_data_has(bundle: Path, tmp_path: Path) -> None:
    manifest = write_cubes(tmp_path / "data", labels=("a", "b"))
    content = read(manifest)
    content["labels"] = ["a", "b", "c"]
    content["training"][0]["label"] = content["validation"][0]["label"] = "c"
    manifest.write_text(json.dumps(content))
    flexible = tmp_path / "flexible"
    shutil.copytree(bundle, flexible)
    for name in ("train", "inference"):
        config = read(flexible / "configs" / f"{name}.json")
        config["num_classes"] = 2
        config["network_def"]["out_channels"] = "@num_classes"
        text = json.dumps(config).replace('"to_onehot": 2', '"to_onehot": "@num_classes"')
        (flexible / "configs" / f"{name}.json").write_text(text)
    folder = train(flexible, manifest, tmp_path / "run", set={"max_epochs": 1})
    assert read(folder / "bundle" / "configs" / "inference.json")["num_classes"] == 3
    assert load_network(folder).state_dict()["class_layers.out.weight"].shape[0] == 3


def test_killed_at_random_times_and_resumed(run: Path, bundle: Path, manifest: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"set": {"checkpoint_seconds": 0}}
    started = time.monotonic()
    run_in_child(lambda: train(bundle, manifest, tmp_path / "timed", **options)).join()
    whole = time.monotonic() - started
    folder, chance, kills = tmp_path / "run", random.Random(1), 0
    exit_code = None
    while exit_code != 0:
        resume = (folder / "environment.json").exists()
        child = run_in_child(lambda: train(bundle, manifest, folder, resume=resume, **options))  # noqa: B023
        child.join(chance.uniform(0.3 * whole, whole) if kills < 5 else None)
        if child.is_alive():
            os.kill(child.pid, signal.SIGKILL)
            kills += 1
        child.join()
        exit_code = child.exitcode
        assert exit_code in (0, -signal.SIGKILL)
    assert_same_run(run, folder)
    load_network(folder)


def test_ctrl_c_says_how_to_go_on(
    run: Path, bundle: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    install = InterruptGuard.install

    def install_and_press(guard: InterruptGuard) -> None:
        install(guard)
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch, pytest.raises(TrainingInterrupted, match="iteration 1 of 9") as stopped:
        patch.setattr(InterruptGuard, "install", install_and_press)
        train(bundle, manifest, folder, set=["learning_rate=0.01"])
    expected = f"medresnet3d train {bundle} --data {manifest} -o {folder} --set learning_rate=0.01 --resume"
    assert str(stopped.value).endswith(expected)
    train(bundle, manifest, folder, resume=True)  # the run's own --set values are the default
    assert_same_run(run, folder)


def test_a_run_that_never_began_leaves_its_folder_free(bundle: Path, manifest: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(ConfigError):
        train(bundle, manifest, folder, set={"seed": -1})
    assert not list(folder.iterdir())
    assert (train(bundle, manifest, folder, set={"max_epochs": 1}) / "metrics.csv").is_file()


def test_a_taken_folder_is_refused(run: Path, bundle: Path, manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="exists already and is not empty: continue it with --resume"):
        train(bundle, manifest, run)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="exists already and is not empty: choose another folder"):
        train(bundle, manifest, tmp_path)
    with pytest.raises(ConfigError, match=r"notes\.txt is a file"):
        train(bundle, manifest, tmp_path / "notes.txt")
    with pytest.raises(ConfigError, match="holds no run to resume"):
        train(bundle, manifest, tmp_path / "new", resume=True)
    with pytest.raises(ConfigError, match="holds no run to resume"):
        train(bundle, manifest, tmp_path, resume=True)


def test_resuming_differently_lists_the_differences(run: Path, bundle: Path, manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"learning_rate was 0\.01 and is 0\.5; max_epochs was 3 and is 9"):
        train(bundle, manifest, run, resume=True, set=["learning_rate=0.5", "max_epochs=9"])
    other = write_cubes(tmp_path / "data", cases=24)
    with pytest.raises(ConfigError, match="the data was toy cubes"):
        train(bundle, other, run, resume=True)
    changed = tmp_path / "toy_cubes"
    shutil.copytree(bundle, changed)
    (changed / "LICENSE").write_text("another")
    with pytest.raises(ConfigError, match="the bundle was toy_cubes"):
        train(changed, manifest, run, resume=True)


def test_resuming_a_finished_run_leaves_it_as_it_is(run: Path, bundle: Path, manifest: Path) -> None:
    before = (run / "metrics.csv").read_text()
    train(bundle, manifest, run, resume=True, set=["num_workers=1"])
    assert (run / "metrics.csv").read_text() == before


def test_a_data_set_for_another_task_is_refused(bundle: Path, manifest: Path, tmp_path: Path) -> None:
    content = read(manifest) | {"task": "regression"}
    for entry in content["training"] + content["validation"]:
        entry["label"] = 1.5
    other = manifest.with_name("regression.json")
    content.pop("labels")
    other.write_text(json.dumps(content))
    with pytest.raises(DataError, match="is for regression, but toy_cubes does classification"):
        train(bundle, other, tmp_path / "run")


def test_an_unknown_id_names_the_nearest(bundle: Path, manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="learning_rate"):
        train(bundle, manifest, tmp_path / "run", set=["learningrate=1"])
    assert not (tmp_path / "run").exists()


def test_errors_inside_monai_come_out_as_their_cause(bundle: Path, manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch_size is -1"):
        train(bundle, manifest, tmp_path / "run", set=["batch_size=-1"])


def test_a_full_disk_is_one_sentence(
    bundle: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bytes = Path.write_bytes

    def full(path: Path, content: Any) -> int:
        if path.name.endswith("last.pt"):
            raise OSError(28, "No space left on device", str(path))
        return write_bytes(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match=r"last\.pt: the disk is full"):
        train(bundle, manifest, tmp_path / "run")


def test_a_bundle_that_could_run_code_is_stopped(bundle: Path, manifest: Path, tmp_path: Path) -> None:
    evil = tmp_path / "evil"
    shutil.copytree(bundle, evil)
    config = read(evil / "configs" / "train.json")
    config["initialize"].append({"_target_": "os.system", "command": f"touch {tmp_path}/ran"})
    (evil / "configs" / "train.json").write_text(json.dumps(config))
    with pytest.raises(UntrustedBundleError):
        train(evil, manifest, tmp_path / "run")
    assert not (tmp_path / "ran").exists()


def test_a_bundle_without_our_handlers_is_refused(bundle: Path, manifest: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    shutil.copytree(bundle, plain)
    config = read(plain / "configs" / "train.json")
    config["train"]["handlers"] = []
    (plain / "configs" / "train.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="does not use medresnet3d"):
        train(plain, manifest, tmp_path / "run")


@pytest.fixture
def contested(bundle: Path, tmp_path: Path) -> Path:
    """The toy bundle with another learning rate as its rival, and one that is the bundle itself."""
    folder = tmp_path / "contested"
    shutil.copytree(bundle, folder)
    config = read(folder / "configs" / "train.json")
    config |= {"max_epochs": 1, "budget": {"steps_in_all": 3}}
    config["rivals"] = {"fast": {"learning_rate": 0.01}, "slow": {"learning_rate": 0.001}}
    (folder / "configs" / "train.json").write_text(json.dumps(config))
    return folder


def test_rivals_are_trained_beside_the_run(contested: Path, manifest: Path, tmp_path: Path) -> None:
    run = train(contested, manifest, tmp_path / "run")
    assert [path.name for path in (run / "rivals").iterdir()] == ["slow"]
    rival = run / "rivals" / "slow"
    assert read(rival / "config.json")["learning_rate"] == 0.001
    assert not (rival / "rivals").exists()
    assert read(run / "environment.json")["budget"] == {"steps_in_all": 3}
    one, other = (load_network(folder).state_dict() for folder in (run, rival))
    assert any(not torch.equal(value, other[name]) for name, value in one.items())
    alone = train(contested, manifest, tmp_path / "alone", rivals=False)
    assert not (alone / "rivals").exists()


def test_an_interrupted_rival_names_the_command_of_the_whole_run(
    contested: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any, **options: Any) -> Path:
        raise TrainingInterrupted("Stopped after iteration 1. Go on with: medresnet3d train a part of it")

    monkeypatch.setattr("medresnet3d.workflows.train.train", interrupted)
    with pytest.raises(TrainingInterrupted) as stop:
        train(contested, manifest, tmp_path / "run")
    command = f"medresnet3d train {contested} --data {manifest} -o {tmp_path / 'run'} --resume"
    assert str(stop.value) == f"Stopped after iteration 1. Go on with: {command}"
    assert (tmp_path / "run" / "bundle").is_dir(), "what is trained can be used"
