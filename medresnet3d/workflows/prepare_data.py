"""Prepare a public data set and say what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medresnet3d.data.manifest_table import is_table
from medresnet3d.data.preparation.prepare import Prepared, prepare
from medresnet3d.data.preparation.report import print_report
from medresnet3d.errors import ConfigError


def prepare_data(
    name: str,
    root: str | Path,
    output: str | Path = "manifest.json",
    *,
    task: str | None = None,
    folds: int = 5,
    seed: int = 0,
    options: Sequence[str] = (),
    format: str | None = None,
) -> Prepared:
    """Prepare a data set and print the report; see :func:`medresnet3d.data.preparation.prepare.prepare`.

    Args:
        name: of the data set.
        root: the folder that it was unpacked to.
        output: the manifest to write, or a folder for ``manifest.json``.
        task: one of the data set's tasks.
        folds: number of folds; 0 for none.
        seed: of the folds.
        options: further options as ``NAME=VALUE``.
        format: ``json`` or ``csv``; by default as ``output`` is called.

    Raises:
        ConfigError: if an option has no ``=``, the format is unknown, or from
            :func:`~medresnet3d.data.preparation.prepare.prepare`.
        DataError: from :func:`~medresnet3d.data.preparation.prepare.prepare`.
    """
    if format not in (None, "json", "csv"):
        raise ConfigError(f"--format {format}: this format is unknown; use json or csv.")
    if format == "json" and is_table(Path(output)):
        raise ConfigError(f"--format json and the name {output} contradict each other; drop one of them.")
    for option in options:
        if "=" not in option:
            raise ConfigError(f"The option {option!r} has no value; write --set {option}=VALUE.")
    values = dict(option.split("=", 1) for option in options)
    result = prepare(name, root, output, task=task, folds=folds, seed=seed, options=values, table=format == "csv")
    print_report(result.report)
    print(f"{result.path}: written; look it through with `medresnet3d data check {result.path}`.")
    return result
