"""One function from the untouched official folder to a manifest, and one that writes a tiny copy of such a folder."""

from __future__ import annotations

import importlib
import inspect
import json
import typing
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from medresnet3d.data.manifest_table import is_table, write_manifest_table
from medresnet3d.data.preparation.assembly import Sections, assemble
from medresnet3d.data.preparation.cards import Card, Task, find_card
from medresnet3d.data.preparation.cohort import Cohort, DerivedFile
from medresnet3d.data.preparation.folders import Folder
from medresnet3d.data.preparation.report import Report, make_report
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.io.atomic import atomic_path, atomic_write_text
from medresnet3d.names import did_you_mean
from medresnet3d.progress import track

THREADS = 4


@dataclass(frozen=True)
class Prepared:
    """What :func:`prepare` wrote.

    Args:
        path: of the manifest.
        report: counts, and what was dropped.
    """

    path: Path
    report: Report


def prepare(
    name: str,
    root: str | Path,
    output: str | Path,
    *,
    task: str | None = None,
    folds: int = 5,
    seed: int = 0,
    options: Mapping[str, str] | None = None,
    table: bool = False,
) -> Prepared:
    """Read the untouched official unpacking of a data set and write a manifest.

    Nothing is copied: images stay where they are. Only what the official files do not hold as an image or a label map
    of its own (outlines, binary blobs, archives of arrays) is written to ``<manifest>_files`` beside the manifest.

    Args:
        name: of the data set, as ``medresnet3d data list`` shows it.
        root: the folder that it was unpacked to; one above or below is found too.
        output: the manifest to write, or a folder for ``manifest.json``; ``.csv`` and ``.tsv`` are written as a table
            with its head in ``.head.json`` beside it.
        task: which of the card's tasks; the first by default.
        folds: number of patient-wise folds, stratified by class, for a training part without official split; 0: none.
        seed: of the folds, and of whatever the adapter draws.
        options: further options of the adapter, as text.
        table: write a table, whatever ``output`` is called.

    Returns:
        the manifest's path and the report.

    Raises:
        ConfigError: if there is no such data set, task or option; the nearest is named.
        DataError: if the folder or a table is not what the official unpacking has.
    """
    card = find_card(name)
    wanted = card.task(task)
    if folds < 0 or folds == 1:
        raise ConfigError(f"{folds} folds cannot be made; ask for at least 2, or for 0 to have none.")
    adapter = _adapter(card)
    cohort = Cohort(card, wanted, Folder(root, card.title), seed)
    adapter.collect(cohort, **_options(card, adapter, options or {}))
    sections = assemble(cohort, folds, seed)
    report = make_report(cohort, sections)
    output = Path(output)
    if output.is_dir():
        output = output / ("manifest.csv" if table else "manifest.json")
    elif table and not is_table(output):
        output = output.with_suffix(".csv")
    _write(cohort, sections, report, output, seed)
    return Prepared(output, report)


def mimic(name: str, folder: str | Path, seed: int = 0) -> Path:
    """Write a tiny synthetic copy (at most 1 MB) of a data set's official layout, with its traps.

    Args:
        name: of the data set.
        folder: created if absent; must be empty.
        seed: the same seed writes the same files.

    Raises:
        ConfigError: if there is no such data set.
        DataError: if the folder holds something.
    """
    card = find_card(name)
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: holds something already; name an empty or a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    _adapter(card).mimic(folder, seed)
    return folder


def _adapter(card: Card) -> ModuleType:
    return importlib.import_module(f"medresnet3d.data.collections.{card.adapter}")


def adapter_options(card: Card) -> dict[str, inspect.Parameter]:
    """The options of a data set's adapter: the keyword-only parameters of its ``collect``."""
    parameters = inspect.signature(_adapter(card).collect).parameters.values()
    return {one.name: one for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY}


def _options(card: Card, adapter: ModuleType, given: Mapping[str, str]) -> dict[str, Any]:
    """Turn texts into what the adapter's parameters are annotated with."""
    known = adapter_options(card)
    kinds = typing.get_type_hints(adapter.collect)
    values: dict[str, Any] = {}
    for name, text in given.items():
        if name not in known:
            hint = did_you_mean(name, known, f"it has {', '.join(known) or 'none'}.")
            raise ConfigError(f"{card.name}: there is no option {name!r}; {hint}")
        values[name] = _typed(card, name, text, kinds[name])
    return values


def _typed(card: Card, name: str, text: str, kind: Any) -> Any:
    if kind is bool:
        if text.casefold() in ("true", "1", "yes", "false", "0", "no"):
            return text.casefold() in ("true", "1", "yes")
        raise ConfigError(f"{card.name}: the option {name} is {text!r}; use true or false.")
    try:
        return kind(text)
    except ValueError:
        raise ConfigError(f"{card.name}: the option {name} is {text!r}, which is no {kind.__name__}.") from None


def _write(cohort: Cohort, sections: Sections, report: Report, output: Path, seed: int) -> None:
    """Write the derived files, then the manifest."""
    base = output.resolve().parent
    root = cohort.folder.root.resolve()
    start = base if root.is_relative_to(base) else root
    files = base / f"{output.stem}_files"
    derived: dict[str, DerivedFile] = {}
    for entry in (entry for listed in sections.values() for entry in listed):
        for key in ("image", "mask"):
            if key in entry:
                value = entry[key]
                parts = value if isinstance(value, Sequence) else [value]
                derived |= {part.name: part for part in parts if isinstance(part, DerivedFile)}
                names = [_listed(files / part.name if isinstance(part, DerivedFile) else part, start) for part in parts]
                entry[key] = names if isinstance(value, Sequence) else names[0]
    _write_derived(list(derived.values()), files, cohort.card.title)
    raw = {
        **_head(cohort.card, cohort.task, cohort),
        "seed": seed,
        **({} if start == base else {"root": str(start)}),
        **report.as_dict(),
        **sections,
    }
    if is_table(output):
        write_manifest_table(output, raw)
    else:
        atomic_write_text(output, json.dumps(raw, indent=1, ensure_ascii=False) + "\n")


def _head(card: Card, task: Task, cohort: Cohort) -> dict[str, Any]:
    return {
        "name": f"{card.title}, {task.name}",
        "task": task.kind,
        "modality": card.modality,
        "description": task.about,
        "licence": card.licence,
        "source": card.source,
        "collection": card.name,
        "group_kind": cohort.group_kind,
        **({"labels": list(cohort.labels)} if cohort.labels else {}),
    }


def _write_derived(derived: Sequence[DerivedFile], files: Path, title: str) -> None:
    """Write files in threads: most of the time goes into waiting for the disk and into compression."""

    def write(file: DerivedFile) -> None:
        with atomic_path(files / file.name) as temporary:
            file.write(temporary)

    with ThreadPoolExecutor(max_workers=THREADS) as pool:
        for _ in track(pool.map(write, derived), f"writing {title}", total=len(derived)):
            continue


def _listed(path: Path, start: Path) -> str:
    """The path that the manifest lists: relative where it can be."""
    return path.relative_to(start).as_posix() if path.is_relative_to(start) else path.as_posix()
