"""ICPR 2012 HEp-2 contest: 1455 cells of 28 specimen images (Foggia et al., IEEE Trans. Med. Imaging 2013)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from medresnet3d.data.preparation.cohort import MASK_MISSING, Cohort, Known
from medresnet3d.data.preparation.folders import PICTURES, Pictures
from medresnet3d.data.preparation.masks import foreground
from medresnet3d.data.preparation.mimics import disc, generator, picture, write_picture, write_table
from medresnet3d.data.preparation.tables import find_optional_table, find_table, read_lines

PATTERNS = ("homogeneous", "coarse_speckled", "fine_speckled", "nucleolar", "centromere", "cytoplasmatic")
"""As the data set spells them."""

PARTS = {"training": "training", "test": "test"}
WIDE = 6
"""Columns that only the table of the whole contest has; it alone names the specimen image of a cell."""


def collect(cohort: Cohort) -> None:
    """List the cells of both parts; cells of one specimen image are one group.

    Args:
        cohort: to fill.
    """
    find_table(cohort.folder, "gt_training")
    sources = _sources(cohort)
    for part, section in PARTS.items():
        truth = find_optional_table(cohort.folder, f"gt_{part}")
        facts = find_optional_table(cohort.folder, part)
        intensity = {line[0].strip(): line[1].strip() for line in _rows(facts)} if facts else {}
        files = Pictures(cohort.folder.files(*(f"{part}/*{suffix}" for suffix in PICTURES)))
        run, last = 0, ("", "")
        for order, line in enumerate(_rows(truth) if truth else [], 1):
            number, pattern = line[0].strip(), line[1].strip().lower()
            run, last = run + (last != (pattern, intensity.get(number, ""))), (pattern, intensity.get(number, ""))
            source = sources.get((part, order), f"run{run}")
            known: Known = {"section": section, "patient": f"{part}_{source}", "intensity": intensity.get(number)}
            _add(cohort, files, number, pattern, known)
        masks = [path for key, path in files.items() if key.endswith("_mask")]
        left = [path for path in files.unused() if path not in masks]
        if left:
            cohort.drop("cell without a row in the tables", left[0].name, len(left))
    if not sources:
        cohort.group_kind = "run of cells of one pattern and intensity"
        cohort.warn("The table of the whole contest, which names specimen images, is not there: runs of cells group.")


def _add(cohort: Cohort, files: Pictures, number: str, pattern: str, known: Known) -> None:
    """List one cell; its name is the number with leading zeros."""
    name = number.zfill(3)
    cell = cohort.find(files, name)
    if cell is None:
        return
    if cohort.task.kind == "segmentation":
        mask = cohort.find(files, f"{name}_mask", MASK_MISSING)
        if mask:
            drawn = cohort.label_map(f"{known['section']}_{name}", partial(foreground, mask))
            cohort.add(cell, mask=drawn, pattern=pattern, **known)
        return
    label = cohort.pick({one: one for one in PATTERNS}, pattern, name)
    if label:
        cohort.add(cell, label=label, **known)


def _rows(table: Path) -> list[list[str]]:
    """The rows of a table with semicolons, without its header."""
    return [line for line in read_lines(table, separator=";") if line and line[0].strip().isdecimal()]


def _sources(cohort: Cohort) -> dict[tuple[str, int], str]:
    """The specimen image of each cell, by part and place in it, from the table of the whole contest."""
    for path in cohort.folder.files("*.csv"):
        rows = [line for line in read_lines(path, separator=";") if len(line) >= WIDE]
        found: dict[tuple[str, int], str] = {}
        places = dict.fromkeys(PARTS, 0)
        for line in rows:
            part = line[1].strip().lower()
            if part in places:
                places[part] += 1
                found[part, places[part]] = f"image{line[2].strip()}"
        if found:
            return found
    return {}


def mimic(folder: Path, seed: int) -> None:
    """Write cells with masks of both parts, their tables, and the table of the whole contest."""
    rng = generator(seed, "icpr2012")
    wide: list[tuple[object, ...]] = [("id", "set", "image", "intensity", "id_in_image", "pattern", "x", "y")]
    for part, first in (("training", 1), ("test", 30)):
        truth: list[tuple[object, ...]] = [("id", "pattern")]
        facts: list[tuple[object, ...]] = [("id", "intensity", "width", "height")]
        for index in range(24 if part == "training" else 12):
            number, kind = index + 1, index % 12 // 2
            intensity = ("positive", "intermediate")[index % 2]
            write_picture(folder / part / f"{number:03d}.png", picture(rng, (20, 22), kind=kind))
            write_picture(folder / part / f"{number:03d}_mask.png", disc((20, 22), (10, 11), 8))
            truth.append((number, PATTERNS[kind]))
            facts.append((number, intensity, 22, 20))
            wide.append((len(wide), part, first + index // 2, intensity, index % 2, PATTERNS[kind], 1, 1))
        write_table(folder / f"gt_{part}.csv", truth, separator=";")
        write_table(folder / f"{part}.csv", facts, separator=";")
    write_table(folder / "contest.csv", wide, separator=";")
