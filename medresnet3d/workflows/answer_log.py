"""The answers of a run as rows: appended to ``predictions.jsonl`` as they come, ``predictions.csv`` at the end."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medresnet3d.errors import DataError
from medresnet3d.io import atomic_write_text
from medresnet3d.io.columns import columns_of

JSONL = "predictions.jsonl"
CSV = "predictions.csv"
_FIRST = ("case", "path", "patient", "label")
_LAST = ("seconds", "bundle", "version", "weights", "warnings", "files", "error")


class AnswerLog:
    """Rows of answers in a folder.

    Each row is one line of ``predictions.jsonl``, written at once and flushed to the disk, so that a run that is
    interrupted leaves every finished case.

    Args:
        folder: the output folder; rows of an earlier run in it are replaced.
        common: what every row repeats, such as bundle, version and weights.

    Raises:
        DataError: if the folder cannot be made or written.
    """

    def __init__(self, folder: Path, common: Mapping[str, Any]) -> None:
        self.folder = folder
        self.common = dict(common)
        self.rows: list[dict[str, Any]] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise DataError(
                f"{folder}: is a file, but the answers need a folder; choose another one with -o."
            ) from None
        (folder / CSV).unlink(missing_ok=True)
        atomic_write_text(folder / JSONL, "")

    def add(self, answer: Mapping[str, Any], files: list[str], error: str | None = None) -> dict[str, Any]:
        """Append one row.

        Args:
            answer: from :meth:`medresnet3d.workflows.prediction.Prediction.answer`.
            files: names of the files that were written for the case.
            error: why there is no answer.

        Returns:
            the row.

        Raises:
            DataError: if it cannot be written.
        """
        row = {**answer, **self.common, "files": files, "error": error}
        line = json.dumps(row, ensure_ascii=False) + "\n"
        path = self.folder / JSONL
        try:
            with path.open("a", encoding="utf-8") as handle:
                handle.write(line)
                handle.flush()
                os.fsync(handle.fileno())
        except OSError as problem:
            raise DataError(
                f"{path}: cannot be written ({problem.strerror}); free some space or use another folder."
            ) from problem
        self.rows.append(row)
        return row

    def finish(self) -> None:
        """Write ``predictions.csv``, whole or not at all."""
        flat = [flatten(row) for row in self.rows]
        found = dict.fromkeys(key for row in flat for key in row)
        columns = [*_FIRST, *(key for key in found if key not in (*_FIRST, *_LAST)), *_LAST]
        buffer = io.StringIO(newline="")
        writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)
        atomic_write_text(self.folder / CSV, buffer.getvalue())


def flatten(row: Mapping[str, Any]) -> dict[str, Any]:
    """Give a row for a table: a column for each class (``probability_…``), structure (``volume_ml_…``), stage, detail.

    Of detections there are their number and the most probable one.
    Details are named by their path (``details_inference_strategy``); lists in lists stay in ``predictions.jsonl``.
    """
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if key == "probabilities":
            flat |= {f"probability_{name}": number for name, number in value.items()}
        elif key == "volumes_ml":
            flat |= {f"volume_ml_{name}": number for name, number in value.items()}
        elif key == "detections":
            flat |= _detections(value)
        elif key == "stage_seconds":
            flat |= {f"seconds_{stage}": number for stage, number in value.items()}
        elif key == "details":
            flat |= columns_of(key, value)
        elif key == "position":
            flat |= {"position": " ".join(f"{number:g}" for number in value)} if value else {}
        elif key in ("warnings", "files"):
            flat[key] = " | ".join(value)
        elif key != "value" or value is not None:
            flat[key] = "" if value is None else value
    return flat


def _detections(rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Give the number of detections and the most probable one."""
    if not rows:
        return {"detections": 0}
    first = rows[0]
    place = " ".join(f"{first[axis]:g}" for axis in "xyz")
    return {"detections": len(rows), "strongest_probability": first["probability"], "strongest_position": place}
