"""A manifest as a table: CSV with one row an entry, read row by row, so that its length does not matter.

The columns are the keys of an entry, with ``section`` (or ``split``, ``subset``) for the list that it belongs to. What
a manifest says about the whole (name, task, labels, root) lies beside ``x.csv`` in ``x.head.json``; where that is
absent, the task and the classes are deduced from the columns. A cell that is no text (several images, a position,
boxes) is JSON.
"""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from medresnet3d.data.cases import natural_key
from medresnet3d.data.manifest_rules import SECTION_NAMES, SECTIONS, entries, misspelt_keys, truth_key
from medresnet3d.data.preparation.tables import SEPARATORS, number
from medresnet3d.errors import DataError
from medresnet3d.io.atomic import atomic_path, atomic_write_text
from medresnet3d.names import did_you_mean

TABLE_SUFFIXES = (".csv", ".tsv")
SECTION_COLUMNS = ("section", "split", "subset")
MOST_CLASSES = 1000
"""A column with more different values than these names no classes."""
_COLUMNS = ("image", "mask", "label", "boxes", "excluded_boxes", "patient", "section", "fold", "position")


class Row(NamedTuple):
    """One row of a table.

    Args:
        section: ``training``, ``validation`` or ``test``.
        line: where it ends in the file; the header is line 1.
        entry: as a manifest would list it.
        plain: whether the types are what the schema demands.
        fault: why the row cannot be used; empty if it can.
    """

    section: str
    line: int
    entry: dict[str, Any]
    plain: bool = True
    fault: str = ""


class ManifestTable:
    """A CSV manifest.

    Args:
        path: the table; separated by commas, semicolons, tabs or bars, UTF-8.

    Attributes:
        head: ``name``, ``task`` and whatever ``x.head.json`` says.
        columns: names of the columns.
        names: the classes in index order; empty where the task has none.
        with_truth: the sections in which some entry has its truth.
        rows_count: number of rows.

    Raises:
        DataError: if the file cannot be read, has no column ``image``, or has more labels than there can be classes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._separator, self.columns = self._read_header()
        self._section = next((name for name in SECTION_COLUMNS if name in self.columns), None)
        self.head: dict[str, Any] = {"name": path.stem, **_read_head(head_path(path))}
        self.names: tuple[str, ...] = ()
        self._look_through()

    def __len__(self) -> int:
        """Number of rows."""
        return self.rows_count

    def rows(self) -> Iterator[Row]:
        """Yield the rows in their order; blank ones are passed over.

        Raises:
            DataError: if a line is no CSV or no UTF-8.
        """
        for line, cells in self._cells():
            section, fault = self._section_of(cells)
            entry = self._entry(cells)
            yield Row(section, line, entry, _is_plain(entry), fault)

    def raw(self) -> dict[str, Any]:
        """Give the whole as a JSON manifest, in memory.

        Raises:
            DataError: if a row cannot be read.
        """
        listed: dict[str, list[dict[str, Any]]] = {}
        for row in self.rows():
            if row.fault:
                raise DataError(f"{self.path}: line {row.line}: {row.fault}")
            listed.setdefault(row.section, []).append(row.entry)
        return {**self.head, **{name: listed[name] for name in SECTIONS if name in listed}}

    def _read_header(self) -> tuple[str, list[str]]:
        with _reading_errors(self.path), self.path.open(encoding="utf-8-sig", newline="") as handle:
            first = next((line for line in handle if line.strip()), "")
        separator = max(SEPARATORS, key=first.count)
        columns = [name.strip() for name in next(csv.reader([first], delimiter=separator), [])]
        twice = next((name for name in columns if name and columns.count(name) > 1), None)
        if twice:
            raise DataError(f"{self.path}: two columns are called {twice!r}; name each differently.")
        if "image" not in columns:
            near = difflib.get_close_matches("image", columns, 1)
            hint = f"rename `{near[0]}` to `image`" if near else f"its columns are {', '.join(columns) or 'none'}"
            raise DataError(f"{self.path}: the table has no column `image`; {hint}.")
        slip = next(misspelt_keys("", dict.fromkeys(columns)), None)
        if slip is not None:
            raise DataError(f"{self.path}: {slip.text}")
        return separator, columns

    def _look_through(self) -> None:
        """Count the rows, and find the task, the classes and the sections with truth."""
        labels: dict[str, None] = {}
        seen: dict[str, set[str]] = {"label": set(), "mask": set(), "boxes": set()}
        self.rows_count = 0
        for _, cells in self._cells():
            self.rows_count += 1
            section, _ = self._section_of(cells)
            for key, sections in seen.items():
                if cells.get(key):
                    sections.add(section)
            if len(labels) <= MOST_CLASSES and cells.get("label"):
                labels.setdefault(cells["label"])
        self.head.setdefault("task", _deduced_task({key for key, sections in seen.items() if sections}, labels))
        self.with_truth = frozenset(seen.get(truth_key(self.head["task"]) or "", ()))
        known = self.head.get("labels")
        if isinstance(known, Mapping | list):
            named = [known[key] for key in sorted(known, key=natural_key)] if isinstance(known, Mapping) else known
            self.names = tuple(map(str, named))
        elif self.head["task"] == "classification":
            if len(labels) > MOST_CLASSES:
                raise DataError(
                    f"{self.path}: the column `label` has more than {MOST_CLASSES} different values; name the classes "
                    f'in it, or say {{"task": "regression"}} in {head_path(self.path).name}.'
                )
            self.names = tuple(sorted(labels, key=natural_key))

    def _cells(self) -> Iterator[tuple[int, dict[str, str]]]:
        with _reading_errors(self.path), self.path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.reader(handle, delimiter=self._separator)
            header_seen = False
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue
                if header_seen:
                    yield reader.line_num, {n: cell.strip() for n, cell in zip(self.columns, cells, strict=False) if n}
                header_seen = True

    def _section_of(self, cells: Mapping[str, str]) -> tuple[str, str]:
        """The section of a row, and what is wrong with it."""
        text = cells.get(self._section, "") if self._section else ""
        found = SECTION_NAMES.get(text.casefold()) if text else "training"
        if found is not None:
            return found, ""
        hint = did_you_mean(text.casefold(), SECTION_NAMES, "use training, validation or test, and `fold` for numbers.")
        return "training", f"`{self._section}` is {text!r}; {hint}"

    def _entry(self, cells: Mapping[str, str]) -> dict[str, Any]:
        entry: dict[str, Any] = {}
        for name, text in cells.items():
            if name == self._section:
                continue
            if name == "label" and text:
                entry[name] = self._label(text)
            elif text and name in ("image", "position", "boxes", "excluded_boxes"):
                entry[name] = _structure(text)
            elif text and name == "fold":
                entry[name] = int(text) if text.isdecimal() else text
            elif text or name == "patient":
                entry[name] = text
        return entry

    def _label(self, text: str) -> Any:
        if self.head["task"] == "detection":
            return _structure(text)
        if self.head["task"] == "classification" and text in self.names:
            return text
        value = number(text)
        return text if value is None else value


def is_table(path: Path) -> bool:
    """Tell whether a manifest is a table, by its name."""
    return path.suffix.lower() in TABLE_SUFFIXES


def head_path(path: Path) -> Path:
    """Where a table's head lies: ``x.head.json`` beside ``x.csv``."""
    return path.with_suffix(".head.json")


