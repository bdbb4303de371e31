"""The report of a cohort that was checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medresnet3d.reports.blocks import (
    Block,
    CaseCard,
    Cases,
    Figure,
    Figures,
    Heading,
    KeyValues,
    Report,
    Table,
    Text,
    Tile,
    Tiles,
    Warnings,
)
from medresnet3d.reports.builders import header, what_was_run
from medresnet3d.reports.cohort_figures import Spread, class_counts_plot, spread_plot
from medresnet3d.reports.html import write_report

MOST_CLASSES = 40
_SPREAD = ("min", "p05", "median", "p95", "max")


@dataclass(frozen=True)
class FindingRow:
    """One finding as the page shows it.

    Attributes:
        level: "error" or "warning".
        spoils: whether a training would be spoilt.
        kind: of what kind it is.
        where: which entry.
        text: what is wrong and what to do.
    """

    level: str
    spoils: bool
    kind: str
    where: str
    text: str


@dataclass(frozen=True)
class CohortPage:
    """What the page shows.

    Attributes:
        fingerprint: as in ``fingerprint.json``.
        findings: errors first.
        total: number of findings, also of those that are not listed.
        spoiling: how many of all would spoil a training.
        spreads: numbers of the images.
        outliers: cards of images that are unlike the others, or whose values or masks are.
        alike: cards of pictures that look the same.
        further: where all findings are, if not all are listed.
    """

    fingerprint: Mapping[str, Any]
    findings: Sequence[FindingRow]
    total: int
    spoiling: int
    spreads: Sequence[Spread] = ()
    outliers: Sequence[CaseCard] = ()
    alike: Sequence[CaseCard] = ()
    further: str = ""
    notes: Sequence[str] = field(default_factory=list)


def cohort_report(path: Path, page: CohortPage, what: Mapping[str, Any]) -> Path:
    """Write the report of a cohort.

    Args:
        path: the file to write.
        page: what it shows.
        what: what was run.
    """
    content = page.fingerprint
    blocks: list[Block] = [
        Tiles(_tiles(page)),
        Warnings(page.notes, "Notes"),
        Heading("Findings", "what would spoil a training first" if page.total else ""),
        *_findings(page),
    ]
    if page.alike:
        blocks += [Heading("Look-alikes", "are these the same picture?"), Cases(page.alike)]
    if page.outliers:
        blocks += [Heading("Outliers", "images to look at"), Cases(page.outliers)]
    blocks += [*_sections(content), *_images(content, page.spreads), *_masks(content), *what_was_run(what)]
    read = "every voxel was read" if content["deep"] else "headers were read, voxels were not"
    return write_report(Report(f"Cohort {content['name']}", f"{content['task']}; {read}", blocks, header(what)), path)


def _tiles(page: CohortPage) -> list[Tile]:
    sections = page.fingerprint["sections"]
    entries = sum(sizes["entries"] for sizes in sections.values())
    patients = sum(sizes["patients"] for sizes in sections.values())
    parts = ", ".join(f"{sizes['entries']} {name}" for name, sizes in sections.items())
    return [
        Tile("would spoil a training", str(page.spoiling), "nothing" if not page.spoiling else "see below"),
        Tile("further findings", str(page.total - page.spoiling), "for a person to judge"),
        Tile("entries", str(entries), parts),
        Tile("patients", str(patients) if patients else "not named"),
    ]


def _findings(page: CohortPage) -> list[Block]:
    if not page.findings:
        return [Text("Nothing was found.")]
    rows = [
        [one.level, "yes" if one.spoils else "no", one.kind, one.where, one.text]
        for one in sorted(page.findings, key=lambda one: not one.spoils)
    ]
    left = page.total - len(rows)
    caption = f"{left} more are in {page.further}." if left else ""
    return [Table(["level", "spoils", "kind", "where", "what is wrong, and what to do"], rows, caption)]


def _sections(content: Mapping[str, Any]) -> list[Block]:
    sections = content["sections"]
    rows = [[name, sizes["entries"], sizes["patients"] or None] for name, sizes in sections.items()]
    blocks: list[Block] = [Heading("Sections and classes"), Table(["section", "entries", "patients"], rows)]
    classes = {name: sizes["classes"] for name, sizes in sections.items() if sizes["classes"]}
    count = len(next(iter(classes.values()), {}))
    if 0 < count <= MOST_CLASSES:
        blocks.append(Figure(class_counts_plot(classes), "Entries of each class.", "number of entries by class"))
    elif classes:
        columns = ["class", *classes]
        names = list(next(iter(classes.values())))
        blocks.append(Table(columns, [[name, *(there[name] for there in classes.values())] for name in names]))
    return blocks


def _images(content: Mapping[str, Any], spreads: Sequence[Spread]) -> list[Block]:
    if not content["images"]:
        return []
    blocks: list[Block] = [
        Heading("Images", "dotted: limits of the usual, three interquartile ranges beyond the quartiles")
    ]
    several = len(content["images"]) > 1
    for images in content["images"]:
        counted = ("formats", "types", "colours", "orientations", "hounsfield")
        facts = {name: _counts(images[name]) for name in counted if images.get(name)}
        title = f"image {images['channel'] + 1}, {images['dimensions']}D" if several else ""
        blocks.append(KeyValues({"modality": images["modality"] or None, "images": images["count"], **facts}, title))
        rows = [[f"size {axis}, voxels", *_points(one)] for axis, one in images["size"].items()]
        rows += [[f"spacing {axis}, mm", *_points(one)] for axis, one in images["spacing_mm"].items()]
        rows += [[f"intensity, {name}", *_points(one)] for name, one in images.get("intensity", {}).items()]
        blocks.append(Table(["of each image", *_SPREAD], rows, "Spread over the images", folded=True))
    figures = [Figure(spread_plot(one), one.name, f"histogram of {one.name}") for one in spreads]
    return [*blocks, Figures(figures)] if figures else blocks


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in counts.items())


def _points(spread: Mapping[str, float]) -> list[float]:
    return [spread[name] for name in _SPREAD]


def _masks(content: Mapping[str, Any]) -> list[Block]:
    rows = [[one["value"], one["name"], one["masks"], *_points(one["voxels"])] for one in content["masks"]]
    if not rows:
        return []
    columns = ["value", "label", "masks with it", *(f"voxels, {name}" for name in _SPREAD)]
    return [Heading("Masks"), Table(columns, rows)]
