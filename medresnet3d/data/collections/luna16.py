"""LUNA16: 888 chest CT of LIDC-IDRI with nodules and detector candidates (Setio et al., 2017)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pandas as pd
import SimpleITK as sitk  # noqa: N813

from medresnet3d.data.preparation.cohort import MASK_MISSING, Cohort, Known
from medresnet3d.data.preparation.folders import Pictures
from medresnet3d.data.preparation.volumes import renumbered
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.io.atomic import atomic_write_text
from medresnet3d.progress import track

COORDINATES = ["coordX", "coordY", "coordZ"]
UNKNOWN_DIAMETER_MM = 10.0
"""The official evaluation takes a finding whose diameter is not given (-1) to be this large."""

LUNGS = {0: 0, 3: 1, 4: 1, 5: 2}
"""Values of the official lung masks: both lungs and the trachea."""

DUPLICATE = "duplicate row"
NO_SCAN = "scan file missing"
NO_VOXELS = "header without its voxels (.raw or .zraw)"
NOT_ASKED = "subset not asked for"
OUTSIDE = "outside the scan"
EXCLUDED = "non-nodule at an excluded finding"
CONTRADICTION = "non-nodule inside an annotated nodule"
NOT_SAMPLED = "non-nodule not sampled"


@dataclass(frozen=True)
class _Grid:
    """Where the voxels of a scan are.

    Args:
        to_index: (4, 4) from mm, LPS+, to voxel indices.
        size: voxels along i, j and k.
    """

    to_index: npt.NDArray[np.floating]
    size: npt.NDArray[np.int64]

    def inside(self, points: npt.NDArray) -> npt.NDArray[np.bool_]:
        """Whether points (n, 3) in mm, LPS+, lie in the scan."""
        index = nib.affines.apply_affine(self.to_index, points)
        return ((index > -0.5) & (index < self.size - 0.5)).all(axis=1)


@dataclass(frozen=True)
class _Scans:
    """The scans that are there.

    Args:
        files: header file and subset by series UID.
        sections: section of each subset that is not for training.
    """

    files: dict[str, tuple[Path, int]]
    sections: dict[int, str] = field(default_factory=dict)

    def place(self, uid: str) -> Known:
        """What every entry of a scan has: section, fold and group."""
        fold = self.files[uid][1]
        return {"section": self.sections.get(fold, "training"), "fold": fold, "patient": uid}


def collect(
    cohort: Cohort,
    *,
    candidates: str = "",
    negatives_per_positive: float = 3.0,
    subsets: str = "",
    validation_folds: str = "",
    test_folds: str = "",
) -> None:
    """List points of scans (task ``candidates``), boxes around nodules, or lung masks; the fold is the subset.

    Args:
        cohort: to fill.
        candidates: table of the points; ``candidates.csv``, else ``candidates_V2.csv``, if empty.
        negatives_per_positive: non-nodules kept for each nodule, drawn by seed within each subset; ``inf`` keeps all.
        subsets: numbers of the subsets to use, with commas between them; all if empty.
        validation_folds: subsets listed for validation.
        test_folds: subsets listed for testing.
    """
    sections = dict.fromkeys(_numbers("test_folds", test_folds), "test")
    sections |= dict.fromkeys(_numbers("validation_folds", validation_folds), "validation")
    chosen = _numbers("subsets", subsets) or range(10)
    scans = _Scans(_find_scans(cohort), sections)
    if cohort.task.kind == "classification":
        _points(cohort, scans, candidates, list(chosen), negatives_per_positive)
        return
    wanted = {uid: path for uid, (path, subset) in scans.files.items() if subset in chosen}
    if len(wanted) < len(scans.files):
        cohort.drop(NOT_ASKED, count=len(scans.files) - len(wanted))
    if cohort.task.kind == "detection":
        _boxes(cohort, scans, wanted)
    else:
        _lungs(cohort, scans, wanted)


def _numbers(option: str, text: str) -> list[int]:
    """Numbers of subsets in an option."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if any(part not in list("0123456789") for part in parts):
        raise ConfigError(
            f"luna16: the option {option} is {text!r}; give numbers from 0 to 9 with commas between them."
        )
    return [int(part) for part in parts]


