"""Malignancy of LIDC-IDRI's nodules from the readers' characteristics, cross-validated by patient.

    python benchmarks/lidc_attributes.py --manifest lidc/manifest.json
    python benchmarks/lidc_attributes.py --phantoms 200

The manifest is what ``medresnet3d data prepare lidc_idri`` writes. Without one, phantoms are drawn, of which three in
ten have the margin of the other class; a figure of theirs says that the baseline works, and nothing about patients.
Beside the baseline stands each characteristic by itself (its AUC as it is, nothing fitted). Intervals are 95%
percentile bootstrap intervals over patients.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from medresnet3d.data import items
from medresnet3d.data.phantoms.lidc import write_nodule_cohort
from medresnet3d.metrics.roc import weighted_auc
from medresnet3d.workflows.attribute_baseline import ATTRIBUTES, attribute_baseline, attribute_table

ATYPICAL = 0.3
SIZE = 32


def report(manifest: Path, folds: int) -> None:
    """Print the figures of the baseline and the AUC of each characteristic alone."""
    result = attribute_baseline(manifest, folds=folds)
    people = len(set(result.patients))
    print(f"{len(result.cases)} nodules of {people} patients, {int(result.label.sum())} malignant, {folds} folds")
    for name in ("auc", "balanced_accuracy", "sensitivity", "specificity"):
        print(f"{name}: {result.metrics[name]}")
    table = attribute_table(items(manifest, "all"))
    everyone = np.ones((1, len(table)))
    for name, column in zip(ATTRIBUTES, table.T, strict=True):
        known = np.isfinite(column)
        auc = weighted_auc(everyone[:, known], result.label[known] == 1, column[known])[0]
        print(f"{name} alone: {auc:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--manifest", type=Path, help="what `medresnet3d data prepare lidc_idri` has written")
    source.add_argument("--phantoms", type=int, help="number of phantom patients to draw instead")
    parser.add_argument("--folds", type=int, default=5)
    options = parser.parse_args()
    if options.manifest:
        report(options.manifest, options.folds)
        return
    with tempfile.TemporaryDirectory() as folder:
        report(write_nodule_cohort(folder, options.phantoms, size=SIZE, atypical=ATYPICAL), options.folds)


if __name__ == "__main__":
    main()
