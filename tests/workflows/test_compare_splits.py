from __future__ import annotations

import json
from pathlib import Path

import pytest

from medresnet3d.data import items, load_manifest
from medresnet3d.workflows.compare_splits import write_split
from tests.workflows.toy_bundle import write_cubes


def patients(path: Path, section: str, **options: int) -> set[str]:
    return {item["patient"] for item in items(path, section, **options)}  # type: ignore[arg-type]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_cubes(tmp_path / "data", cases=32)


def without_validation(manifest: Path) -> Path:
    content = json.loads(manifest.read_text())
    content["training"] += content.pop("validation")
    path = manifest.with_name("training_only.json")
    path.write_text(json.dumps(content))
    return path


def test_the_manifests_own_validation_is_what_is_held_out(manifest: Path, tmp_path: Path) -> None:
    split = write_split(load_manifest(manifest), tmp_path / "splits")
    for section in ("training", "validation"):
        assert patients(split.outer, section) == patients(manifest, section)
        # whatever seed a bundle gives, the written split stays as it is
        assert patients(split.outer, section, seed=7) == patients(manifest, section)
    assert (split.training, split.validation) == (24, 8)


def test_inner_and_outer_parts_share_no_patient(manifest: Path, tmp_path: Path) -> None:
    split = write_split(load_manifest(without_validation(manifest)), tmp_path / "splits")
    held_out, training = patients(split.outer, "validation"), patients(split.outer, "training")
    chosen_on, trained_on = patients(split.inner, "validation"), patients(split.inner, "training")
    assert held_out and chosen_on and trained_on
    assert not held_out & training
    assert not chosen_on & trained_on
    assert chosen_on | trained_on == training


def test_folds_hold_out_every_patient_once(manifest: Path, tmp_path: Path) -> None:
    everything = load_manifest(without_validation(manifest))
    splits = [write_split(everything, tmp_path / "splits", fold, 4) for fold in range(4)]
    parts = [patients(split.outer, "validation") for split in splits]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 32
    assert len({split.outer for split in splits}) == 4


def test_the_same_data_give_the_same_files(manifest: Path, tmp_path: Path) -> None:
    loaded = load_manifest(without_validation(manifest))
    first, second = (write_split(loaded, tmp_path / name) for name in ("one", "two"))
    assert first.outer.read_text() == second.outer.read_text()
    assert first.inner.read_text() == second.inner.read_text()
    before = first.outer.stat().st_mtime_ns
    write_split(loaded, tmp_path / "one")
    assert first.outer.stat().st_mtime_ns == before
