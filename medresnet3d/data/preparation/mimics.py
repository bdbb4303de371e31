"""What the tiny synthetic copies of official layouts are made of: pictures, masks and tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medresnet3d.io.atomic import atomic_path, atomic_write_text


def generator(seed: int, name: str) -> np.random.Generator:
    """A random generator that depends on the seed and on what it is for."""
    return np.random.default_rng([seed, *name.encode()])


def picture(
    rng: np.random.Generator, shape: tuple[int, int] = (40, 48), *, colour: bool = True, kind: int = 0
) -> NDArray[np.uint8]:
    """A picture (rows, columns[, 3]) of a bright disc on noise; ``kind`` changes the disc's size and tint."""
    rows, columns = np.indices(shape)
    centre = rng.uniform(0.4, 0.6, 2) * shape
    radius = (0.15 + 0.03 * (kind % 8)) * min(shape)
    inside = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2
    grey = 40 + 90 * inside + rng.integers(0, 40, shape)
    if not colour:
        return grey.astype(np.uint8)
    tint = 1 - 0.1 * np.array([kind % 3, kind % 5, kind % 7]) / 2
    return (grey[..., None] * tint).astype(np.uint8)


def disc(shape: tuple[int, int], centre: tuple[float, float], radius: float, value: int = 255) -> NDArray[np.uint8]:
    """A mask (rows, columns) of a disc around ``centre`` (row, column)."""
    rows, columns = np.indices(shape)
    return (((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2) * value).astype(np.uint8)


def write_picture(path: Path, pixels: NDArray[Any], quality: int = 75) -> None:
    """Write pixels in the format that the suffix names, whole or not at all; ``quality`` is that of a JPEG file."""
    from PIL import Image

    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, quality=quality)


def write_table(path: Path, rows: Iterable[Sequence[object]], separator: str = ",") -> None:
    """Write rows as text with a separator, or as a spreadsheet where the suffix is ``.xls`` or ``.xlsx``.

    Raises:
        ImportError: for a spreadsheet without the extra ``spreadsheets``.
    """
    if path.suffix == ".xlsx":
        _write_xlsx(path, rows)
    elif path.suffix == ".xls":
        _write_xls(path, rows)
    else:
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=separator, lineterminator="\n").writerows(rows)
        atomic_write_text(path, text.getvalue())


def _write_xlsx(path: Path, rows: Iterable[Sequence[object]]) -> None:
    from openpyxl import Workbook

    book = Workbook(write_only=True)
    sheet = book.create_sheet()
    for row in rows:
        sheet.append(list(row))
    with atomic_path(path) as temporary:
        book.save(temporary)


def _write_xls(path: Path, rows: Iterable[Sequence[object]]) -> None:
    import xlwt

    book = xlwt.Workbook()
    sheet = book.add_sheet("Sheet1")
    for at, row in enumerate(rows):
        for column, value in enumerate(row):
            sheet.write(at, column, value)
    with atomic_path(path) as temporary:
        book.save(str(temporary))
