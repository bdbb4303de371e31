"""OASIS-1: brain MRI of 416 people from 18 to 96, a hundred of them with dementia (Marcus et al., 2007)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from medresnet3d.data.preparation.cohort import MASK_MISSING, Cohort, DerivedFile, Image, Known
from medresnet3d.data.preparation.folders import Pictures
from medresnet3d.data.preparation.mimics import generator, write_table
from medresnet3d.data.preparation.tables import Row, find_table, number, read_table
from medresnet3d.data.preparation.volumes import head, write_analyze
from medresnet3d.errors import ConfigError
from medresnet3d.io import load, save_nifti

COLUMNS = {
    "session": "ID",
    "sex": "M/F",
    "hand": "Hand",
    "age": "Age",
    "education": ("Educ", "EDUC"),
    "ses": "SES",
    "mmse": "MMSE",
    "cdr": "CDR",
    "etiv": "eTIV",
    "nwbv": "nWBV",
    "asf": "ASF",
    "delay": "Delay",
}
NUMBERS = ("education", "ses", "mmse", "cdr", "etiv", "nwbv", "asf", "delay")
IMAGES = {
    "masked": "PROCESSED/MPRAGE/T88_111/OAS1_*_t88_masked_gfc.img",
    "head": "PROCESSED/MPRAGE/T88_111/OAS1_*_t88_gfc.img",
    "subject": "PROCESSED/MPRAGE/SUBJ_111/OAS1_*_sbj_111.img",
}
"""The number of averaged scans in a name (``mpr_n3`` to ``mpr_n6``) differs from session to session."""

SESSION = len("OAS1_0001_MR1")
SUBJECT = len("OAS1_0001")
SAGITTAL_RAS = np.array([[0, 0, -1.0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
"""Directions of i, j and k of the images in a subject's own space, whose headers do not say so."""


def collect(cohort: Cohort, *, image: str = "masked", blank_cdr: str = "nondemented", rescans: bool = True) -> None:
    """List the sessions of the table with one processed image each.

    Args:
        cohort: to fill.
        image: ``masked`` (atlas space, brain only), ``head`` (atlas space) or ``subject`` (the subject's own space).
        blank_cdr: ``nondemented``, as is usual for the young who were not rated, or ``drop``.
        rescans: keep the second visits (``_MR2``) of 20 people.
    """
    for name, value, choices in (("image", image, IMAGES), ("blank_cdr", blank_cdr, ("nondemented", "drop"))):
        if value not in choices:
            raise ConfigError(f"oasis1: the option {name} is {value!r}; choose one of {', '.join(choices)}.")
    if image == "subject" and cohort.task.kind == "segmentation":
        raise ConfigError("oasis1: the tissue maps are in atlas space; choose image=masked or image=head for them.")
    rows = read_table(find_table(cohort.folder, "oasis_cross-sectional*"), COLUMNS, optional=("asf", "delay"))
    images = Pictures(cohort.folder.require("processed images", IMAGES[image]), key=_session)
    tissues = Pictures(cohort.folder.files("FSL_SEG/OAS1_*_fseg.img"), key=_session)
    first = {row["session"][:SUBJECT]: row for row in rows if row["session"].endswith("_MR1")}
    for row in rows:
        if not rescans and not row["session"].endswith("_MR1"):
            cohort.drop("rescan", row["session"])
            continue
        path = cohort.find(images, row["session"])
        if path:
            cdr = row["cdr"] or first.get(row["session"][:SUBJECT], row)["cdr"]
            _add(cohort, path, row, cdr, tissues, blank_cdr, own_space=image == "subject")
    named = {row["session"].casefold() for row in rows}
    for session in images.keys() - named:
        cohort.drop("image without a row in the table", session)


def _session(path: Path) -> str:
    return path.name[:SESSION]


def _add(cohort: Cohort, path: Path, row: Row, cdr: str, tissues: Pictures, blank_cdr: str, *, own_space: bool) -> None:
    more: Known = {"session": row["session"], "sex": row["sex"], "hand": row["hand"]}
    more |= {key: number(row[key]) for key in NUMBERS}
    more["cdr"] = number(cdr)
    if cohort.task.kind == "segmentation":
        more["mask"] = cohort.find(tissues, row["session"], MASK_MISSING)
        if more["mask"] is None:
            return
    elif cohort.task.kind == "regression":
        more["label"] = number(row["age"])
        if more["label"] is None:
            cohort.drop("no age", row["session"])
            return
    else:
        if more["cdr"] is None and blank_cdr == "drop":
            cohort.drop("no CDR", row["session"])
            return
        more["label"] = "demented" if (more["cdr"] or 0) > 0 else "nondemented"
    if cohort.task.kind != "regression":
        more["age"] = number(row["age"])
    scan: Image = path
    if own_space:
        scan = DerivedFile(f"images/{row['session']}.nii.gz", partial(_save_upright, path))
    cohort.add(scan, patient=row["session"][:SUBJECT], **more)


def _save_upright(source: Path, path: Path) -> None:
    """Write an image of a subject's own space as NIfTI: its slices are sagittal, whatever its header says."""
    volume = load(source)
    affine = SAGITTAL_RAS @ np.diag([*volume.spacing, 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(volume.shape) - 1) / 2)
    save_nifti(volume.array, affine, path)


def mimic(folder: Path, seed: int) -> None:
    """Write two discs of ten people, of whom one came twice, one has no images, and the young have no CDR."""
    rng = generator(seed, "oasis1")
    rows: list[list[object]] = [
        [*("ID", "M/F", "Hand", "Age", "Educ", "SES", "MMSE", "CDR"), "eTIV", "nWBV", "ASF", "Delay"]
    ]
    sessions = [(person, 1) for person in range(1, 11)] + [(4, 2)]
    for person, visit in sessions:
        session = f"OAS1_{person:04d}_MR{visit}"
        cdr = ("", "0", "0.5", "1")[person % 4]
        rated = [3, 2, 30 - person, cdr] if cdr else ["", "", "", ""]
        rows.append(
            [
                session,
                "MF"[person % 2],
                "R",
                20 + 6 * person,
                *rated,
                1400 + person,
                0.75,
                1.2,
                40 if visit == 2 else "N/A",
            ]
        )
        if person == 10:
            continue
        base, stem = folder / f"disc{1 + person // 6}" / session, f"{session}_mpr_n{3 + person % 4}_anon"
        array, labels = head(rng, (16, 18, 14), kind=person)
        atlas = base / "PROCESSED" / "MPRAGE" / "T88_111"
        write_analyze(atlas / f"{stem}_111_t88_gfc.img", array)
        write_analyze(atlas / f"{stem}_111_t88_masked_gfc.img", array * (labels > 0))
        write_analyze(base / "PROCESSED" / "MPRAGE" / "SUBJ_111" / f"{stem}_sbj_111.img", array.transpose(1, 2, 0))
        write_analyze(base / "FSL_SEG" / f"{stem}_111_t88_masked_gfc_fseg.img", labels)
        write_analyze(base / "RAW" / f"{session}_mpr-1_anon.img", array.transpose(1, 2, 0), (1, 1, 1.25))
    write_table(folder / "oasis_cross-sectional.csv", rows)
