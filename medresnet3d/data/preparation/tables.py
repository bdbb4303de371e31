"""Tables as they come: CSV with any separator, TSV, XLS and XLSX, with noise in their headers."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from medresnet3d.data.preparation.folders import Folder
from medresnet3d.errors import DataError

TEXT_SUFFIXES = (".csv", ".tsv", ".tab", ".txt")
SPREADSHEETS = (".xlsx", ".xls")
SEPARATORS = ",;\t|"
Row = dict[str, str]
Columns = Mapping[str, str | Sequence[str]]


def find_table(folder: Folder, *names: str) -> Path:
    """The table called one of ``names`` (patterns without suffix), as text if there is one, else as spreadsheet.

    Raises:
        DataError: if there is none.
    """
    found = find_optional_table(folder, *names)
    if found is None:
        shown = " or ".join(f"{name}.csv/.tsv/.xlsx/.xls" for name in names)
        raise DataError(
            f"{folder.root}: the table {shown} is missing; it holds {folder.describe()}. "
            f"Put the table of {folder.title} there."
        )
    return found


def find_optional_table(folder: Folder, *names: str) -> Path | None:
    """As :func:`find_table`, but ``None`` if there is none."""
    patterns = [f"{name}{suffix}" for name in names for suffix in (*TEXT_SUFFIXES, *SPREADSHEETS)]
    patterns += [name for name in names if "*" not in name]  # some archives serve a table without its suffix
    return folder.file(*patterns)


def read_table(
    path: Path,
    columns: Columns,
    *,
    header: Sequence[str] | None = None,
    optional: Sequence[str] = (),
    rest: bool = False,
) -> list[Row]:
    """Read a table as rows of text.

    Names of columns are compared without case, spaces, dots and underscores, since they vary between releases. Cells
    are stripped of spaces; rows without any text are left out; whole numbers of spreadsheets are written without ".0".

    Args:
        path: the table; its suffix tells a spreadsheet, everything else is text whose separator is found out.
        columns: key of the row to the name of its column, or to several names of which one is there.
        header: the names of the columns of a table that has no header row.
        optional: keys of ``columns`` that may be absent (the cell is then ``""``).
        rest: also give every other column under its own name, unless that is a key of ``columns``.

    Returns:
        a dictionary for each row with the keys of ``columns``.

    Raises:
        DataError: if the table cannot be read or lacks a column.
    """
    lines = list(read_lines(path))
    names = list(header) if header is not None else (lines.pop(0) if lines else [])
    place = _places(path, names, columns, optional)
    if rest:
        taken = set(place.values())
        others = {name.strip(): at for at, name in enumerate(names) if at not in taken and name.strip()}
        place = {**others, **place}
    return [
        {key: line[at].strip() if at is not None and at < len(line) else "" for key, at in place.items()}
        for line in lines
        if any(cell.strip() for cell in line)
    ]


def one_hot(row: Row, names: Sequence[str]) -> str:
    """The one of ``names`` whose cell is 1 in a row; ``""`` if none is, or if several are."""
    marked = [name for name in names if (number(row[name]) or 0) >= 0.5]
    return marked[0] if len(marked) == 1 else ""


def number(text: str) -> int | float | None:
    """The number that a cell holds, whole where it can be; ``None`` for anything else (``""``, ``"unknown"``)."""
    try:
        value = float(text)
    except ValueError:
        return None
    if value != value or value in (float("inf"), float("-inf")):
        return None
    return int(value) if value.is_integer() else value


def level(text: str, highest: int) -> int | None:
    """The whole number from 0 to ``highest`` that a cell holds; ``None`` for anything else."""
    value = number(text)
    return value if isinstance(value, int) and 0 <= value <= highest else None


def _places(path: Path, names: Sequence[str], columns: Columns, optional: Sequence[str]) -> dict[str, int | None]:
    """Where each wanted column is."""
    there: dict[str, int] = {}
    for at, name in enumerate(names):
        there.setdefault(_plain(name), at)
    place: dict[str, int | None] = {}
    for key, wanted in columns.items():
        choices = [wanted] if isinstance(wanted, str) else list(wanted)
        place[key] = next((there[_plain(choice)] for choice in choices if _plain(choice) in there), None)
        if place[key] is None and key not in optional:
            shown = ", ".join(name.strip() for name in names if name.strip()) or "none"
            raise DataError(
                f"{path}: the column {' or '.join(map(repr, choices))} is missing; its columns are {shown}. "
                "Use the official table."
            )
    return place


def _plain(name: str) -> str:
    return re.sub(r"[\s._-]+", "", name.casefold().removeprefix("\ufeff"))


def read_lines(path: Path, separator: str | None = None) -> Iterator[list[str]]:
    """Yield the lines of a table as lists of cells, the header among them.

    Args:
        path: the table; its suffix tells a spreadsheet.
        separator: of text; found out from the first line if it is not given.

    Raises:
        DataError: if the table cannot be read.
    """
    if path.suffix.lower() in SPREADSHEETS:
        yield from _spreadsheet_lines(path)
        return
    text = _text(path)
    first = next((line for line in text.splitlines() if line.strip()), "")
    chosen = separator or max(SEPARATORS, key=first.count)
    try:
        yield from csv.reader(io.StringIO(text.lstrip("\r\n"), newline=""), delimiter=chosen, strict=False)
    except csv.Error as error:
        raise DataError(f"{path}: is not a readable table ({error}); get it again.") from error


def _text(path: Path) -> str:
    """The text of a file: UTF-8, UTF-16 with its mark, or what Windows wrote."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the file and its permissions.") from error
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def _spreadsheet_lines(path: Path) -> Iterator[list[str]]:
    import pandas as pd

    try:
        table = pd.read_excel(path, header=None, dtype=object)
    except ImportError as error:
        raise DataError(
            f"{path}: reading spreadsheets needs `pip install medresnet3d[spreadsheets]`; or save the table as "
            f"{path.stem}.csv beside it."
        ) from error
    except Exception as error:  # openpyxl and xlrd raise whatever they stumble over
        raise DataError(f"{path}: is not a readable spreadsheet ({error}); get it again or save it as CSV.") from error
    for line in table.itertuples(index=False, name=None):
        yield [_cell(value) for value in line]


def _cell(value: Any) -> str:
    if value is None or value != value:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
