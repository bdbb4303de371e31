from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medresnet3d.data import Manifest, items, load_manifest
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.workflows.evaluation_data import (
    PastPatients,
    choose_items,
    past_patients,
    past_warnings,
    split_patients,
)
from tests.workflows.toy_bundle import train_config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(12):
        (tmp_path / f"{number}.nii.gz").touch()
    return tmp_path


def manifest_of(folder: Path, **sections: range) -> Manifest:
    entries = {
        name: [{"image": f"{n}.nii.gz", "label": n % 2, "patient": f"p{n}"} for n in numbers]
        for name, numbers in sections.items()
    }
    content = {"name": "toy", "task": "classification", "labels": ["a", "b"], **entries}
    (folder / "manifest.json").write_text(json.dumps(content))
    return load_manifest(folder / "manifest.json")


def patients(chosen: list[dict[str, Any]]) -> list[str]:
    return sorted(item["patient"] for item in chosen)


def test_a_challenge_whose_test_has_no_truth_is_evaluated_on_the_rest(folder: Path) -> None:
    manifest_of(folder, training=range(4), test=range(4, 6))
    content = json.loads((folder / "manifest.json").read_text())
    for entry in content["test"]:
        del entry["label"]
    (folder / "manifest.json").write_text(json.dumps(content))
    challenge = load_manifest(folder / "manifest.json")
    past = PastPatients(frozenset({"p0", "p1"}), frozenset({"p2", "p3"}))
    for section in ("auto", "validation"):
        assert patients(choose_items(challenge, section, past)[0]) == ["p2", "p3"]
    assert patients(choose_items(challenge, "auto", None)[0]) == ["p0", "p1", "p2", "p3"]


def test_auto_takes_test_then_validation_then_what_the_run_held_out_then_everything(folder: Path) -> None:
    full = manifest_of(folder, training=range(4), validation=range(4, 8), test=range(8, 10))
    chosen, section, notes = choose_items(full, "auto", None)
    assert (section, patients(chosen), notes) == ("test", ["p8", "p9"], [])

    no_test = manifest_of(folder, training=range(4), validation=range(4, 6))
    chosen, section, notes = choose_items(no_test, "auto", None)
    assert (section, patients(chosen)) == ("validation", ["p4", "p5"])
    assert "validation cases are evaluated instead" in notes[0]

    only_training = manifest_of(folder, training=range(4))
    past = PastPatients(frozenset({"p0", "p1"}), frozenset({"p2", "p3"}))
    chosen, section, notes = choose_items(only_training, "auto", past)
    assert (section, patients(chosen)) == ("validation", ["p2", "p3"])
    assert "this run held out" in notes[0]
    assert patients(choose_items(only_training, "validation", past)[0]) == ["p2", "p3"]

    chosen, section, notes = choose_items(only_training, "auto", None)
    assert (section, len(chosen)) == ("all", 4)
    assert "everything listed is evaluated" in notes[0]


def test_unusable_sections_are_refused(folder: Path) -> None:
    manifest = manifest_of(folder, training=range(4))
    with pytest.raises(ConfigError, match="--section tset"):
        choose_items(manifest, "tset", None)
    with pytest.raises(DataError, match="`test`"):
        choose_items(manifest, "test", None)
    with pytest.raises(DataError, match="held out"):
        choose_items(manifest, "auto", PastPatients(frozenset(), frozenset({"someone else"})))


def test_patients_of_a_run_are_read_from_the_run_and_from_its_bundle(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "bundle").mkdir(parents=True)
    assert past_patients(run) is None
    (run / "environment.json").write_text(json.dumps({"patients": {"training": ["a", 7], "validation": ["b"]}}))
    expected = PastPatients(frozenset({"a", "7"}), frozenset({"b"}))
    assert past_patients(run) == expected
    assert past_patients(run / "bundle") == expected
    (run / "environment.json").write_text(json.dumps({"seed": 0}))
    assert past_patients(run) is None


def test_seen_patients_are_counted(folder: Path) -> None:
    chosen = items(manifest_of(folder, test=range(4)), "test")
    (note,) = past_warnings(chosen, PastPatients(frozenset({"p0", "p3", "x"})), "test")
    assert note.startswith("2 of the 4 patients were in the training of these weights")
    (note,) = past_warnings(chosen, PastPatients(frozenset(), frozenset({"p1"})), "all")
    assert "chose the best" in note
    assert past_warnings(chosen, PastPatients(frozenset({"x"})), "test") == []
    assert past_warnings(chosen, None, "test") == []
    chosen[0].pop("patient")
    assert "counts as a patient of its own" in past_warnings(chosen, None, "test")[0]


def test_split_patients_are_those_that_the_configuration_trains_on(folder: Path) -> None:
    manifest = manifest_of(folder, training=range(10))
    split = split_patients(train_config(), manifest)
    assert split is not None
    assert split["training"] == patients(items(manifest, "training"))
    assert split["validation"] == patients(items(manifest, "validation"))
    assert not set(split["training"]) & set(split["validation"])


def test_split_follows_references_but_evaluates_nothing(folder: Path) -> None:
    manifest = manifest_of(folder, training=range(10))
    config: dict[str, Any] = train_config() | {"fold": 1, "validation_data": {"_target_": "medresnet3d.data.items"}}
    config["train"]["dataset"]["data"]["fold"] = "@fold"
    config["validation_data"] |= {"data": "@data", "section": "validation", "fold": "@fold"}
    config["validate"]["dataset"]["data"] = "@validation_data"
    split = split_patients(config, manifest)
    assert split is not None
    assert split["validation"] == patients(items(manifest, "validation", fold=1))
    config["fold"] = "$1 + 0"
    assert split_patients(config, manifest) is None
    config["validate"]["dataset"]["data"] = "@loop"
    config["loop"] = "@loop"
    assert split_patients(config | {"fold": 1}, manifest) is None