def _find_scans(cohort: Cohort) -> dict[str, tuple[Path, int]]:
    """All scans with their voxels: series UID to header file and subset."""
    found = {}
    for path in cohort.folder.require("scans", "subset[0-9]/*.mhd"):
        if path.with_suffix(".raw").is_file() or path.with_suffix(".zraw").is_file():
            found[path.stem] = (path, int(path.parent.name[-1]))
        else:
            cohort.drop(NO_VOXELS, path.name)
    if not found:
        raise DataError(
            f"{cohort.folder.root}: no scan has its voxels (.raw or .zraw) beside it; unpack the subsets again."
        )
    return found


def _points(cohort: Cohort, scans: _Scans, candidates: str, subsets: list[int], ratio: float) -> None:
    names = (candidates,) if candidates else ("candidates.csv", "candidates_V2.csv")
    rows = _table(cohort, "class", *names)
    rows = _choose(cohort, rows, scans, subsets)
    for row in _sample(cohort, rows, ratio).to_dict("records"):
        uid, nodule = row["seriesuid"], row["class"] == 1
        diameter = float(row["diameter_mm"]) if nodule and np.isfinite(row["diameter_mm"]) else None
        position = (-row["coordX"], -row["coordY"], row["coordZ"])  # LPS+ to RAS+
        label = cohort.labels[int(nodule)]
        cohort.add(scans.files[uid][0], label=label, position=position, diameter_mm=diameter, **scans.place(uid))


def _table(cohort: Cohort, value: str, *names: str) -> pd.DataFrame:
    """Read one table with the columns seriesuid, coordX, coordY, coordZ (mm, LPS+) and ``value``."""
    path = cohort.folder.file(*names)
    if path is None:
        raise DataError(f"{cohort.folder.root}: the table {names[0]} is missing; download it beside the subsets.")
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
    return table.reset_index(drop=True)


def _drop(cohort: Cohort, table: pd.DataFrame, bad: pd.Series, reason: str) -> pd.DataFrame:
    if bad.any():
        cohort.drop(reason, count=int(bad.sum()))
    return table[~bad]


def _choose(cohort: Cohort, rows: pd.DataFrame, scans: _Scans, subsets: list[int]) -> pd.DataFrame:
    """Drop what cannot be used, and add the columns ``fold`` and ``diameter_mm``."""
    annotations = dict(list(_table(cohort, "diameter_mm", "annotations.csv").groupby("seriesuid")))
    excluded: dict[Any, pd.DataFrame] = {}
    if cohort.folder.file("annotations_excluded.csv"):
        excluded = dict(list(_table(cohort, "diameter_mm", "annotations_excluded.csv").groupby("seriesuid")))
    rows = _drop(cohort, rows, rows.duplicated(["seriesuid", *COORDINATES]), DUPLICATE)
    rows = _drop(cohort, rows, ~rows["seriesuid"].isin(list(scans.files)), NO_SCAN)
    rows = rows.assign(fold=[scans.files[uid][1] for uid in rows["seriesuid"]])
    rows = _drop(cohort, rows, ~rows["fold"].isin(subsets), NOT_ASKED)
    rows = rows.assign(diameter_mm=np.nan, at_excluded=np.nan, outside=False)
    for uid, part in track(list(rows.groupby("seriesuid", sort=True)), "reading LUNA16 headers"):
        points = part[COORDINATES].to_numpy(dtype=float)
        rows.loc[part.index, "diameter_mm"] = _hit(points, annotations.get(uid))
        rows.loc[part.index, "at_excluded"] = _hit(points, excluded.get(uid))
        rows.loc[part.index, "outside"] = ~_grid(scans.files[str(uid)][0]).inside(points)
    rows = _drop(cohort, rows, rows["outside"], OUTSIDE)
    rows = _drop(cohort, rows, (rows["class"] == 0) & rows["diameter_mm"].notna(), CONTRADICTION)
    return _drop(cohort, rows, (rows["class"] == 0) & rows["at_excluded"].notna(), EXCLUDED)


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


