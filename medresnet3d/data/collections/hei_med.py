"""HEI-MED: 169 fundus photographs with exudates outlined, in a format of its own (Giancardo et al., MedIA 2012)."""

from __future__ import annotations

import gzip
import re
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medresnet3d.data.preparation.cohort import MASK_MISSING, Cohort, Known
from medresnet3d.data.preparation.folders import Pictures
from medresnet3d.data.preparation.masks import picture_shape
from medresnet3d.data.preparation.mimics import generator, picture, write_picture
from medresnet3d.data.preparation.tables import number
from medresnet3d.errors import DataError
from medresnet3d.io.atomic import atomic_path, atomic_write_text

HEADER = 3
"""Whole numbers before the pixels of a map: unused, width, height."""


def collect(cohort: Cohort) -> None:
    """List the photographs; one without a list of lesions and without a map is healthy.

    Args:
        cohort: to fill.
    """
    photographs = cohort.folder.require("photographs (00000000).jpg", "(*).jpg", "(*).jpeg")
    lists, facts = (Pictures(cohort.folder.files(f"(*){suffix}")) for suffix in (".GND", ".meta"))
    maps = Pictures(cohort.folder.files("(*).map.gz"), key=lambda path: path.name.partition(".")[0])
    for image in photographs:
        name = image.stem
        lesions = _lesions(lists[name]) if name in lists else []
        exudates = [value for value, lesion in enumerate(lesions, 1) if "exudate" in lesion.casefold()]
        person = _facts(facts[name]) if name in facts else {}
        more: Known = {"sex": person.get("PatientGender"), "quality": number(person.get("QualityValue", ""))}
        patient, mask = name.strip("()"), None
        if not exudates or name in maps:
            make = partial(_exudates, maps[name], exudates) if exudates else partial(_healthy, image)
            mask = cohort.label_map(patient, make)
        if cohort.task.kind == "classification":
            cohort.add(image, patient=patient, label=cohort.labels[int(bool(exudates))], mask=mask, **more)
        elif mask is None:
            cohort.drop(MASK_MISSING, image.name)
        else:
            cohort.add(image, patient=patient, mask=mask, **more)


def _lesions(path: Path) -> list[str]:
    """The lines of a list that name the lesions, in the order of their numbers in the map."""
    lines = path.read_text(encoding="latin-1").splitlines()
    if lines and lines[0].upper().startswith("GNDVERSION"):
        lines = lines[1:]
    try:
        count = int(float(lines[0]))
    except (IndexError, ValueError):
        raise DataError(f"{path}: does not begin with the number of lesions; copy it again.") from None
    return [line.strip() for line in lines[1 : 1 + count]]


def _facts(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^~([^~\n]+)~([^\n~]*)", path.read_text(encoding="latin-1"), re.MULTILINE))


def _exudates(path: Path, numbers: list[int]) -> NDArray[np.uint8]:
    """The map (rows, columns) of exudates in a compressed map of numbered lesions."""
    try:
        values = np.frombuffer(gzip.decompress(path.read_bytes()), dtype="<i4")
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path}: is no compressed map ({error}); copy it again.") from error
    width, height = (int(value) for value in values[1:HEADER]) if len(values) > HEADER else (0, 0)
    if width * height != len(values) - HEADER or not len(values) > HEADER:
        raise DataError(f"{path}: holds {len(values) - HEADER} pixels instead of {width} x {height}; copy it again.")
    return np.isin(values[HEADER:].reshape(height, width), numbers).astype(np.uint8)


def _healthy(image: Path) -> NDArray[np.uint8]:
    return np.zeros(picture_shape(image), np.uint8)


def mimic(folder: Path, seed: int) -> None:
    """Write photographs with exudates, with other lesions, healthy ones, and one whose map is missing."""
    rng = generator(seed, "hei_med")
    for index in range(10):
        base = folder / "DMED"
        name = f"({52 + index:08d})"
        write_picture(base / f"{name}.jpg", picture(rng, (30, 40)))
        write_picture(base / f"{name}_vess.png", picture(rng, (30, 40), colour=False))
        atomic_write_text(base / f"{name}.meta", f"~ImageName~{name}\n~PatientGender~F\n~QualityValue~0.8\n")
        lesions = ([], ["Exudate 1", "MicroAneurysm 1"], ["MicroAneurysm 1"])[index % 3]
        if not lesions:
            continue
        version = "GNDVERSION2.0 (INCLUDES NOTES AT THE END OF THE FILE)\n" if index % 2 else ""
        text = f"{version}{len(lesions)}\n" + "\n".join(lesions) + "\n0\n0\n1\n(none)\n"
        atomic_write_text(base / f"{name}.GND", text)
        if index == 7:
            continue
        pixels = np.zeros((30, 40), "<i4")
        pixels[5:12, 8:20], pixels[20:25, 30:35] = 1, 2
        with atomic_path(base / f"{name}.map.gz") as temporary:
            content = np.concatenate([np.array([0, 40, 30], "<i4"), pixels.ravel()]).tobytes()
            temporary.write_bytes(gzip.compress(content, mtime=0))
