from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medresnet3d.data import items, load_manifest
from medresnet3d.data.phantoms.mri import (
    Person,
    ageing,
    healthy,
    patients,
    person_phantom,
    write_brain_cohort,
    write_mrbrains13,
)
from medresnet3d.data.preparation.prepare import prepare
from medresnet3d.errors import ConfigError
from medresnet3d.io import load


@pytest.mark.parametrize(
    ("collection", "task", "labels"),
    [("ixi", "age", None), ("oasis1", "dementia", {0, 1}), ("adni", "diagnosis", {0, 1, 2})],
)
def test_each_layout_is_read_by_its_adapter(
    collection: str, task: str, labels: set[int] | None, tmp_path: Path
) -> None:
    manifest = write_brain_cohort(tmp_path, collection, task, people=15, size=24)
    listed = {section: items(manifest, section) for section in ("training", "validation", "test")}  # type: ignore[arg-type]
    assert [len(found) for found in listed.values()] == [9, 3, 3]
    everyone = [item for found in listed.values() for item in found]
    assert len({item["patient"] for item in everyone}) == 15
    if labels:
        assert {item["label"] for item in everyone} == labels
    content = json.loads(manifest.read_text())
    assert content["name"].startswith("phantoms in the layout of") and content["licence"] == "Apache-2.0"


def test_the_written_scan_is_the_drawn_one_in_its_place(tmp_path: Path) -> None:
    """IXI's sagittal slices and OASIS's Analyze order are undone by reading."""
    for collection, people, turn, shift in (("ixi", healthy, 10.0, 6.0), ("oasis1", None, 0.0, 0.0)):
        manifest = write_brain_cohort(tmp_path / collection, collection, people=15, size=24, turn_degrees=turn)
        drawn = list(people(15, 0)) if people else list(patients(15, 0, ("CN", "CN", "AD")))
        item = items(manifest, "training")[0]
        number = int("".join(filter(str.isdigit, item["patient"]))[-4:]) - (2 if collection == "ixi" else 1)
        number = drawn[number].number
        expected = person_phantom(drawn[number], 24, turn, shift)
        volume = load(item["image"])
        world = np.argwhere(volume.array > 0) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
        truth = np.argwhere(expected.image > 0) @ expected.affine[:3, :3].T + expected.affine[:3, 3]
        np.testing.assert_allclose(world.mean(0), truth.mean(0), atol=1e-6)
        assert sorted(volume.array.ravel()) == sorted(expected.image.ravel())


def test_age_widens_and_disease_shrinks() -> None:
    still = {"turn_degrees": 0.0, "shift_mm": 0.0}
    young, old, ill = (
        [person_phantom(Person(n, 0, age, atrophy), 48, **still) for n in range(6)]
        for age, atrophy in ((22.0, 0.0), (80.0, 0.0), (80.0, 1.0))
    )
    fluid = [np.mean([(p.labels == 1).sum() for p in group]) for group in (young, old, ill)]
    hippocampi = [np.mean([(p.hippocampi > 0).sum() for p in group]) for group in (young, old, ill)]
    assert fluid[1] > 1.2 * fluid[0]
    assert hippocampi[0] > hippocampi[1] > 1.3 * hippocampi[2]


def test_people_differ_at_one_age() -> None:
    rng = np.random.default_rng(0)
    found = [ageing(50.0, 0.0, rng)["hippocampi"] for _ in range(200)]
    assert 0.03 < np.std(found) < 0.07
    assert ageing(50.0, 0.3, np.random.default_rng(1), spread=0.0) == ageing(50.0, 0.3, rng, spread=0.0)


def test_difficulty_hides_the_disease() -> None:
    """How far apart the hippocampi of the healthy and of patients are, in standard deviations."""
    apart = {}
    for difficulty in (0.0, 1.0):
        volumes = [
            [
                (person_phantom(Person(n, 1, 75.0, atrophy), 24, 0.0, 0.0, difficulty).hippocampi > 0).sum()
                for n in range(40)
            ]
            for atrophy in (0.0, 1.0)
        ]
        apart[difficulty] = (np.mean(volumes[0]) - np.mean(volumes[1])) / np.sqrt(np.var(volumes, axis=1).mean())
    assert apart[0.0] > 3 and 0.5 < apart[1.0] < 2


def test_ages_of_the_healthy_cover_the_range() -> None:
    ages = sorted(person.age for person in healthy(40, 3))
    assert ages[0] < 23 and ages[-1] > 83 and max(np.diff(ages)) < 5


def test_an_unknown_collection_lists_the_choices(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="choose one of ixi, oasis1, adni"):
        write_brain_cohort(tmp_path, "ibsr")


def test_the_disease_can_sit_in_one_place_and_images_come_in_two_contrasts(tmp_path: Path) -> None:
    focus = [0.4, 0.1, 0.25]
    still = {"turn_degrees": 0.0, "shift_mm": 0.0}
    well, ill = (person_phantom(Person(0, 0, 70.0, a), 48, focus=focus, **still) for a in (0.0, 1.0))  # type: ignore[arg-type]
    changed = np.argwhere(well.labels != ill.labels) / 47 * 2 - 1
    assert np.linalg.norm(changed - np.array(focus), axis=1).max() < 0.45
    assert np.array_equal(well.hippocampi, ill.hippocampi)
    options = {"focus": focus, "contrasts": ["t1", "t2"]}
    manifest = write_brain_cohort(tmp_path, "adni", "alzheimer", people=18, size=24, turn_degrees=0.0, **options)
    shares = []
    for item in items(manifest, "all"):
        array = load(item["image"]).array
        rim, core = array[array > 0][:50].mean(), array[10:14, 8:16, 16:18].mean()
        shares.append(rim > core)
    assert 0 < sum(shares) < len(shares)


@pytest.mark.parametrize("isointense", [False, True])
def test_mrbrains_has_three_sequences_that_part_the_tissues_differently(isointense: bool, tmp_path: Path) -> None:
    write_mrbrains13(tmp_path / "official", people=6, size=30, isointense=isointense)
    listed = load_manifest(prepare("mrbrains13", tmp_path / "official", tmp_path / "manifest.json", folds=0).path)
    training = items(listed, "training", validation_fraction=0)
    assert [len(listed.sections[name]) for name in ("training", "test")] == [len(training), 2] == [4, 2]
    assert not listed.has_truth("test")
    assert [Path(path).name for path in training[0]["image"]] == ["T1.nii", "T1_IR.nii", "T2_FLAIR.nii"]
    labels = load(training[0]["label"], constant_ok=True)
    np.testing.assert_allclose(labels.spacing, (0.958, 0.958, 3.0), atol=1e-4)
    assert labels.shape == (30, 30, 10)
    means = [
        [float(scan.array[labels.array == tissue].mean()) for tissue in (1, 2, 3)]
        for scan in map(load, training[0]["image"])
    ]
    assert means[0][0] < means[0][1] and (abs(means[0][1] - means[0][2]) < 200) is isointense
    assert means[1][0] > means[1][1] > means[1][2]
    assert means[2][0] < min(means[2][1:])  # the cortex is thin, so fluid darkens it
    air = load(training[0]["image"][0]).array[labels.array == 0]
    assert (air == 0).all()
