"""Folders named after classes, with or without a folder for each part of the split."""

from __future__ import annotations

import re
from pathlib import Path

from medresnet3d.data.cases import natural_key
from medresnet3d.data.manifest_rules import SECTION_NAMES
from medresnet3d.data.preparation.cohort import Cohort
from medresnet3d.data.preparation.mimics import generator, picture, write_picture
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.io.reading import KNOWN_SUFFIXES


def collect(cohort: Cohort, *, patient: str = "") -> None:
    """List ``[part/]class/**/image``; a folder above all of them is passed over.

    Args:
        cohort: to fill.
        patient: regular expression searched in the path below the class folder; its first group (or all of it) names
            the patient. Without it every image is a group of its own.
    """
    root = cohort.folder.root.resolve()
    images = cohort.folder.require("images", *(f"*{suffix}" for suffix in KNOWN_SUFFIXES))
    placed = _below_common_folder([path.relative_to(root).parts for path in images])
    found: list[tuple[Path, str, str, str]] = []
    for path, (*above, name) in zip(images, placed, strict=True):
        section = SECTION_NAMES.get(above[0].casefold()) if above else None
        folders = above[1:] if section else above
        if folders:
            found.append((path, section or "training", folders[0], "/".join((*folders[1:], name))))
        else:
            cohort.drop("not in a class folder", name)
    cohort.labels = tuple(sorted({label for _, _, label, _ in found}, key=natural_key))
    if len(cohort.labels) < 2:
        raise DataError(
            f"{cohort.folder.root}: a classification needs at least two class folders, but there is "
            f"{', '.join(cohort.labels) or 'none'}; put the images of each class into a folder of its name."
        )
    expression = _expression(patient)
    if expression is None:
        cohort.warn(
            "No patient is known, so every image is a group of its own; name patients with --set patient=REGEX."
        )
    else:
        cohort.group_kind = "patient"
    for path, section, label, tail in found:
        group = path.relative_to(root).as_posix() if expression is None else _patient(expression, tail)
        if group is None:
            cohort.drop("no patient in the file name", tail)
        else:
            cohort.add(path, section=section, label=label, patient=group)


def _below_common_folder(places: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Take away folders that everything lies in, as long as a folder is left for the class."""
    while all(len(place) > 2 for place in places) and len({place[0] for place in places}) == 1:
        places = [place[1:] for place in places]
    return places


def _expression(patient: str) -> re.Pattern[str] | None:
    try:
        return re.compile(patient) if patient else None
    except re.error as error:
        raise ConfigError(
            f"folder: the option patient is {patient!r}, which is no regular expression ({error})."
        ) from None


def _patient(expression: re.Pattern[str], text: str) -> str | None:
    match = expression.search(text)
    return match and match.group(1 if expression.groups else 0)


def mimic(folder: Path, seed: int) -> None:
    """Write two classes of four images, below a folder that is one too many, with a stray image beside them."""
    rng = generator(seed, "folder")
    for kind, label in enumerate(("benign", "malignant")):
        for number in range(4):
            write_picture(
                folder / "images" / label / f"p{number // 2 + 2 * kind}_{number}.PNG", picture(rng, kind=4 * kind)
            )
    write_picture(folder / "images" / "benign" / "._p0_0.png", picture(rng))
