"""Malignancy of lung nodules from what readers say they look like: a cheap baseline for networks on LIDC-IDRI.

After: J. Gong et al., 2015, who classified nodules of LIDC-IDRI by the readers' characteristics. The classifier and how
ratings become numbers are choices of this package.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medresnet3d.data import items
from medresnet3d.data.manifest import Manifest, load_manifest
from medresnet3d.data.splits import assign_folds
from medresnet3d.errors import DataError
from medresnet3d.metrics import Estimate, classification_metrics

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

GRADED = ("subtlety", "sphericity", "margin", "lobulation", "spiculation", "texture")
"""Characteristics on a scale, of which the readers' mean is taken."""

KINDS = ("internalStructure", "calcification")
"""Characteristics whose numbers name kinds; the readers' mean is rounded to one of them."""

ATTRIBUTES = (*GRADED, *KINDS)
"""All characteristics but malignancy, from which the label is made."""


@dataclass(frozen=True)
class AttributeBaseline:
    """How well the readers' characteristics tell the classes apart.

    Args:
        metrics: figures of merit by name with 95% intervals over patients.
        cases: names of the nodules, (n,).
        patients: whose they are, (n,).
        label: class numbers, (n,).
        probabilities: of each class, from a classifier that knew no nodule of the patient, (n, 2).
        fold: in which each nodule was held out, (n,).
    """

    metrics: dict[str, Estimate]
    cases: tuple[str, ...]
    patients: tuple[str, ...]
    label: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    fold: NDArray[np.int64]


def attribute_baseline(
    data: str | os.PathLike[str] | Manifest, *, folds: int = 5, seed: int = 0, n_boot: int = 1000
) -> AttributeBaseline:
    """Cross-validate a classifier of the readers' characteristics, by patient.

    A logistic regression with balanced classes on the eight characteristics of LIDC-IDRI without malignancy: mean
    ratings, standardised, a missing one replaced by the median of the training nodules; calcification and internal
    structure as one column for each kind. All entries of the manifest take part, whatever their section.

    Args:
        data: manifest whose entries have ``ratings``, as ``medresnet3d data prepare lidc_idri`` writes them: the
            readers' mean by characteristic.
        folds: number of folds; each patient is in one.
        seed: of the folds and of the intervals.
        n_boot: number of resamples of the intervals.

    Raises:
        DataError: if the manifest has not two classes, an entry has no ratings, or there are fewer patients than folds.
    """
    manifest = load_manifest(data if isinstance(data, Manifest) else os.fspath(data))
    listed = items(manifest, "all")
    if manifest.task != "classification" or len(manifest.labels) != 2:
        raise DataError(
            f"{manifest.where}: the baseline tells two classes apart, but this is {manifest.task} of "
            f"{len(manifest.labels)}; prepare LIDC-IDRI with --task malignancy."
        )
    table = attribute_table(listed, manifest.where)
    label = np.array([item["label"] for item in listed], dtype=np.int64)
    patients = [str(item.get("patient") or item["case"]) for item in listed]
    fold = np.array(assign_folds(patients, folds, classes=label.tolist(), seed=seed))
    probabilities = np.zeros((len(listed), 2))
    for number in range(folds):
        held_out = fold == number
        classifier = attribute_classifier().fit(table[~held_out], label[~held_out])
        probabilities[held_out] = classifier.predict_proba(table[held_out])
    return AttributeBaseline(
        classification_metrics(probabilities, label, patients, manifest.labels, n_boot, seed),
        tuple(str(item["case"]) for item in listed),
        tuple(patients),
        label,
        probabilities,
        fold,
    )


def attribute_table(listed: Sequence[Mapping[str, Any]], where: str = "the manifest") -> NDArray[np.float64]:
    """The characteristics of nodules as numbers.

    Args:
        listed: items with ``ratings``.
        where: they come from, for the message.

    Returns:
        One row a nodule, one column for each of :data:`ATTRIBUTES`, NaN where nobody rated it.

    Raises:
        DataError: if an item has no ratings.
    """
    rows = []
    for item in listed:
        ratings = item.get("ratings")
        if not isinstance(ratings, Mapping):
            raise DataError(
                f"{where}: {item.get('case', 'an entry')} has no `ratings` of the readers; the baseline needs a "
                "manifest that `medresnet3d data prepare lidc_idri --task malignancy` has written."
            )
        rows.append([float(ratings.get(name, np.nan)) for name in ATTRIBUTES])
    return np.array(rows).reshape(-1, len(ATTRIBUTES))


def attribute_classifier() -> Pipeline:
    """An unfitted classifier of rows of :func:`attribute_table`."""
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

    graded = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    kinds = make_pipeline(
        SimpleImputer(strategy="most_frequent", keep_empty_features=True),
        FunctionTransformer(np.rint),
        OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    )
    columns = make_column_transformer(
        (graded, list(range(len(GRADED)))), (kinds, list(range(len(GRADED), len(ATTRIBUTES))))
    )
    return make_pipeline(columns, LogisticRegression(class_weight="balanced", max_iter=1000))
