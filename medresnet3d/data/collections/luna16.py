"""LUNA16: 888 chest CT of LIDC-IDRI with nodules and detector candidates (see ``data_manifests/luna16.md``)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import SimpleITK as sitk  # noqa: N813

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.io.atomic import atomic_write_text
from medresnet3d.progress import track

LABELS = ("non-nodule", "nodule")
COORDINATES = ["coordX", "coordY", "coordZ"]
UNKNOWN_DIAMETER_MM = 10.0
"""The official evaluation takes a finding whose diameter is not given (-1) to be this large."""

DUPLICATE = "duplicate row"
NO_SCAN = "scan file missing"
NOT_ASKED = "subset not asked for"
OUTSIDE = "outside the scan"
EXCLUDED = "non-nodule at an excluded finding"
CONTRADICTION = "non-nodule inside an annotated nodule"
NOT_SAMPLED = "non-nodule not sampled"


@dataclass(frozen=True)
class _Tables:
    """The three tables of LUNA16, coordinates in mm, LPS+."""

    candidates: pd.DataFrame
    annotations: pd.DataFrame
    excluded: pd.DataFrame


def prepare(
    root: str | Path,
    output: str | Path,
    *,
    task: str = "classification",
    folds: Sequence[int] | None = None,
    validation_folds: Sequence[int] = (),
    test_folds: Sequence[int] = (),
    negatives_per_positive: float | None = 3.0,
    candidates: str | None = None,
    seed: int = 0,
) -> Path:
    """Write a manifest of nodule and non-nodule candidates from the unpacked official LUNA16 folder.

    Every entry is a whole scan with the point to classify: ``position`` in mm, RAS+ (LUNA16's own coordinates are
    LPS+), ``label``, ``patient`` (the series UID), ``fold`` (the official subset) and, for nodules, ``diameter_mm``.
    Nothing is copied. Candidates that cannot be used are counted by reason, printed, and listed under ``dropped``.

    Args:
        root: the folder with ``subset0`` ... ``subset9``, ``annotations.csv`` and ``candidates.csv``; some of the
            subsets are enough.
        output: the manifest to write, or a folder for ``manifest.json``.
        task: ``"classification"``, nodule or not.
        folds: subsets to use; all that are there by default.
        validation_folds: subsets listed under ``validation``; the others are listed under ``training``.
        test_folds: subsets listed under ``test``.
        negatives_per_positive: non-nodules kept for each nodule, drawn by ``seed`` within each subset; ``None`` keeps
            all half a million.
        candidates: name of the table of candidates; ``candidates.csv``, else ``candidates_V2.csv``, by default.
        seed: of the draw.

    Returns:
        The manifest's path.

    Raises:
        DataError: if the folder, a table or a column is missing, or no candidate is left.
        ConfigError: if ``task`` is not offered.
    """
    if task != "classification":
        raise ConfigError(f"luna16: task {task!r} is not offered; choose classification.")
    root, output = Path(root), Path(output)
    output = output / "manifest.json" if output.is_dir() else output
    scans = _find_scans(root)
    tables = _read_tables(root, candidates)
    dropped: Counter[str] = Counter()
    chosen = _choose(tables, scans, dropped, folds)
    chosen = _sample(chosen, negatives_per_positive, seed, dropped)
    if chosen.empty:
        raise DataError(f"{root}: no candidate is left ({_listing(dropped)}); check which subsets are unpacked.")
    manifest = _manifest(root, output, scans, chosen, dropped, validation_folds, test_folds)
    atomic_write_text(output, json.dumps(manifest, indent=1) + "\n")
    print(f"luna16: {_listing(manifest['counts'])}; dropped: {_listing(dropped) or 'nothing'}")
    return output


def make_mimic(folder: str | Path, scans: int = 6) -> Path:
    """Write a tiny phantom data set in LUNA16's layout with its traps, for tests (about 1 MB for six scans).

    Beside the traps of :func:`~medresnet3d.data.phantoms.luna16.write_luna16` (flipped scans, offsets, excluded
    findings) there are a repeated row, a row of a scan that is not there, and a point outside its scan.
    """
    from medresnet3d.data.phantoms.luna16 import write_luna16

    root = write_luna16(folder, scans, seed=23, shape=(44, 36, 32), spacing=(3.0, 3.0, 3.0), nodules=2, distractors=3)
    table = root / "candidates.csv"
    rows = table.read_text(encoding="utf-8").splitlines()
    uid, x, y, z, label = rows[1].split(",")
    traps = [rows[1], f"1.2.3.4.5,{x},{y},{z},{label}", f"{uid},{float(x) + 900},{y},{z},0"]
    atomic_write_text(table, "\n".join([*rows, *traps]) + "\n")
    return root


def _find_scans(root: Path) -> dict[str, tuple[Path, int]]:
    """All scans under ``root``: series UID to header file and subset."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give the folder that LUNA16 was unpacked to.")
    found = {}
    for pattern in ("subset[0-9]/*.mhd", "*/subset[0-9]/*.mhd"):
        for path in sorted(root.glob(pattern)):
            if path.with_suffix(".raw").is_file() or path.with_suffix(".zraw").is_file():
                found[path.stem] = (path, int(path.parent.name[-1]))
    if not found:
        raise DataError(
            f"{root}: holds no scans (subset0/<seriesuid>.mhd with .raw); give the folder that LUNA16 was unpacked to."
        )
    return found


