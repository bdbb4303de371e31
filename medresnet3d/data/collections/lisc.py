"""LISC: 250 images of leukocytes with outlines by an expert (Rezatofighi et al., Comput. Med. Imaging Graph. 2011)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medresnet3d.data.preparation.cohort import MASK_MISSING, Cohort
from medresnet3d.data.preparation.folders import PICTURES, Pictures
from medresnet3d.data.preparation.masks import read_grey
from medresnet3d.data.preparation.mimics import disc, generator, picture, write_picture

CELLS = {"baso": "basophil", "eosi": "eosinophil", "lymp": "lymphocyte", "mono": "monocyte", "neut": "neutrophil"}
SEVERAL = "mixt"
"""The folder of images with several cells of different kinds."""


def collect(cohort: Cohort) -> None:
    """List the images; numbers start anew in each folder, so folder and number name an image.

    Args:
        cohort: to fill.
    """
    folders = (*CELLS, SEVERAL)
    patterns = [f"Main Dataset/{kind}/*{suffix}" for kind in folders for suffix in PICTURES]
    outlines = Pictures(
        cohort.folder.files("Ground Truth Segmentation/*/areaforexpert1/*_expert.bmp"),
        key=lambda path: f"{path.parts[-3]}/{path.stem.removesuffix('_expert')}",
    )
    for path in cohort.folder.require("images of leukocytes", *patterns):
        kind = path.parent.name.lower()
        name = f"{kind}_{path.stem}"
        if cohort.task.kind == "segmentation":
            outline = cohort.find(outlines, f"{kind}/{path.stem}", MASK_MISSING)
            if outline:
                drawn = cohort.label_map(name, partial(_cells, outline))
                cohort.add(path, patient=name, mask=drawn, cell=CELLS.get(kind, "several"))
        elif kind == SEVERAL:
            cohort.drop("several cells in one image", name)
        else:
            cohort.add(path, patient=name, label=CELLS[kind])


def _cells(outline: Path) -> NDArray[np.uint8]:
    """A map (rows, columns) of nucleus and cytoplasm together: whatever the expert did not leave black."""
    return (read_grey(outline) > 0).astype(np.uint8)


def mimic(folder: Path, seed: int) -> None:
    """Write folders in the official mixture of cases, with numbers that start anew in each."""
    rng = generator(seed, "lisc")
    for kind, cell in enumerate(("Baso", "eosi", "lymp", "mono", "neut", "mixt")):
        for number in range(1, 4):
            image = picture(rng, (29, 36), kind=kind)
            write_picture(folder / "LISC Database" / "Main Dataset" / cell / f"{number}.bmp", image)
            area = disc((29, 36), (14, 18), 9, value=120) | disc((29, 36), (14, 18), 5)
            target = folder / "LISC Database" / "Ground Truth Segmentation" / cell / "areaforexpert1"
            write_picture(target / f"{number}_expert.bmp", area)