def _grid(header: Path) -> _Grid:
    """Read where the voxels of a scan are, from its header only; a flipped direction is heeded."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(header))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise DataError(f"{header}: is not a readable MetaImage header; unpack the subset again.") from error
    affine = np.eye(4)
    affine[:3, :3] = np.array(reader.GetDirection()).reshape(3, 3) * reader.GetSpacing()
    affine[:3, 3] = reader.GetOrigin()
    return _Grid(np.linalg.inv(affine), np.array(reader.GetSize()))


def _sample(cohort: Cohort, rows: pd.DataFrame, ratio: float) -> pd.DataFrame:
    """Keep all nodules and, within each subset, ``ratio`` non-nodules for each of them (at least one)."""
    if not np.isfinite(ratio) or rows.empty:
        return rows
    kept = [rows[rows["class"] == 1]]
    for fold, part in rows.groupby("fold"):
        negatives = part[part["class"] == 0]
        count = min(len(negatives), max(1, round(ratio * int((part["class"] == 1).sum()))))
        kept.append(negatives.sample(count, random_state=np.random.default_rng([cohort.seed, int(fold)])))
        if count < len(negatives):
            cohort.drop(NOT_SAMPLED, count=len(negatives) - count)
    return pd.concat(kept).sort_index()


def _boxes(cohort: Cohort, scans: _Scans, wanted: dict[str, Path]) -> None:
    """List every scan with a box around each annotated nodule, mm, RAS+: a cube of its diameter.

    Findings that the official evaluation ignores become ``excluded_boxes``.
    """
    nodules = _by_scan(cohort, "annotations.csv", wanted, "nodule")
    excluded = {}
    if cohort.folder.file("annotations_excluded.csv"):
        excluded = _by_scan(cohort, "annotations_excluded.csv", wanted, "excluded finding")
    for uid, path in track(wanted.items(), "reading LUNA16 headers", total=len(wanted)):
        grid = _grid(path)
        boxes = _cubes_inside(cohort, grid, nodules.get(uid), "nodule")
        ignored = _cubes_inside(cohort, grid, excluded.get(uid), "excluded finding")
        labels = [cohort.labels[0]] * len(boxes)
        cohort.add(path, boxes=boxes, label=labels, excluded_boxes=ignored or None, **scans.place(uid))


def _by_scan(cohort: Cohort, name: str, wanted: dict[str, Path], what: str) -> dict[Any, pd.DataFrame]:
    """The findings of one table by series UID."""
    table = _table(cohort, "diameter_mm", name)
    table = _drop(cohort, table, ~table["seriesuid"].isin(list(wanted)), f"{what}: {NO_SCAN} or {NOT_ASKED}")
    return dict(list(table.groupby("seriesuid")))


def _cubes_inside(cohort: Cohort, grid: _Grid, found: pd.DataFrame | None, what: str) -> list[list[float]]:
    """Boxes of the findings of a scan that lie in it."""
    if found is None:
        return []
    inside = grid.inside(found[COORDINATES].to_numpy(dtype=float))
    return _cubes(_drop(cohort, found, pd.Series(~inside, found.index), f"{what} {OUTSIDE}"))


def _cubes(findings: pd.DataFrame) -> list[list[float]]:
    """Lowest and highest corner of each finding, mm, RAS+; of one of unknown diameter 10 mm wide."""
    size = findings["diameter_mm"].to_numpy(dtype=float)
    size = np.where(size < 0, UNKNOWN_DIAMETER_MM, size)
    centres = findings[COORDINATES].to_numpy(dtype=float) * (-1, -1, 1)
    half = size[:, None] / 2
    return np.hstack([centres - half, centres + half]).round(4).tolist()


def _lungs(cohort: Cohort, scans: _Scans, wanted: dict[str, Path]) -> None:
    masks = Pictures(cohort.folder.require("lung masks", "seg-lungs-LUNA16/*.mhd"), key=lambda path: path.stem)
    for uid, path in wanted.items():
        mask = cohort.find(masks, uid, MASK_MISSING)
        if mask:
            cohort.add(path, mask=renumbered(uid, mask, LUNGS), **scans.place(uid))


def mimic(folder: Path, seed: int) -> None:
    """Write six phantom chests; flipped axes, offsets, and rows that are repeated, of no scan, or outside of theirs."""
    from medresnet3d.data.phantoms.luna16 import write_luna16

    root = write_luna16(
        folder, 6, seed=23 + seed, shape=(44, 36, 32), spacing=(3.0, 3.0, 3.0), nodules=2, distractors=3
    )
    table = root / "candidates.csv"
    rows = table.read_text(encoding="utf-8").splitlines()
    uid, x, y, z, label = rows[1].split(",")
    traps = [rows[1], f"1.2.3.4.5,{x},{y},{z},{label}", f"{uid},{float(x) + 900},{y},{z},0"]
    atomic_write_text(table, "\n".join([*rows, *traps]) + "\n")