def _read_tables(root: Path, candidates: str | None) -> _Tables:
    """Read and check the tables."""
    names = [candidates] if candidates else ["candidates.csv", "candidates_V2.csv"]
    name = next((name for name in names if (root / name).is_file()), names[0])
    annotations = _read_table(root / "annotations.csv", "diameter_mm")
    excluded_path = root / "annotations_excluded.csv"
    excluded = _read_table(excluded_path, "diameter_mm") if excluded_path.is_file() else annotations.iloc[:0]
    return _Tables(_read_table(root / name, "class"), annotations, excluded)


def _read_table(path: Path, value: str) -> pd.DataFrame:
    """Read one table with the columns seriesuid, coordX, coordY, coordZ and ``value``."""
    if not path.is_file():
        raise DataError(f"{path}: no such table; download it beside the subsets.")
    try:
        table = pd.read_csv(path, dtype={"seriesuid": str})
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: is not a readable CSV table ({error}); download it again.") from error
    missing = [column for column in ("seriesuid", *COORDINATES, value) if column not in table.columns]
    if missing:
        raise DataError(f"{path}: the column {missing[0]} is missing; this is not LUNA16's own table.")
    numbers = table[[*COORDINATES, value]].apply(pd.to_numeric, errors="coerce")
    if numbers.isna().any(axis=None):
        line = int(numbers.isna().any(axis=1).to_numpy().argmax()) + 2
        raise DataError(f"{path}: line {line} holds something that is not a number; download the table again.")
    table[[*COORDINATES, value]] = numbers
    return table


def _choose(
    tables: _Tables, scans: dict[str, tuple[Path, int]], dropped: Counter[str], folds: Sequence[int] | None
) -> pd.DataFrame:
    """Drop what cannot be used, and add the columns ``fold`` and ``diameter_mm``."""

    def drop(table: pd.DataFrame, bad: pd.Series, reason: str) -> pd.DataFrame:
        dropped[reason] += int(bad.sum())
        return table[~bad]

    rows = tables.candidates.reset_index(drop=True)
    rows = drop(rows, rows.duplicated(["seriesuid", *COORDINATES]), DUPLICATE)
    rows = drop(rows, ~rows["seriesuid"].isin(list(scans)), NO_SCAN)
    rows = rows.assign(fold=[scans[uid][1] for uid in rows["seriesuid"]])
    if folds is not None:
        rows = drop(rows, ~rows["fold"].isin(list(folds)), NOT_ASKED)
    rows = rows.assign(diameter_mm=np.nan, at_excluded=np.nan, outside=False)
    annotations = dict(list(tables.annotations.groupby("seriesuid")))
    excluded = dict(list(tables.excluded.groupby("seriesuid")))
    for uid, part in track(list(rows.groupby("seriesuid", sort=True)), "reading LUNA16 headers"):
        points = part[COORDINATES].to_numpy(dtype=float)
        rows.loc[part.index, "diameter_mm"] = _hit(points, annotations.get(uid))
        rows.loc[part.index, "at_excluded"] = _hit(points, excluded.get(uid))
        rows.loc[part.index, "outside"] = ~_inside(scans[str(uid)][0], points)
    rows = drop(rows, rows["outside"], OUTSIDE)
    rows = drop(rows, (rows["class"] == 0) & rows["diameter_mm"].notna(), CONTRADICTION)
    return drop(rows, (rows["class"] == 0) & rows["at_excluded"].notna(), EXCLUDED)


