"""DIARETDB1: 89 fundus photographs with the averaged outlines of four experts (Kauppi et al., BMVC 2007)."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medresnet3d.data.preparation.cohort import MASK_MISSING, Cohort
from medresnet3d.data.preparation.folders import Pictures
from medresnet3d.data.preparation.masks import read_grey
from medresnet3d.data.preparation.mimics import disc, generator, picture, write_picture
from medresnet3d.io.atomic import atomic_write_text

FINDINGS = {"hemorrhages": 4, "redsmalldots": 3, "softexudates": 2, "hardexudates": 1}
"""Folder to class number; where findings overlap, the later one is drawn over the earlier."""

FULL_CONFIDENCE = 252
"""Grey value that all four experts agree on: the official evaluation divides by it (four times 63)."""


def collect(cohort: Cohort, *, confidence: float = 0.75) -> None:
    """List the photographs with the findings on which the experts agree.

    Args:
        cohort: to fill.
        confidence: share of the experts that must have marked a pixel; 0.75 in the official evaluation.
    """
    images = cohort.folder.pictures("fundus photographs", "ddb1_fundusimages")
    truths = {
        finding: Pictures(cohort.folder.require(f"maps of {finding}", f"ddb1_groundtruth/{finding}/*.png"))
        for finding in FINDINGS
    }
    sections = _sections(cohort)
    for name, image in images.items():
        maps = {finding: cohort.find(files, name, MASK_MISSING) for finding, files in truths.items()}
        if name not in sections:
            cohort.drop("in neither official list", name)
        elif all(maps.values()):
            parts = [(FINDINGS[finding], path) for finding, path in maps.items() if path]
            if cohort.task.kind == "segmentation":
                drawn = cohort.label_map(name, partial(_draw, parts, confidence))
                cohort.add(image, section=sections[name], patient=name, mask=drawn)
            else:
                present = bool((_draw(parts[-1:], confidence) > 0).any())
                cohort.add(image, section=sections[name], patient=name, label=cohort.labels[int(present)])


def _sections(cohort: Cohort) -> dict[str, str]:
    """The official part of each photograph."""
    lists = {"training": "trainset.txt", "test": "testset.txt"}
    return {
        name.lower(): section
        for section, file in lists.items()
        for path in cohort.folder.require(f"list {file}", file)[:1]
        for name in re.findall(r"image\d+", path.read_text(encoding="utf-8", errors="replace"), re.IGNORECASE)
    }


def _draw(parts: list[tuple[int, Path]], confidence: float) -> NDArray[np.uint8]:
    """The label map (rows, columns) of findings at a confidence."""
    result: NDArray[np.uint8] | None = None
    for number, path in parts:
        grey = read_grey(path)
        result = np.zeros(grey.shape, np.uint8) if result is None else result
        result[grey >= confidence * FULL_CONFIDENCE] = number
    assert result is not None
    return result


def mimic(folder: Path, seed: int) -> None:
    """Write photographs with maps that one to four experts agree on, and the official lists."""
    rng = generator(seed, "diaretdb1")
    base = folder / "diaretdb1_v_1_1" / "resources"
    for index in range(1, 9):
        name = f"image{index:03d}.png"
        write_picture(base / "images" / "ddb1_fundusimages" / name, picture(rng, (30, 40)))
        write_picture(base / "images" / "ddb1_fundusmask" / name, disc((30, 40), (15, 20), 14))
        for at, finding in enumerate(FINDINGS):
            agreed = np.zeros((30, 40), np.uint8)
            for experts in range(1, 5 if index % 2 or finding != "hardexudates" else 3):
                agreed[disc((30, 40), (7 + 5 * at, 12), 5.0 - experts) > 0] = 63 * experts
            write_picture(base / "images" / "ddb1_groundtruth" / finding / name, agreed)
    for part, numbers in (("train", range(1, 5)), ("test", range(5, 9))):
        names = "\n".join(f"image{number:03d}.png" for number in numbers)
        atomic_write_text(base / f"{part}datasets" / f"{part}set.txt", names + "\n")
