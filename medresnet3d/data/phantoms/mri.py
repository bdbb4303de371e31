"""People with an age and perhaps Alzheimer's disease, as phantom brains in the official layouts of public collections.

What changes is what changes in people, in kind if not in measure: with age the ventricles and sulci widen and the
hippocampi lose a little; with the disease the hippocampi lose up to half of their volume and the ventricles widen
further. Every person's brain differs in shape, folds and scanner noise besides, and every head lies a little otherwise
in its scanner. All scans are skull-stripped, also where the collection's own are whole heads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from medresnet3d.data.collections import mrbrains13
from medresnet3d.data.collections.adni import CLINICAL, MIMIC_TABLES
from medresnet3d.data.phantoms.brain import BrainPhantom, brain_phantom, scanned
from medresnet3d.data.phantoms.cohorts import as_phantoms
from medresnet3d.data.preparation.mimics import write_table
from medresnet3d.data.preparation.prepare import prepare
from medresnet3d.data.preparation.volumes import write_analyze
from medresnet3d.errors import ConfigError
from medresnet3d.io import save_nifti

YOUNGEST, OLDEST = 20.0, 86.0
FIELD_MM = 192.0
HULL = (0.66, 0.82, 0.54)
"""Half axes of a brain, flatter than the default, so that a head tilted to the side looks tilted."""

GROUPS = ("CN", "MCI", "AD")
ATROPHY = {"CN": 0.0, "MCI": 0.5, "AD": 1.0}
SITES = ("Guys", "HH", "IOP")


@dataclass(frozen=True)
class Person:
    """What is known of a phantom's person.

    Args:
        number: from 0; with ``seed`` it decides shape, noise and pose.
        seed: of the cohort.
        age: in years.
        atrophy: by disease, from 0 (none) to 1 (Alzheimer's disease).
        group: ``CN``, ``MCI`` or ``AD``.
    """

    number: int
    seed: int
    age: float
    atrophy: float = 0.0
    group: str = "CN"

    @property
    def sex(self) -> int:
        """1 male, 2 female."""
        return 1 + self.number % 2


def ageing(age: float, atrophy: float, rng: np.random.Generator, spread: float = 0.05) -> dict[str, Any]:
    """The arguments of :func:`~medresnet3d.data.phantoms.brain.brain_phantom` at an age, with differences of people.

    Args:
        age: in years.
        atrophy: by disease, from 0 to 1.
        rng: of the differences.
        spread: their standard deviation, as a fraction of each range.
    """
    old = (age - YOUNGEST) / (OLDEST - YOUNGEST)
    ventricles, sulci, loss = rng.normal(0, spread, 3)
    return {
        "ventricles": float(np.clip(0.05 + 0.75 * old + 0.2 * atrophy + ventricles, 0, 1.2)),
        "sulci": float(np.clip(0.5 * old + 0.3 * atrophy + sulci, 0, 1)),
        "hippocampi": float(np.clip(1 - 0.12 * old - 0.5 * atrophy + loss, 0.2, 1.2)),
    }


def person_phantom(
    person: Person,
    size: int = 48,
    turn_degrees: float = 10.0,
    shift_mm: float = 6.0,
    difficulty: float = 0.0,
    focus: Sequence[float] | None = None,
    contrast: str = "t1",
    uneven: float = 0.0,
) -> BrainPhantom:
    """Draw the brain of a person, 192 mm of field in ``size`` voxels, turned and shifted at random.

    Difficulty hides the disease: at 1 its atrophy is two fifths of what it is at 0, and people differ three times as
    much (by 15% of each range), so that a healthy person's hippocampi may be smaller than a patient's.

    Args:
        person: whose.
        size: voxels along each axis.
        turn_degrees: largest turn about each axis.
        shift_mm: largest shift along each axis.
        difficulty: from 0 to 1.
        focus: where the disease sits, in place of hippocampi and ventricles; see
            :func:`~medresnet3d.data.phantoms.brain.brain_phantom`.
        contrast: ``t1`` or ``t2``.
        uneven: of the cortex's thickness, see there.
    """
    rng = np.random.default_rng([person.seed, person.number, 41])
    atrophy = (1 - 0.6 * difficulty) * person.atrophy
    return brain_phantom(
        int(rng.integers(2**31)),
        size,
        spacing=FIELD_MM / size,
        axes=HULL,
        turn_degrees=rng.uniform(-turn_degrees, turn_degrees, 3).tolist(),
        shift_mm=rng.uniform(-shift_mm, shift_mm, 3).tolist(),
        focus=focus,
        focal_atrophy=atrophy,
        contrast=contrast,
        uneven=uneven,
        **ageing(person.age, atrophy if focus is None else 0.0, rng, 0.05 + 0.1 * difficulty),
    )


def healthy(people: int, seed: int) -> Iterator[Person]:
    """People from 20 to 86 years, evenly spread over the ages, in random order."""
    rng = np.random.default_rng([seed, people, 20])
    ages = np.linspace(YOUNGEST, OLDEST, people) + rng.uniform(-1, 1, people)
    for number, age in enumerate(rng.permutation(ages).tolist()):
        yield Person(number, seed, round(age, 2))


def patients(people: int, seed: int, groups: Sequence[str] = GROUPS) -> Iterator[Person]:
    """People from 60 to 86 years, of each group in turn; the disease is at a point of its own in each of them."""
    rng = np.random.default_rng([seed, people, 60])
    for number in range(people):
        group = groups[number % len(groups)]
        atrophy = float(np.clip(ATROPHY[group] + rng.normal(0, 0.08), 0, 1.2)) if group != "CN" else 0.0
        yield Person(number, seed, round(float(rng.uniform(60, OLDEST)), 1), atrophy, group)


def write_ixi(
    folder: str | Path,
    people: int = 12,
    seed: int = 0,
    size: int = 48,
    turn_degrees: float = 10.0,
    difficulty: float = 0.0,
) -> Path:
    """Write healthy people as IXI lays them out: ``IXI.csv`` and flat T1 files with sagittal slices.

    Args:
        folder: created if absent.
        people: how many.
        seed: the same seed writes the same files.
        size: voxels along each axis.
        turn_degrees: see :func:`person_phantom`.
        difficulty: see :func:`person_phantom`.

    Returns:
        The folder.
    """
    folder = Path(folder)
    header = ["IXI_ID", "SEX_ID (1=m, 2=f)", "HEIGHT", "WEIGHT", "ETHNIC_ID", "MARITAL_ID", "OCCUPATION_ID"]
    rows: list[list[object]] = [[*header, "QUALIFICATION_ID", "DOB", "DATE_AVAILABLE", "STUDY_DATE", "AGE"]]
    for person in healthy(people, seed):
        code, site = 2 + person.number, SITES[person.number % len(SITES)]
        rows.append([code, person.sex, 170, 70, 1, 4, 1, 5, "", 1, "2005-11-25", person.age])
        phantom = person_phantom(person, size, turn_degrees, difficulty=difficulty)
        affine = phantom.affine[:, [1, 2, 0, 3]]  # sagittal slices: i is anterior, j superior, k right
        name = f"IXI{code:03d}-{site}-{700 + person.number:04d}-T1.nii.gz"
        save_nifti(phantom.image.transpose(1, 2, 0), affine, folder / "IXI-T1" / name)
    write_table(folder / "IXI.csv", rows)
    return folder


def write_oasis1(
    folder: str | Path,
    people: int = 12,
    seed: int = 0,
    size: int = 48,
    turn_degrees: float = 0.0,
    difficulty: float = 0.0,
) -> Path:
    """Write people as OASIS-1 lays them out: Analyze files on discs, a third of them with a CDR above 0.

    The official ``T88_111`` images are aligned to an atlas, hence no turn by default; arguments as :func:`write_ixi`.
    """
    folder = Path(folder)
    header = ["ID", "M/F", "Hand", "Age", "Educ", "SES", "MMSE", "CDR", "eTIV", "nWBV", "ASF", "Delay"]
    rows: list[list[object]] = [[*header]]
    for person in patients(people, seed, ("CN", "CN", "AD")):
        number = person.number + 1
        session = f"OAS1_{number:04d}_MR1"
        cdr = "0" if person.group == "CN" else ("0.5", "1")[person.number % 2]
        rated = [3, 2, 29 if person.group == "CN" else 22, cdr]
        rows.append([session, "MF"[person.number % 2], "R", round(person.age), *rated, 1450, 0.75, 1.2, "N/A"])
        phantom = person_phantom(person, size, turn_degrees, shift_mm=0.0, difficulty=difficulty)
        base = folder / f"disc{1 + person.number // 40}" / session
        stem = f"{session}_mpr_n{3 + number % 4}_anon_111_t88_masked_gfc"
        sizes = [FIELD_MM / size] * 3
        # axes of Analyze files: transverse slices, columns towards the left in the convention of `io.analyze`
        write_analyze(base / "PROCESSED" / "MPRAGE" / "T88_111" / f"{stem}.img", phantom.image[::-1], sizes)
        write_analyze(base / "FSL_SEG" / f"{stem}_fseg.img", phantom.labels[::-1], sizes)
    write_table(folder / "oasis_cross-sectional.csv", rows)
    return folder


def write_adni(
    folder: str | Path,
    people: int = 15,
    seed: int = 0,
    size: int = 48,
    turn_degrees: float = 10.0,
    difficulty: float = 0.0,
    focus: Sequence[float] | None = None,
    contrasts: Sequence[str] = ("t1",),
) -> Path:
    """Write healthy people and patients in turn as ADNI lays them out, with ``ADNIMERGE.csv``.

    Args:
        folder: created if absent.
        people: how many.
        seed: the same seed writes the same files.
        size: voxels along each axis.
        turn_degrees: see :func:`person_phantom`.
        difficulty: see :func:`person_phantom`.
        focus: see :func:`person_phantom`.
        contrasts: of the images, one drawn for each person; with ``t1`` and ``t2`` each place of the brain comes in two
            kinds.

    Returns:
        The folder.
    """
    folder = Path(folder)
    table: list[list[str]] = [list(MIMIC_TABLES[0])]
    day = "2006-04-18_08_20_30.0"
    rng = np.random.default_rng([seed, people, 2])
    for person in patients(people, seed):
        name, image = f"{2 + person.number % 3:03d}_S_{295 + person.number:04d}", f"I{13700 + person.number}"
        group = {"CN": "CN", "MCI": ("EMCI", "LMCI")[person.number % 2], "AD": "AD"}[person.group]
        known = {"PTID": name, "VISCODE": "bl", "EXAMDATE": "2006-04-20", "DX_bl": group, "AGE": person.age}
        known |= {"PTGENDER": ("Male", "Female")[person.sex - 1], "PTEDUCAT": 16, "APOE4": 0, "MMSE": 28}
        row: list[object] = [295 + person.number, *(known.get(column, "") for column in CLINICAL.values())]
        table.append([str(cell) for cell in row])
        contrast = contrasts[int(rng.integers(len(contrasts)))]
        phantom = person_phantom(person, size, turn_degrees, difficulty=difficulty, focus=focus, contrast=contrast)
        place = folder / "ADNI" / name / "MPR__GradWarp__B1_Correction__N3" / day / image
        save_nifti(phantom.image, phantom.affine, place / f"ADNI_{name}_MR_MPR_br_raw_2006_1_S13408_{image}.nii")
    write_table(folder / "ADNIMERGE.csv", table)
    return folder


SEQUENCES = {
    "T1": (0.0, 350.0, 700.0, 1000.0),
    "T1_IR": (0.0, 810.0, 470.0, 250.0),
    "T2_FLAIR": (0.0, 150.0, 750.0, 550.0),
}
"""Intensity of background, fluid, grey and white matter in each sequence of MRBrainS. Those of T1-IR follow from an
inversion time of 400 ms and relaxation times of 4, 1.3 and 0.85 s; those of FLAIR are drawn by eye."""
ISOINTENSE = (0.0, 350.0, 800.0, 800.0)
"""A T1 in which grey and white matter look alike, as in infants of six months."""
UNEVEN = 0.6
"""Of the cortex's thickness where they do."""


def write_mrbrains13(
    folder: str | Path,
    people: int = 8,
    seed: int = 0,
    size: int = 48,
    turn_degrees: float = 5.0,
    isointense: bool = False,
) -> Path:
    """Write people as MRBrainS13 lays them out: three sequences on one grid; arguments as :func:`write_ixi`.

    Voxels have the official 0.958 x 0.958 x 3 mm, so that a brain of few voxels is a small one. A third of the people
    are test cases, which have no labels.

    Args:
        folder: created if absent.
        people: how many, three or more.
        seed: the same seed writes the same files.
        size: voxels along each axis of a slice; a third of it is the number of slices.
        turn_degrees: see :func:`person_phantom`.
        isointense: let grey and white matter look alike in the T1, so that only the other sequences part them; the
            cortex is of uneven thickness then, or its place alone would tell them apart.
    """
    folder = Path(folder)
    test = max(1, people // 3)
    for person in patients(people, seed, ("CN", "AD")):
        rng = np.random.default_rng([seed, person.number, 13])
        phantom = person_phantom(person, size, turn_degrees, shift_mm=0.0, uneven=UNEVEN if isointense else 0.0)
        part, number = ("TrainingData", person.number + 1)
        if person.number >= people - test:
            part, number = "TestData", person.number - (people - test) + 1
        case = folder / part / str(number)
        middle = slice(1, size - size % 3, 3)
        for sequence, levels in SEQUENCES.items():
            drawn = np.array(ISOINTENSE if isointense and sequence == "T1" else levels)[phantom.labels]
            image = np.maximum(scanned(ndimage.gaussian_filter(drawn, 0.5), rng), 1) * (phantom.labels > 0)
            slices = image[..., : size - size % 3].reshape(size, size, -1, 3).mean(-1) * (
                phantom.labels[..., middle] > 0
            )
            save_nifti(np.rint(slices).astype(np.int16), mrbrains13.SPACING, case / f"{sequence}.nii")
        if part == "TrainingData":
            labels = phantom.labels[..., middle]
            save_nifti(labels, mrbrains13.SPACING, case / "LabelsForTesting.nii")
            save_nifti(mrbrains13.structures(labels), mrbrains13.SPACING, case / "LabelsForTraining.nii")
    return folder


WRITERS: dict[str, Callable[..., Path]] = {
    "ixi": write_ixi,
    "oasis1": write_oasis1,
    "adni": write_adni,
    "mrbrains13": write_mrbrains13,
}


def write_brain_cohort(
    folder: str | Path,
    collection: str = "ixi",
    task: str | None = None,
    people: int = 15,
    seed: int = 0,
    size: int = 48,
    turn_degrees: float = 10.0,
    **options: Any,
) -> Path:
    """Write phantoms in a collection's official layout and prepare them with its adapter.

    Args:
        folder: gets the layout and ``manifest.json``.
        collection: ``ixi``, ``oasis1``, ``adni`` or ``mrbrains13``.
        task: of the collection's card; the first by default.
        people: how many; a fifth of them is held out for validation, and a fifth for the test (``mrbrains13``: a third
            for a test without labels).
        seed: the same seed writes the same files.
        size: voxels along each axis.
        turn_degrees: largest turn of a head about each axis.
        **options: further arguments of the collection's writer: ``difficulty``, and others of :func:`write_adni`.

    Returns:
        Path of the manifest, with training, validation and test lists.

    Raises:
        ConfigError: if there are no phantoms of that collection.
    """
    if collection not in WRITERS:
        raise ConfigError(f"There are no phantom brains of {collection!r}; choose one of {', '.join(WRITERS)}.")
    folder = Path(folder)
    root = WRITERS[collection](folder / collection, people, seed, size, turn_degrees, **options)
    return as_phantoms(prepare(collection, root, folder / "manifest.json", task=task, seed=seed).path)
