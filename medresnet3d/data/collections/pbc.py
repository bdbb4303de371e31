"""PBC: 17 092 single peripheral blood cells of eight kinds (Acevedo et al., Data in Brief 2020)."""

from __future__ import annotations

from pathlib import Path

from medresnet3d.data.cases import stem
from medresnet3d.data.preparation.cohort import Cohort
from medresnet3d.data.preparation.folders import PICTURES
from medresnet3d.data.preparation.mimics import generator, picture, write_picture

CELLS = ("basophil", "eosinophil", "erythroblast", "ig", "lymphocyte", "monocyte", "neutrophil", "platelet")
SUBTYPES = {
    "MMY": "metamyelocyte",
    "MY": "myelocyte",
    "PMY": "promyelocyte",
    "BNE": "band neutrophil",
    "SNE": "segmented neutrophil",
}
"""What the beginning of a file name says beyond the folder; IG and NEUTROPHIL are cells that were not told apart."""

UNTOLD = ("IG", "NEUTROPHIL")


def collect(cohort: Cohort) -> None:
    """List the images of the eight folders; the beginning of a file name is kept as ``subtype``.

    Args:
        cohort: to fill.
    """
    patterns = [f"{cell}/*{suffix}" for cell in CELLS for suffix in PICTURES]
    for path in cohort.folder.require("blood cells", *patterns):
        cell, prefix = path.parent.name.lower(), stem(path).partition("_")[0].upper()
        label = cell
        if cohort.task.name == "subtype":
            if prefix in UNTOLD:
                cohort.drop("sub-type not told", path.name)
                continue
            label = SUBTYPES.get(prefix, cell)
        if label in cohort.labels:
            cohort.add(path, patient=f"{cell}_{stem(path)}", label=label, subtype=prefix)
        else:
            cohort.drop(f"{cell} without a known sub-type", path.name)


def mimic(folder: Path, seed: int) -> None:
    """Write three cells of each kind, four for the ones with sub-types, and the hidden picture of the real archive."""
    rng = generator(seed, "pbc")
    prefixes = ("BA", "EO", "ERB", "MMY MY PMY IG", "LY", "MO", "BNE SNE NEUTROPHIL", "PLATELET")
    for kind, (cell, names) in enumerate(zip(CELLS, prefixes, strict=True)):
        for prefix in names.split():
            for number in range(3):
                path = folder / "PBC_dataset_normal_DIB" / cell / f"{prefix}_{100 * kind + number}.jpg"
                write_picture(path, picture(rng, (36, 36), kind=kind))
    write_picture(folder / "PBC_dataset_normal_DIB" / "neutrophil" / ".DS_169665.jpg", picture(rng, (36, 36)))