def write_manifest_table(path: Path, raw: Mapping[str, Any]) -> None:
    """Write a manifest as a table and its head.

    Args:
        path: the table to write; ``.tsv`` is separated by tabs.
        raw: the manifest as JSON.
    """
    known = {key for _, _, entry in entries(raw) for key in entry} | {"section"}
    others = dict.fromkeys(key for _, _, entry in entries(raw) for key in entry if key not in _COLUMNS)
    columns = [*(name for name in _COLUMNS if name in known), *others]
    head = {key: value for key, value in raw.items() if key not in SECTIONS}
    atomic_write_text(head_path(path), json.dumps(head, indent=1, ensure_ascii=False) + "\n")
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", lineterminator="\n")
        writer.writerow(columns)
        for section, _, entry in entries(raw):
            listed = {**entry, "section": section}
            writer.writerow([_cell(listed.get(column)) for column in columns])


def _cell(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False)


def _structure(text: str) -> Any:
    """JSON, or numbers with spaces or commas between them, or the text itself."""
    if text[0] in "[{":
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return text
    values = [number(part) for part in text.replace(",", " ").split()]
    return values if len(values) == 3 and None not in values else text


def _is_plain(entry: Mapping[str, Any]) -> bool:
    """Tell at a glance that an entry satisfies the schema; what this leaves open, the schema has to judge."""
    position = entry.get("position", (0, 0, 0))
    return (
        isinstance(entry.get("image"), str)
        and isinstance(entry.get("fold", 0), int)
        and isinstance(entry.get("label", ""), str | int | float)
        and not {"boxes", "excluded_boxes"} & entry.keys()
        and not isinstance(position, str)
        and len(position) == 3
        and all(isinstance(value, int | float) for value in position)
    )


def _deduced_task(there: set[str], labels: Mapping[str, None]) -> str:
    if "boxes" in there:
        return "detection"
    if "label" not in there:
        return "segmentation" if "mask" in there else "conversion"
    values = [number(text) for text in labels]
    numbers = None not in values
    return "regression" if numbers and any(isinstance(value, float) for value in values) else "classification"


def _read_head(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        head = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: the head of the table cannot be read ({error}); correct or remove it.") from error
    if not isinstance(head, dict):
        raise DataError(f"{path}: holds a JSON {type(head).__name__}, but the head of a table is an object.")
    return {key: value for key, value in head.items() if key not in SECTIONS}


@contextmanager
def _reading_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: no such manifest; check the path.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the file and its permissions.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text; save the table as CSV in UTF-8.") from error
    except csv.Error as error:
        raise DataError(f"{path}: is not a readable table ({error}); save it again as CSV.") from error
