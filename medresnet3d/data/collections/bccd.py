"""BCCD: boxes around blood cells in 364 smear images, and the cropped variant that Kaggle serves."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from medresnet3d.data.cases import stem
from medresnet3d.data.preparation.cohort import Cohort
from medresnet3d.data.preparation.folders import PICTURES, Pictures
from medresnet3d.data.preparation.mimics import generator, picture, write_picture
from medresnet3d.io.atomic import atomic_write_text

SECTIONS = {"train": "training", "val": "validation", "test": "test"}
WHITE_CELLS = ("EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL")
CORNERS = ("xmin", "ymin", "xmax", "ymax")


def collect(cohort: Cohort) -> None:
    """List the annotated images with their boxes, or (task ``wbc``) the augmented white cells of ``dataset2-master``.

    Args:
        cohort: to fill.
    """
    if cohort.task.name == "wbc":
        _white_cells(cohort)
        return
    annotations = cohort.folder.require("VOC annotations", "Annotations/*.xml")
    images = cohort.folder.pictures("blood smears", "JPEGImages")
    sections = _sections(cohort)
    for file in annotations:
        image = cohort.find(images, file.stem)
        boxes, labels = _boxes(cohort, file) if image else ([], [])
        if image and boxes:
            section = sections.get(file.stem, "training")
            cohort.add(image, section=section, patient=file.stem, boxes=boxes, label=labels)
        elif image:
            cohort.drop("no usable box", file.stem)
    cohort.drop_unused(images, "image without an annotation")


def _sections(cohort: Cohort) -> dict[str, str]:
    """The official part of each image."""
    return {
        name.strip(): section
        for part, section in SECTIONS.items()
        for file in cohort.folder.files(f"ImageSets/Main/{part}.txt")
        for name in file.read_text(encoding="utf-8").split()
    }


def _boxes(cohort: Cohort, file: Path) -> tuple[list[list[float]], list[str]]:
    """The boxes (x and y of the lowest corner, then of the highest, in pixels) of an annotation and their classes."""
    boxes, labels = [], []
    try:
        objects = ElementTree.parse(file).getroot().findall("object")
    except ElementTree.ParseError:
        cohort.drop("annotation that is no XML", file.name)
        return [], []
    for one in objects:
        box = [float(one.findtext(f"bndbox/{corner}") or "nan") for corner in CORNERS]
        label = cohort.pick({name: name for name in cohort.labels}, one.findtext("name") or "", file.stem)
        if label and box[0] < box[2] and box[1] < box[3]:
            boxes.append(box)
            labels.append(label)
        elif label:
            cohort.drop("box without area", file.stem)
    return boxes, labels


def _white_cells(cohort: Cohort) -> None:
    """List the augmented copies with their source as group: the folders TRAIN and TEST share sources."""
    patterns = [f"{kind}/*{suffix}" for kind in WHITE_CELLS for suffix in PICTURES]
    for path in Pictures(cohort.folder.require("white blood cells", *patterns), key=str).values():
        kind = path.parent.name.upper()
        source = re.fullmatch(r"_?(\d+)_\d+", stem(path))
        cohort.add(path, patient=f"{kind}_{source.group(1) if source else stem(path)}", label=kind)
    cohort.group_kind = "source image"
    cohort.warn("The folders TRAIN and TEST hold augmented copies of the same images; grouped folds are made instead.")


def mimic(folder: Path, seed: int) -> None:
    """Write the VOC folder with a box that has no area, and augmented copies of one source on both sides."""
    rng = generator(seed, "bccd")
    for index in range(8):
        name = f"BloodImage_{index:05d}"
        write_picture(folder / "BCCD" / "JPEGImages" / f"{name}.jpg", picture(rng))
        boxes = [("RBC", (5, 6, 20, 21)), ("WBC", (22, 8, 40, 30)), ("Platelets", (1, 1, 6, 5))]
        atomic_write_text(folder / "BCCD" / "Annotations" / f"{name}.xml", _voc(name, [*boxes, ("RBC", (9, 9, 9, 12))]))
    for part, numbers in (("train", (0, 1, 2, 3)), ("val", (4, 5)), ("test", (6, 7)), ("trainval", range(6))):
        names = [f"BloodImage_{number:05d}" for number in numbers]
        atomic_write_text(folder / "BCCD" / "ImageSets" / "Main" / f"{part}.txt", "\n".join(names) + "\n")
    for kind, cell in enumerate(WHITE_CELLS):
        for part, copies in (("TRAIN", (1, 2)), ("TEST", (3,))):
            for source in range(4):
                for copy in copies:
                    target = folder / "dataset2-master" / "images" / part / cell / f"_{source}_{100 * copy + kind}.jpeg"
                    write_picture(target, picture(rng, (24, 32), kind=kind))


def _voc(name: str, boxes: list[tuple[str, tuple[int, int, int, int]]]) -> str:
    objects = "".join(
        f"<object><name>{label}</name><bndbox>"
        + "".join(f"<{corner}>{value}</{corner}>" for corner, value in zip(CORNERS, box, strict=True))
        + "</bndbox></object>"
        for label, box in boxes
    )
    return f"<annotation><filename>{name}.jpg</filename>{objects}</annotation>\n"
