"""BreaKHis: 7909 histology images of 82 patients at four magnifications (Spanhol et al., IEEE TBME 2016)."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from medresnet3d.data.preparation.cohort import Cohort, Known
from medresnet3d.data.preparation.mimics import generator, picture, write_picture, write_table
from medresnet3d.data.preparation.tables import find_optional_table, number, read_table
from medresnet3d.errors import ConfigError

NAME = re.compile(r"SOB_([BM])_([A-Z]+)-(\d+)-([0-9A-Z]+)-(\d+)-(\d+)", re.IGNORECASE)
TYPES = {
    "A": "adenosis",
    "F": "fibroadenoma",
    "PT": "phyllodes tumor",
    "TA": "tubular adenoma",
    "DC": "ductal carcinoma",
    "LC": "lobular carcinoma",
    "MC": "mucinous carcinoma",
    "PC": "papillary carcinoma",
}
MAGNIFICATIONS = ("40", "100", "200", "400")
FOLDS = {"fold": "fold", "magnification": "mag", "part": ("grp", "group"), "file": "filename"}


@dataclass(frozen=True)
class Image:
    """What the name of an image says.

    Args:
        path: the file.
        malignant: or benign.
        kind: tumour type, a key of :data:`TYPES`.
        patient: year and slide, e.g. ``"14-22549AB"``.
        magnification: 40, 100, 200 or 400, as text.
        number: of the image.
    """

    path: Path
    malignant: bool
    kind: str
    patient: str
    magnification: str
    number: str


GROUPINGS = ("image", "set")


def collect(cohort: Cohort, *, magnification: str = "all", official_fold: int = 1, grouping: str = "image") -> None:
    """List the images; year and slide in a name are the patient.

    Args:
        cohort: to fill.
        magnification: 40, 100, 200 or 400, or ``all``.
        official_fold: which of the five official divisions is followed where ``Folds.csv`` or ``dsfold*.txt`` is there;
            0 makes seeded folds instead.
        grouping: ``image``: each image is an entry; ``set``: the first image of a patient at each magnification is one,
            the second another, and so on; where a magnification has no more, it is missing from the later sets.
    """
    if grouping not in GROUPINGS:
        raise ConfigError(f"breakhis: the grouping {grouping!r} is none of {', '.join(GROUPINGS)}.")
    if magnification not in ("all", *MAGNIFICATIONS):
        raise ConfigError(f"breakhis: the magnification {magnification!r} is none of all, {', '.join(MAGNIFICATIONS)}.")
    paths = cohort.folder.require("images SOB_*.png", "SOB_*-*-*-*-*.png")
    images = [image for path in paths if (image := _parse(cohort, path))]
    kinds: defaultdict[str, set[str]] = defaultdict(set)
    for image in images:
        kinds[image.patient].add(image.kind)
    official = _official(cohort, official_fold) if official_fold else {}
    usable = []
    for image in images:
        if len(kinds[image.patient]) > 1:
            cohort.drop("slide under two tumour types", image.path.name)
        elif magnification not in ("all", image.magnification):
            cohort.drop("other magnification", image.path.name)
        else:
            usable.append(image)
    for together in _sets(usable) if grouping == "set" else [[image] for image in usable]:
        _add(cohort, together, official)


def _sets(images: list[Image]) -> list[list[Image]]:
    """The images of each patient, one of each magnification at a time."""
    by_patient: defaultdict[str, defaultdict[str, list[Image]]] = defaultdict(lambda: defaultdict(list))
    for image in sorted(images, key=lambda one: (one.patient, int(one.magnification), int(one.number))):
        by_patient[image.patient][image.magnification].append(image)
    return [
        [image for image in together if image]
        for own in by_patient.values()
        for together in zip_longest(*(own[power] for power in MAGNIFICATIONS))
    ]


def _add(cohort: Cohort, together: list[Image], official: dict[str, str]) -> None:
    first = together[0]
    label = TYPES[first.kind] if cohort.task.name == "type" else cohort.labels[int(first.malignant)]
    sections = {official.get(image.path.name.lower(), "training") for image in together}
    section = "test" if "test" in sections else "training"
    known: Known = {"type": TYPES[first.kind], "magnification": int(first.magnification)}
    if len(together) > 1:
        known["magnification"] = [int(image.magnification) for image in together]
    paths = [image.path for image in together]
    cohort.add(paths if len(paths) > 1 else paths[0], section=section, patient=first.patient, label=label, **known)


def _parse(cohort: Cohort, path: Path) -> Image | None:
    """What a name says; ``None``, and counted, if it does not have the official form."""
    match = NAME.fullmatch(path.stem)
    if match is None or match.group(2).upper() not in TYPES:
        cohort.drop("name without the official form", path.name)
        return None
    nature, kind, year, slide, magnification, count = (part.upper() for part in match.groups())
    return Image(path, nature == "M", kind, f"{year}-{slide}", magnification, count)


def _official(cohort: Cohort, fold: int) -> dict[str, str]:
    """The official part of each image, by file name, in one of the five divisions."""
    parts = {"train": "training", "test": "test"}
    table = find_optional_table(cohort.folder, "Folds")
    rows = read_table(table, FOLDS) if table else []
    for path in cohort.folder.files("dsfold*.txt"):
        header = ("filename", "mag", "fold", "grp")
        rows += read_table(path, {**FOLDS, "part": "grp"}, header=header)
    return {
        Path(row["file"].replace("\\", "/")).name.lower(): parts[row["part"].lower()]
        for row in rows
        if number(row["fold"]) == fold and row["part"].lower() in parts
    }


def mimic(folder: Path, seed: int) -> None:
    """Write two patients of each type at two magnifications, a slide under two types, and the official table."""
    rng = generator(seed, "breakhis")
    base = Path("BreaKHis_v1/histology_slides/breast")
    rows: list[tuple[object, ...]] = [("fold", "mag", "grp", "filename")]
    for kind, (code, name) in enumerate(TYPES.items()):
        nature, word = ("B", "benign") if kind < 4 else ("M", "malignant")
        slides = [f"{22549 + 10 * kind + at}{'AB' if kind < 4 else ''}" for at in range(2)]
        for at, slide in enumerate([*slides, *(["13412"] if code in ("DC", "LC") else [])]):
            for magnification in ("40", "400"):
                file = f"SOB_{nature}_{code}-14-{slide}-{magnification}-001.png"
                place = base / word / "SOB" / name.replace(" ", "_") / f"SOB_{nature}_{code}_14-{slide}"
                write_picture(folder / place / f"{magnification}X" / file, picture(rng, (23, 35), kind=kind))
                for fold in (1, 2):
                    part = "test" if at % 2 == fold % 2 else "train"
                    rows.append((fold, magnification, part, f"{place.as_posix()}/{magnification}X/{file}"))
    write_table(folder / "Folds.csv", rows)
