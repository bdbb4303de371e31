"""Phantom eyes: what their grade shows, what both eyes of a patient share, and their official layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medresnet3d.data import items, load_manifest
from medresnet3d.data.phantoms.fundus import KINDS, SEVERITY, eye, findings_of_grade, write_aptos, write_eyepacs
from medresnet3d.errors import ConfigError

FULL = dict.fromkeys(KINDS, 6)


def test_the_same_seed_draws_the_same_eye_and_a_left_eye_is_the_mirror_image_of_a_right_one() -> None:
    right, again, left = eye(3, FULL), eye(3, FULL), eye(3, FULL, right=False)
    assert np.array_equal(right.picture, again.picture)
    assert right.picture.shape == (96, 128, 3) and right.picture.dtype == np.uint8
    column = [float(np.nonzero(each.nerve)[1].mean()) for each in (right, left)]
    assert column[0] > right.fovea[1] + 10 and column[1] < left.fovea[1] - 10


def test_the_masks_are_where_the_lesions_are() -> None:
    drawn, bare = eye(5, FULL, (160, 200)), eye(5, {}, (160, 200))
    assert drawn.picture[~drawn.field].mean() < 3 and not any(mask.any() for mask in bare.lesions.values())
    skin = drawn.field & ~drawn.vessels & ~drawn.nerve
    green = drawn.picture[..., 1].astype(float)
    typical = np.median(green[skin])
    for kind, sign in (
        ("haemorrhages", -1),
        ("microaneurysms", -1),
        ("exudates", 1),
        ("cotton wool spots", 1),
        ("drusen", 1),
    ):
        alone = eye(5, {kind: 6}, (160, 200))
        mask = alone.lesions[kind]
        assert 0 < mask.mean() < 0.1 and not (mask & ~alone.field).any()
        inside = mask & skin
        assert sign * (alone.picture[..., 1][inside].mean() - typical) > 12, kind


def test_drusen_scatter_where_exudates_cluster() -> None:
    def spread(kind: str) -> float:
        masks = [eye(seed, {kind: 10}, (96, 96)).lesions[kind] for seed in range(8)]
        return float(np.mean([np.std(np.nonzero(mask), axis=1).mean() for mask in masks]))

    assert spread("drusen") > 1.5 * spread("exudates")


def test_the_grade_rules_the_findings_and_difficulty_blurs_it() -> None:
    for grade in range(5):
        found = findings_of_grade(1, grade, difficulty=0.0)
        assert {kind: found[kind] for kind in SEVERITY} == {kind: SEVERITY[kind][grade] for kind in SEVERITY}
    blurred = [findings_of_grade(seed, 2, difficulty=1.0)["haemorrhages"] for seed in range(40)]
    assert len(set(blurred)) > 5
    drusen = [[findings_of_grade([seed, grade], grade)["drusen"] > 0 for seed in range(200)] for grade in (0, 4)]
    assert abs(np.mean(drusen[0]) - np.mean(drusen[1])) < 0.12


def test_eyepacs_has_both_eyes_of_a_patient_in_one_fold(tmp_path: Path) -> None:
    manifest = load_manifest(write_eyepacs(tmp_path, training=20, test=10, size=(32, 40), seed=1))
    assert len(manifest.labels) == 5
    listed = items(manifest, "training") + items(manifest, "validation")
    assert len(listed) == 20 and len(items(manifest, "test")) == 10
    folds: dict[str, set[int]] = {}
    for item in listed:
        folds.setdefault(item["patient"], set()).add(item["fold"])
    assert len(folds) == 10 and all(len(each) == 1 for each in folds.values())
    assert {item["label"] for item in listed} == set(range(5))
    by_patient: dict[str, list[int]] = {}
    for item in listed:
        by_patient.setdefault(item["patient"], []).append(item["label"])
    assert all(abs(one - other) <= 1 for one, other in by_patient.values())


def test_both_eyes_of_a_person_look_more_alike_than_those_of_two() -> None:
    def colour(seed: int, person: int) -> np.ndarray:
        drawn = eye([seed, person], {}, (48, 64), person=person)
        return drawn.picture[drawn.field].astype(float).mean(0) / drawn.picture[drawn.field].mean()

    own = [np.abs(colour(0, person) - colour(1, person)).mean() for person in range(8)]
    other = [np.abs(colour(0, person) - colour(1, person + 20)).mean() for person in range(8)]
    assert np.mean(own) < 0.5 * np.mean(other)


def test_aptos_and_the_referable_task_are_prepared_by_their_adapters(tmp_path: Path) -> None:
    aptos = load_manifest(write_aptos(tmp_path / "aptos", training=10, size=(32, 40)))
    assert sorted(item["label"] for part in ("training", "validation") for item in items(aptos, part)) == sorted(
        [0, 1, 2, 3, 4] * 2
    )
    path = write_eyepacs(tmp_path / "eyepacs", training=10, test=0, size=(32, 40), task="referable")
    assert list(load_manifest(path).labels) == ["not referable", "referable"]


def test_impossible_wishes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no lesions warts"):
        eye(0, {"warts": 1})
    with pytest.raises(ConfigError, match="the grade is 5"):
        findings_of_grade(0, 5)
    with pytest.raises(ConfigError, match="give an even number"):
        write_eyepacs(tmp_path, training=11)
    with pytest.raises(ConfigError, match="cannot have 5 grades"):
        write_aptos(tmp_path, training=3)