def _hit(points: npt.NDArray, findings: pd.DataFrame | None) -> npt.NDArray[np.float64]:
    """Diameter (n,) of the nearest finding that each point (n, 3) lies in, NaN for none: LUNA16's rule of a hit."""
    if findings is None or findings.empty:
        return np.full(len(points), np.nan)
    size = findings["diameter_mm"].to_numpy(dtype=float)
    size = np.where(size < 0, UNKNOWN_DIAMETER_MM, size)
    distance = np.linalg.norm(points[:, None] - findings[COORDINATES].to_numpy(dtype=float)[None], axis=-1)
    distance[distance >= size / 2] = np.inf
    nearest = distance.argmin(axis=1)
    return np.where(np.isfinite(distance.min(axis=1)), size[nearest], np.nan)


def _inside(header: Path, points: npt.NDArray) -> npt.NDArray[np.bool_]:
    """Whether points (n, 3) in mm, LPS+, lie in a scan; reads the header only and heeds a flipped direction."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(header))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise DataError(f"{header}: is not a readable MetaImage header; unpack the subset again.") from error
    direction = np.array(reader.GetDirection()).reshape(3, 3)
    index = (points - reader.GetOrigin()) @ np.linalg.inv(direction).T / reader.GetSpacing()
    return ((index > -0.5) & (index < np.array(reader.GetSize()) - 0.5)).all(axis=1)


def _sample(rows: pd.DataFrame, ratio: float | None, seed: int, dropped: Counter[str]) -> pd.DataFrame:
    """Keep all nodules and, within each subset, ``ratio`` non-nodules for each of them (at least one)."""
    if ratio is None or rows.empty:
        return rows
    kept = [rows[rows["class"] == 1]]
    for fold, part in rows.groupby("fold"):
        negatives = part[part["class"] == 0]
        count = min(len(negatives), max(1, round(ratio * int((part["class"] == 1).sum()))))
        kept.append(negatives.sample(count, random_state=np.random.default_rng([seed, int(fold)])))
        dropped[NOT_SAMPLED] += len(negatives) - count
    return pd.concat(kept).sort_index()


def _manifest(
    root: Path,
    output: Path,
    scans: dict[str, tuple[Path, int]],
    rows: pd.DataFrame,
    dropped: Counter[str],
    validation_folds: Sequence[int],
    test_folds: Sequence[int],
) -> dict[str, Any]:
    """Build the manifest; paths are relative to it where the scans lie below its folder."""
    base = output.resolve().parent
    start = base if root.resolve().is_relative_to(base) else root.resolve()
    manifest: dict[str, Any] = {
        "name": "LUNA16 candidates",
        "task": "classification",
        "modality": "CT",
        "labels": list(LABELS),
        "licence": "CC BY 4.0",
        "source": "https://luna16.grand-challenge.org",
        "group_kind": "series",
        **({} if start == base else {"root": str(start)}),
        "counts": {
            "scans": int(rows["seriesuid"].nunique()),
            **{label: int((rows["class"] == number).sum()) for number, label in enumerate(LABELS)},
        },
        "dropped": {reason: count for reason, count in dropped.items() if count},
        "training": [],
    }
    for row in rows.to_dict("records"):
        fold = int(row["fold"])
        section = "test" if fold in test_folds else "validation" if fold in validation_folds else "training"
        entry = {
            "image": scans[row["seriesuid"]][0].resolve().relative_to(start).as_posix(),
            "position": [-row["coordX"], -row["coordY"], row["coordZ"]],
            "label": LABELS[int(row["class"])],
            "patient": row["seriesuid"],
            "fold": fold,
        }
        if row["class"] == 1 and np.isfinite(row["diameter_mm"]):
            entry["diameter_mm"] = float(row["diameter_mm"])
        manifest.setdefault(section, []).append(entry)
    return manifest


def _listing(counts: Any) -> str:
    """Counts by name as one line."""
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)
