"""e-ophtha: exudates and microaneurysms outlined in fundus photographs (Decencière et al., IRBM 2013)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medresnet3d.data.preparation.cohort import MASK_MISSING, Cohort
from medresnet3d.data.preparation.folders import PICTURES, Pictures
from medresnet3d.data.preparation.masks import foreground, picture_shape
from medresnet3d.data.preparation.mimics import disc, generator, picture, write_picture
from medresnet3d.io.atomic import atomic_path

KINDS = {"exudates": "EX", "exudate_present": "EX", "microaneurysms": "MA", "microaneurysm_present": "MA"}
"""Task to the name of the part of the data set that answers it."""


def collect(cohort: Cohort) -> None:
    """List the photographs with lesions and the healthy ones beside them; a folder E... is a patient.

    Args:
        cohort: to fill.
    """
    kind = KINDS[cohort.task.name]
    diseased = cohort.folder.require(f"photographs with {kind}", *(f"{kind}/*/*{suffix}" for suffix in PICTURES))
    places = {path.parents[2] for path in diseased}
    healthy = [
        path
        for path in cohort.folder.files(*(f"healthy/*/*{suffix}" for suffix in PICTURES))
        if path.parents[2] in places
    ]
    annotations = Pictures(
        cohort.folder.files(f"Annotation_{kind}/*/*_{kind}.png"),
        key=lambda path: f"{path.parent.name}/{path.stem.removesuffix(f'_{kind}')}",
    )
    for path in diseased:
        annotation = cohort.find(annotations, f"{path.parent.name}/{path.stem}", MASK_MISSING)
        if annotation:
            _add(cohort, path, annotation)
    for path in healthy:
        _add(cohort, path, None)


def _add(cohort: Cohort, path: Path, annotation: Path | None) -> None:
    """List a photograph; a healthy one has no annotation."""
    patient = path.parent.name
    make = partial(foreground, annotation) if annotation else partial(_empty, path)
    mask = cohort.label_map(f"{patient}_{path.stem}", make)
    if cohort.task.kind == "segmentation":
        cohort.add(path, patient=patient, mask=mask)
    else:
        cohort.add(path, patient=patient, label=cohort.labels[int(annotation is not None)], mask=mask)


def _empty(image: Path) -> NDArray[np.uint8]:
    return np.zeros(picture_shape(image), np.uint8)


def mimic(folder: Path, seed: int) -> None:
    """Write both parts, with two photographs of some patients and ``Thumbs.db`` among them."""
    rng = generator(seed, "eophtha")
    for kind, first in (("EX", 0), ("MA", 500)):
        base = folder / f"e_optha_{kind}"
        for index in range(6):
            patient, name = f"E{9000000 + first + index // 2:07d}", f"C{1000 + first + index:07d}"
            write_picture(base / kind / patient / f"{name}.{'JPG' if index % 2 else 'jpg'}", picture(rng, (32, 48)))
            write_picture(base / f"Annotation_{kind}" / patient / f"{name}_{kind}.png", disc((32, 48), (10, 20), 4))
        for index in range(3):
            patient, name = f"E{9100000 + first + index:07d}", f"C{5000 + first + index:07d}"
            write_picture(base / "healthy" / patient / f"{name}.jpg", picture(rng, (32, 48)))
        for place in (f"{kind}/E{9000000 + first:07d}", f"Annotation_{kind}/E{9000000 + first:07d}"):
            with atomic_path(base / place / "Thumbs.db") as temporary:
                temporary.write_bytes(b"\xd0\xcf\x11\xe0")
