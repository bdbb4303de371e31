"""Detections as tables, and the boxes of findings as millimetres.

Inside the package a detection is a row ``x, y, z, diameter_mm, probability`` with x, y, z in mm, RAS+. Other programs
want LPS: LUNA16's tables count as the MetaImage files do, and a pixel of a picture, column and row from the upper left
corner, is a point in LPS with z = 0. Both conversions are made here and nowhere else.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medresnet3d.errors import DataError
from medresnet3d.io.atomic import atomic_write_text
from medresnet3d.io.volume import LPS_TO_RAS

COLUMNS = ("x", "y", "z", "diameter_mm", "probability")
"""Columns of an array of detections; x, y, z and the diameter in mm, RAS+ (in pixels for a picture)."""
FINDING_COLUMNS = ("x", "y", "z", "diameter_mm", "excluded")
"""Columns of an array of findings, what detections are compared with; the last is 1 for one to ignore."""
SUBMISSION_COLUMNS = ("seriesuid", "coordX", "coordY", "coordZ", "probability")
"""Columns of a LUNA16 submission; coordinates in mm, LPS+."""
PICTURE_CORNERS, VOLUME_CORNERS = 4, 6


def change_handedness(points: ArrayLike) -> NDArray[np.float64]:
    """Turn points of LPS+ into RAS+, or back: the signs of x and y change.

    Args:
        points: (N, 3), mm.
    """
    moved: NDArray[np.float64] = np.asarray(points, dtype=np.float64).reshape(-1, 3) @ LPS_TO_RAS[:3, :3]
    return moved + 0.0  # no minus zeros in tables


def box_corners(boxes: Iterable[Sequence[float]]) -> NDArray[np.float64]:
    """Give the corners of a manifest's boxes in mm, RAS+.

    Args:
        boxes: of a volume x0, y0, z0, x1, y1, z1 in mm, RAS+; of a picture x0, y0, x1, y1 in pixels (column, row).

    Returns:
        (N, 2, 3): lowest and highest corner. A box of a picture becomes flat: z is 0.

    Raises:
        DataError: if a box has another number of values, one that is not finite, or its highest corner first.
    """
    corners = [_corners(box) for box in boxes]
    return np.stack(corners) if corners else np.zeros((0, 2, 3))


def _corners(box: Sequence[float]) -> NDArray[np.float64]:
    values = np.asarray(box, dtype=np.float64)
    if values.shape not in ((PICTURE_CORNERS,), (VOLUME_CORNERS,)) or not np.isfinite(values).all():
        raise DataError(
            f"a box is {list(box)}; give x0, y0, z0, x1, y1, z1 in mm (RAS+), or x0, y0, x1, y1 in pixels of a picture."
        )
    pair = values.reshape(2, -1)
    if (pair[1] < pair[0]).any():
        raise DataError(f"a box is {list(box)}; its lowest corner comes first.")
    if len(values) == VOLUME_CORNERS:
        return pair
    flat = change_handedness(np.column_stack([pair, [0.0, 0.0]]))
    return np.stack([flat.min(axis=0), flat.max(axis=0)])


def centres_and_diameters(boxes: Iterable[Sequence[float]]) -> NDArray[np.float64]:
    """Give centre and diameter of the findings in a manifest's boxes.

    Args:
        boxes: as :func:`box_corners` takes them.

    Returns:
        (N, 4): x, y, z of the centre in mm, RAS+, and the mean edge of the box in mm: for a box around a sphere its
        diameter.
    """
    rows = list(boxes)
    corners = box_corners(rows)
    edges = corners[:, 1] - corners[:, 0]
    axes = np.array([len(row) // 2 for row in rows], dtype=np.float64).reshape(-1)
    return np.column_stack([corners.mean(axis=1), edges.sum(axis=1) / axes])


def detection_rows(detections: ArrayLike) -> list[dict[str, float]]:
    """Give detections as plain values by name, in the order of :data:`COLUMNS`.

    Args:
        detections: (N, 5), columns as :data:`COLUMNS`.
    """
    rows = np.asarray(detections, dtype=np.float64).reshape(-1, len(COLUMNS))
    return [dict(zip(COLUMNS, map(float, row.round(6)), strict=True)) for row in rows]


def submission_rows(scan: str, detections: ArrayLike) -> list[dict[str, Any]]:
    """Give the detections of a scan as rows of a LUNA16 submission.

    Args:
        scan: what names it (LUNA16: the series UID, which is the name of its file).
        detections: (N, 5), columns as :data:`COLUMNS`.
    """
    rows = np.asarray(detections, dtype=np.float64).reshape(-1, len(COLUMNS))
    places = change_handedness(rows[:, :3])
    return [
        dict(zip(SUBMISSION_COLUMNS, (scan, *place.round(4).tolist(), round(float(row[-1]), 6)), strict=True))
        for place, row in zip(places, rows, strict=True)
    ]


def table_text(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Give rows as the text of a CSV table; NaN becomes an empty cell."""
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value != value else value for key, value in row.items()} for row in rows)
    return buffer.getvalue()


def write_table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], path: str | os.PathLike[str]) -> Path:
    """Write rows as a CSV table, whole or not at all."""
    atomic_write_text(path, table_text(rows, columns))
    return Path(path)


def findings_table(boxes: Iterable[Sequence[float]], excluded: Iterable[Sequence[float]] = ()) -> NDArray[np.float64]:
    """Give findings as rows of :data:`FINDING_COLUMNS`: those that count, then the excluded ones.

    Args:
        boxes: of the findings, as in a manifest.
        excluded: boxes of findings that are to be ignored.

    Returns:
        (N, 5), x, y, z in mm, RAS+.
    """
    parts = [centres_and_diameters(rows) for rows in (boxes, excluded)]
    flags = [np.full(len(part), flag) for part, flag in zip(parts, (0.0, 1.0), strict=True)]
    return np.column_stack([np.concatenate(parts), np.concatenate(flags)])
