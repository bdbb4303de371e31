"""mini-MIAS: 322 mammograms of 161 women, 1024 x 1024 pixels (Suckling et al., IWDM 1994)."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from medresnet3d.data.preparation.cohort import Cohort, Known
from medresnet3d.data.preparation.masks import picture_shape
from medresnet3d.data.preparation.mimics import disc, generator, picture, write_picture
from medresnet3d.errors import DataError
from medresnet3d.io.atomic import atomic_write_text

ROW = re.compile(
    r"^(mdb\d{3})[a-z]*[ \t]+([FGD])[ \t]+([A-Z]{4})(?:[ \t]+([BM])\b)?(?:[ \t]+(\d+)[ \t]+(\d+)(?:[ \t]+(\d+))?)?",
    re.MULTILINE | re.IGNORECASE,
)
"""A film: name, tissue, kind of finding, severity, x, y and radius; some rows end earlier or with a note."""

SIDE = 1024
"""Rows and columns of a film, which the places of findings refer to."""

DENSITIES = {"F": "fatty", "G": "fatty-glandular", "D": "dense-glandular"}
SEVERITIES = {"": "normal", "B": "benign", "M": "malignant"}


@dataclass(frozen=True)
class Finding:
    """One row of the table.

    Args:
        kind: CALC, CIRC, SPIC, MISC, ARCH, ASYM or NORM.
        severity: ``"B"``, ``"M"`` or ``""``.
        box: columns and rows of the finding's corners from the top left, or ``None`` where no place is given.
    """

    kind: str
    severity: str
    box: list[float] | None


def collect(cohort: Cohort) -> None:
    """List the films with what is known of their findings; two films in succession are one woman's.

    Args:
        cohort: to fill.
    """
    density, findings = _read_table(cohort)
    images = cohort.folder.pictures("films mdb001.pgm to mdb322.pgm", "**", names="mdb???")
    for name, found in findings.items():
        image = cohort.find(images, name)
        if image is None:
            continue
        number = int(name[3:])
        known: Known = {"density": density[name], "findings": sorted({finding.kind for finding in found})}
        woman = f"woman{(number + 1) // 2:03d}"
        if cohort.task.kind == "detection":
            placed = [finding for finding in found if finding.box]
            scale = picture_shape(image)[0] / SIDE
            boxes = [[scale * corner for corner in finding.box] for finding in placed if finding.box]
            labels = [SEVERITIES[finding.severity] for finding in placed]
            if placed:
                cohort.add(image, patient=woman, boxes=boxes, label=labels, **known)
            else:
                cohort.drop("no finding with a place", name)
            continue
        if cohort.task.name == "lesion":
            _add_lesions(cohort, image, found, {**known, "patient": woman})
            continue
        worst = max((finding.severity for finding in found), default="")
        label = density[name] if cohort.task.name == "density" else SEVERITIES[worst]
        if label in cohort.labels:
            cohort.add(image, patient=woman, label=label, side="right" if number % 2 else "left", **known)
        else:
            cohort.drop(f"{label} film", name)
    cohort.drop_unused(images, "film without a row in the table")


def _add_lesions(cohort: Cohort, image: Path, found: list[Finding], known: Known) -> None:
    """List the film once for each finding that has a place."""
    scale = picture_shape(image)[0] / SIDE
    for finding in found:
        if finding.box is None:
            cohort.drop("no finding with a place", image.stem)
        else:
            roi = [scale * corner for corner in finding.box]
            cohort.add(image, label=SEVERITIES[finding.severity], roi=roi, **known)


def _read_table(cohort: Cohort) -> tuple[dict[str, str], dict[str, list[Finding]]]:
    """Density and findings of each film, from whichever text file has the table."""
    density: dict[str, str] = {}
    findings: defaultdict[str, list[Finding]] = defaultdict(list)
    for path in cohort.folder.require("table Info.txt", "Info*.txt", "README*"):
        for name, tissue, kind, severity, x, y, radius in ROW.findall(path.read_text(encoding="latin-1")):
            finding = Finding(kind.upper(), severity.upper(), _box(x, y, radius))
            density[name.lower()] = DENSITIES[tissue.upper()]
            if finding not in findings[name.lower()]:
                findings[name.lower()].append(finding)
    if not findings:
        raise DataError(
            f"{cohort.folder.root}: no text file holds the rows of mini-MIAS (mdb001 G CIRC B 535 425 197)."
        )
    return density, dict(findings)


def _box(x: str, y: str, radius: str) -> list[float] | None:
    """The box around a circle whose row is counted from the bottom of the film."""
    if not radius:
        return None
    column, row, reach = int(x), SIDE - int(y), int(radius)
    corners = (column - reach, row - reach, column + reach, row + reach)
    return [float(min(max(corner, 0), SIDE)) for corner in corners]


def mimic(folder: Path, seed: int) -> None:
    """Write reduced films with the table: films of two findings, findings without a place, and notes."""
    rng = generator(seed, "mini_mias")
    rows = []
    for number in range(1, 17):
        name = f"mdb{number:03d}"
        film = picture(rng, (64, 64), colour=False)
        write_picture(folder / "all-mias" / f"{name}.pgm", film | disc((64, 64), (32, 20), 12, value=64))
        tissue = "FGD"[number % 3]
        if number % 4 == 0:
            rows.append(f"{name} {tissue} NORM")
        elif number % 4 == 1:
            rows += [f"{name} {tissue} CIRC B 535 425 197", f"{name} {tissue} SPIC M 300 640 60"]
        else:
            rows.append(f"{name} {tissue} CALC {'B' if number % 4 == 2 else 'M *NOTE 3*'}")
    atomic_write_text(
        folder / "all-mias" / "Info.txt", "REFNUM BG CLASS SEVERITY X Y RADIUS\n\n" + "\n".join(rows) + "\n"
    )
