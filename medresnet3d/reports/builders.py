"""The usual reports, built from plain data: of a training and of an evaluation."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medresnet3d._version import __version__
from medresnet3d.metrics.detection import RATES
from medresnet3d.metrics.estimate import NO_VALUE, Estimate
from medresnet3d.reports.blocks import (
    Block,
    CaseCard,
    Cases,
    Figure,
    Figures,
    Heading,
    KeyValues,
    Report,
    Table,
    Text,
    Tile,
    Tiles,
    Warnings,
)
from medresnet3d.reports.html import format_value, write_report

METRIC_NAMES = {
    "auc": "AUC",
    "f1": "F1",
    "brier": "Brier score",
    "ece": "calibration error (ECE)",
    "balanced_accuracy": "balanced accuracy",
    "quadratic_kappa": "quadratic kappa",
    "patient_score": "patient score",
    "screening_auc": "AUC of screening",
    "screening_sensitivity": "sensitivity of screening at a specificity of 0.9",
    "dice": "Dice",
    "hd95_mm": "HD95, mm",
    "avd_percent": "AVD (absolute volume difference), %",
    "surface_dice": "surface Dice, 1 mm",
    "volume_difference_ml": "volume difference, ml",
    "volume_difference_percent": "volume difference, %",
    "mae": "mean absolute error",
    "r": "correlation r",
    "r2": "R²",
    "cpm": "CPM",
    **{f"sensitivity_at_{rate:g}": f"sensitivity at {rate:g} FP a scan" for rate in RATES},
}
_TILES = (
    *("cpm", "sensitivity_at_1", "auc", "quadratic_kappa", "balanced_accuracy", "sensitivity", "specificity"),
    *("mae", "r", "r2"),
)
_HEADER_FACTS = ("bundle", "version", "weights", "section", "device")
_PACKAGES = ("torch", "monai", "numpy", "nibabel", "SimpleITK", "pydicom", "scikit-learn", "pytorch-ignite")


def versions() -> dict[str, str]:
    """Give the versions of Python, of this package and of the libraries that decide about results."""
    found = {"medresnet3d": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return {**found, "system": f"{platform.system()} {platform.machine()}"}


def records_table(records: Sequence[Mapping[str, Any]], caption: str = "", folded: bool = False) -> Table:
    """Make a table of dictionaries; the columns are their keys in order; empty ones are left out."""
    filled = {key for record in records for key, value in record.items() if value is not None and value != ""}
    columns = [key for key in dict.fromkeys(key for record in records for key in record) if key in filled]
    rows = [[record.get(column) for column in columns] for record in records]
    return Table([METRIC_NAMES.get(name, name.replace("_", " ")) for name in columns], rows, caption, folded)


def metric_table(metrics: Mapping[str, Any], caption: str = "") -> Table:
    """Make a table of estimates with their intervals.

    Args:
        metrics: estimates by metric, or by class and metric.
        caption: what the table shows.
    """
    nested = {name: value for name, value in metrics.items() if isinstance(value, Mapping)}
    if nested:
        columns = list(dict.fromkeys(key for value in nested.values() for key in value))
        rows = [[name, *(value.get(column) for column in columns)] for name, value in nested.items()]
        return Table(["structure", *(METRIC_NAMES.get(name, name) for name in columns)], rows, caption)
    records = [
        {"metric": _metric_name(name), "value": value.value, "95% interval": _interval(value), "note": value.note}
        for name, value in metrics.items()
    ]
    return records_table(records, caption)


def _metric_name(name: str) -> str:
    return METRIC_NAMES.get(name, name.replace("_", " "))


def _interval(value: Estimate) -> str:
    return NO_VALUE if np.isnan(value.low) else f"{value.low:.3f} to {value.high:.3f}"


def metric_tiles(metrics: Mapping[str, Any], names: Sequence[str] = _TILES) -> Tiles:
    """Make tiles of the figures that matter most: of every class for a segmentation, else those of ``names``."""
    if any(isinstance(value, Mapping) for value in metrics.values()):
        chosen = {f"Dice, {name}": value["dice"] for name, value in metrics.items() if "dice" in value}
    else:
        chosen = {_metric_name(name): metrics[name] for name in names if name in metrics}
    return Tiles([Tile(name, format_value(value.value), _tile_note(value)) for name, value in chosen.items()])


def _tile_note(value: Estimate) -> str:
    return value.note if np.isnan(value.low) else f"95% interval {_interval(value)}"


def header(what: Mapping[str, Any]) -> dict[str, Any]:
    """Choose the short facts for the head of a report."""
    facts = {name: what[name] for name in _HEADER_FACTS if what.get(name)}
    if "weights" in facts:
        facts["weights"] = str(facts["weights"])[:12]
    return {**facts, "date": datetime.now().strftime("%Y-%m-%d %H:%M")}


def what_was_run(what: Mapping[str, Any]) -> list[Block]:
    """Say what was run, with which command and versions."""
    command = what.get("command") or " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    run = {name: value for name, value in what.items() if name != "command"}
    return [Heading("What was run"), KeyValues(run, command=command), KeyValues(versions(), "Versions", folded=True)]


def list_inputs(inputs: Sequence[Mapping[str, Any]] | Sequence[str]) -> list[Block]:
    """List the input files."""
    if not inputs:
        return []
    records = [dict(one) if isinstance(one, Mapping) else {"input": one} for one in inputs]
    return [records_table(records, "Inputs", folded=len(records) > 12)]


def evaluation_report(
    output: str | os.PathLike[str],
    *,
    what: Mapping[str, Any],
    metrics: Mapping[str, Any],
    cases: Sequence[Mapping[str, Any]] = (),
    comparison: Sequence[Block] = (),
    figures: Sequence[Figure] = (),
    best: Sequence[CaseCard] = (),
    worst: Sequence[CaseCard] = (),
    failed: Sequence[CaseCard] = (),
    inputs: Sequence[Mapping[str, Any]] | Sequence[str] = (),
    warnings: Sequence[str] = (),
    title: str = "",
    subtitle: str = "",
    method: str = "",
) -> Path:
    """Write the report of a comparison with the truth.

    Args:
        output: folder (gets ``report.html``) or file to write.
        what: what was run: bundle, version, weights (hash), data, section, ...
        metrics: estimates by metric (classification, regression) or by structure and metric (segmentation).
        cases: one record a case (or case and structure) for the table.
        comparison: other trainings on the same cases, shown below the metrics.
        figures: plots, e.g. of :func:`classification_figures`.
        best: cards of the best cases.
        worst: cards of the worst cases, shown first.
        failed: cards of cases without an answer.
        inputs: the input files.
        warnings: what concerns the whole evaluation, e.g. patients that were in the training.
        title: by default, the bundle's name and the data's.
        subtitle: one line on what was done.
        method: how the figures were obtained.

    Returns:
        Path of the written file.
    """
    blocks: list[Block] = [Warnings(warnings)]
    if metrics:
        blocks += [metric_tiles(metrics), Heading("Metrics", method), metric_table(metrics, "With 95% intervals")]
    blocks += comparison
    if figures:
        blocks.append(Figures(list(figures)))
    for heading, cards in (("Cases without an answer", failed), ("Worst cases", worst), ("Best cases", best)):
        if cards:
            blocks += [Heading(heading), Cases(list(cards))]
    if cases:
        blocks += [Heading("All cases"), records_table(cases, "One row a case; click a title to sort")]
    blocks += [*what_was_run(what), *list_inputs(inputs)]
    title = title or f"Evaluation of {what.get('bundle', 'a bundle')}"
    return write_report(Report(title, subtitle, blocks, header(what)), report_file(output))


def classification_figures(prob: NDArray[Any], label: NDArray[Any], names: Sequence[str]) -> list[Figure]:
    """Draw confusion matrix, ROC and reliability plot.

    Args:
        prob: probabilities (N, C).
        label: class numbers (N,).
        names: class names.
    """
    from sklearn.metrics import confusion_matrix

    from medresnet3d.reports.figures import confusion_plot, reliability_plot, roc_plot

    matrix = confusion_matrix(label, np.argmax(prob, axis=1), labels=range(len(names)))
    return [
        Figure(confusion_plot(matrix, names), "Confusion matrix: counts and share of the true class."),
        Figure(roc_plot(prob, label, names), "Sensitivity against false alarms (ROC)."),
        Figure(reliability_plot(prob, label), "Calibration: the numbers count the cases in each bin of confidence."),
    ]


def training_report(
    run_folder: str | os.PathLike[str],
    *,
    what: Mapping[str, Any] | None = None,
    results: Mapping[str, Any] | None = None,
    cards: Sequence[CaseCard] = (),
    figures: Sequence[Figure] = (),
    inputs: Sequence[Mapping[str, Any]] | Sequence[str] = (),
    warnings: Sequence[str] = (),
    title: str = "",
    subtitle: str = "",
) -> Path:
    """Write the report of a training, ``report.html`` in its RUN folder.

    Reads ``metrics.csv`` (curves and table), ``environment.json`` (versions, seed, data) and ``config.json`` of the
    folder, as far as they exist.

    Args:
        run_folder: the RUN folder.
        what: what was run: bundle, version, data, device, seed, seconds, command, ...
        results: final figures by name: numbers, text or estimates; shown large.
        cards: example cases of the validation data.
        figures: further plots.
        inputs: the training and validation inputs, with their section.
        warnings: what the reader must know.
        title: by default, the bundle's name.
        subtitle: one line on what was done.

    Returns:
        Path of the written file.
    """
    run = Path(run_folder)
    what = dict(what or {})
    blocks: list[Block] = []
    if results:
        blocks.append(Tiles([_result_tile(name, value) for name, value in results.items()]))
    blocks += [Warnings(warnings), Heading("Course of the training"), *_course(run / "metrics.csv"), *figures]
    if cards:
        blocks += [Heading("Validation cases"), Cases(list(cards))]
    blocks += [*what_was_run(what), *list_inputs(inputs)]
    for name, caption in (("environment.json", "Environment"), ("config.json", "Configuration")):
        values = _json(run / name)
        if values:
            blocks.append(KeyValues(_flat(values), f"{caption} ({name})", folded=True))
    title = title or f"Training of {what.get('bundle', run.name)}"
    return write_report(Report(title, subtitle, blocks, header(what)), run / "report.html")


def _result_tile(name: str, value: Any) -> Tile:
    if isinstance(value, Estimate):
        return Tile(_metric_name(name), format_value(value.value), _tile_note(value))
    return Tile(_metric_name(name), format_value(value))


def _course(metrics_csv: Path) -> list[Block]:
    if not metrics_csv.is_file():
        return [Text("No step has been recorded yet.")]
    import pandas as pd

    from medresnet3d.reports.figures import training_curves

    table = pd.read_csv(metrics_csv)
    if table.empty:
        return [Text("No step has been recorded yet.")]
    records = table.astype(object).where(table.notna(), None).to_dict("records")
    return [
        Figure(training_curves(table), "Loss and validation metrics over the training.", "training curves"),
        records_table([{str(name): value for name, value in one.items()} for one in records], metrics_csv.name, True),
    ]


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested values to one level with ``a::b`` names, as configurations write them; long lists are cut."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{name}::")
        else:
            text = value if isinstance(value, (int, float, str, bool, type(None))) else json.dumps(value, default=str)
            flat[f"{prefix}{name}"] = text if len(str(text)) <= 300 else f"{str(text)[:300]} ..."
    return flat


def report_file(output: str | os.PathLike[str]) -> Path:
    """Give the file to write: ``report.html`` of a folder, or the file that was named."""
    path = Path(output)
    return path if path.suffix.lower() in (".html", ".htm") else path / "report.html"
