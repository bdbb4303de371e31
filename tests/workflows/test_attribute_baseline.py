from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medresnet3d.data import items
from medresnet3d.data.phantoms.lidc import write_nodule_cohort
from medresnet3d.errors import DataError
from medresnet3d.workflows.attribute_baseline import (
    ATTRIBUTES,
    attribute_baseline,
    attribute_classifier,
    attribute_table,
)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty phantoms of which three in ten have the margin of the other class."""
    return write_nodule_cohort(tmp_path_factory.mktemp("lidc"), 60, seed=3, size=24, atypical=0.3)


def written(manifest: Path, change: Any) -> Path:
    """A copy of the manifest beside it whose entries ``change`` has changed."""
    content = json.loads(manifest.read_text())
    for section in ("training", "validation", "test"):
        content[section] = [change(entry) for entry in content[section]]
    path = manifest.with_name("changed.json")
    path.write_text(json.dumps(content))
    return path


def test_what_readers_see_tells_more_than_chance_and_is_no_copy_of_the_label(manifest: Path) -> None:
    result = attribute_baseline(manifest, n_boot=300)
    assert result.metrics["auc"].low > 0.6
    assert 0.7 < result.metrics["auc"].value < 0.98
    table = attribute_table(items(manifest, "all"))
    single = [max(auc, 1 - auc) for auc in (roc_auc_score(result.label, column) for column in table.T)]
    assert max(single) < 0.95


def test_malignancy_is_never_looked_at(manifest: Path) -> None:
    """The label is made from it: ratings of malignancy that were drawn by lot change nothing."""
    rng = np.random.default_rng(0)

    def mixed(entry: dict[str, Any]) -> dict[str, Any]:
        drawn = rng.integers(1, 6, 4).tolist()
        return entry | {"ratings": entry["ratings"] | {"malignancy": float(np.mean(drawn))}, "malignancy": drawn}

    assert "malignancy" not in ATTRIBUTES
    before, after = attribute_baseline(manifest, n_boot=10), attribute_baseline(written(manifest, mixed), n_boot=10)
    np.testing.assert_array_equal(before.probabilities, after.probabilities)


def test_labels_drawn_by_lot_cannot_be_told(manifest: Path) -> None:
    """What would show a nodule that is learnt from and answered at once."""
    rng = np.random.default_rng(1)
    path = written(manifest, lambda entry: entry | {"label": ("benign", "malignant")[rng.integers(2)]})
    assert attribute_baseline(path, n_boot=200).metrics["auc"].value < 0.7


def test_a_patient_is_in_one_fold(manifest: Path) -> None:
    pairs = iter(range(1000))
    path = written(manifest, lambda entry: entry | {"patient": f"p{next(pairs) // 3}"})
    result = attribute_baseline(path, folds=4, n_boot=10)
    folds: dict[str, set[int]] = {}
    for patient, fold in zip(result.patients, result.fold.tolist(), strict=True):
        folds.setdefault(patient, set()).add(fold)
    assert len(folds) == 20
    assert all(len(each) == 1 for each in folds.values())


def test_missing_ratings_are_filled_and_unseen_kinds_ignored() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 40)
    rated = [{"ratings": {"spiculation": float(1 + 3 * value), "calcification": 6.0}, "case": "a"} for value in label]
    table = attribute_table(rated)
    assert np.isnan(table[:, ATTRIBUTES.index("texture")]).all()
    classifier = attribute_classifier().fit(table, label)
    table[0, ATTRIBUTES.index("calcification")] = 3.0
    table[1, ATTRIBUTES.index("spiculation")] = np.nan
    assert np.isfinite(classifier.predict_proba(table)).all()
    assert (classifier.predict(table[2:]) == label[2:]).all()


def test_a_manifest_without_ratings_is_refused(manifest: Path) -> None:
    path = written(manifest, lambda entry: {key: value for key, value in entry.items() if key != "ratings"})
    with pytest.raises(DataError, match=r"has no `ratings` of the readers.*data prepare lidc_idri --task malignancy"):
        attribute_baseline(path)


def test_another_task_is_refused(manifest: Path) -> None:
    content = json.loads(manifest.read_text()) | {"labels": {"0": "benign", "1": "malignant", "2": "other"}}
    path = manifest.with_name("three.json")
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="tells two classes apart, but this is classification of 3"):
        attribute_baseline(path)
