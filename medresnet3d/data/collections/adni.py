"""ADNI: brain MRI of healthy people, of mild cognitive impairment and of Alzheimer's disease (adni.loni.usc.edu)."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np

from medresnet3d.data.preparation.cohort import Cohort, Known
from medresnet3d.data.preparation.mimics import generator, write_table
from medresnet3d.data.preparation.tables import Row, find_optional_table, number, read_lines, read_table
from medresnet3d.data.preparation.volumes import head
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.io import save_nifti

PERSON = re.compile(r"\d{3}_S_\d{4,5}")
DATE = re.compile(r"\d{4}-\d{2}-\d{2}(?=_\d{2}_\d{2}_\d{2})")
IMAGE_ID = re.compile(r"_(I\d+)(?:\.|$)")
DATES = ("%Y-%m-%d", "%m/%d/%Y", "%m/%d/%y")
YEAR = 365.25
NEAR = timedelta(days=180)
"""An image further than this from every examination has no diagnosis."""

COLLECTION = {
    "image": ("Image Data ID", "Image ID"),
    "person": ("Subject", "Subject ID"),
    "group": ("Group", "Research Group"),
    "sex": "Sex",
    "age": "Age",
    "visit": "Visit",
    "date": ("Acq Date", "Study Date"),
}
CLINICAL = {
    "person": "PTID",
    "visit": "VISCODE",
    "date": "EXAMDATE",
    "baseline": "DX_bl",
    "age": "AGE",
    "sex": "PTGENDER",
    "education": "PTEDUCAT",
    "apoe4": "APOE4",
    "mmse": "MMSE",
    "diagnosis": "DX",
}
GROUPS = {
    **dict.fromkeys(("CN", "NC", "NL", "Normal"), "CN"),
    **dict.fromkeys(("MCI", "EMCI", "LMCI"), "MCI"),
    **dict.fromkeys(("AD", "Dementia"), "AD"),
}
"""Names of diagnoses in the tables of the several phases; SMC (memory concern) is an option."""


@dataclass(frozen=True)
class Scan:
    """One image of the archive.

    Args:
        path: a NIfTI file, or the folder of a DICOM series.
        person: PTID.
        image_id: as the archive numbers it; may be empty.
        description: of the series, as its folder is called.
        taken: when; ``None`` if nothing says so.
        listed: its row in the collection's table; may be empty.
    """

    path: Path
    person: str
    image_id: str
    description: str
    taken: date | None
    listed: Row = field(default_factory=dict)


@dataclass(frozen=True)
class Diagnosis:
    """What is known of a person at the time of an image."""

    group: str
    age: float | None
    sex: str
    more: Known


def collect(cohort: Cohort, *, description: str = "", visits: str = "baseline", smc: str = "CN") -> None:
    """List one image of each person (or visit) with the diagnosis of that time.

    Args:
        cohort: to fill.
        description: part of the series description that an image must have (``MPR__GradWarp__B1_Correction__N3``).
        visits: ``baseline`` or ``all``.
        smc: people with a memory concern: count as ``CN``, or ``drop``.
    """
    for name, value, choices in (("visits", visits, ("baseline", "all")), ("smc", smc, ("CN", "drop"))):
        if value not in choices:
            raise ConfigError(f"adni: the option {name} is {value!r}; choose {' or '.join(choices)}.")
    listed = _collection(cohort)
    clinical = _clinical(cohort)
    if not listed and not clinical:
        raise DataError(
            f"{cohort.folder.root}: neither ADNIMERGE.csv nor the table of the image collection (with the column Image "
            f"Data ID) is there; it holds {cohort.folder.describe()}. Put one of them beside the images."
        )
    if not clinical:
        cohort.warn("Without ADNIMERGE.csv the diagnosis is the research group of the collection, whatever the visit.")
    groups = GROUPS | ({"SMC": "CN"} if smc == "CN" else {})
    scans = [scan for scan in _scans(cohort, listed) if _fits(cohort, scan, description)]
    for scan in _one_each(cohort, scans, visits):
        diagnosis = _at(cohort, scan, clinical, visits) if clinical else _from_collection(cohort, scan)
        if diagnosis:
            _add(cohort, scan, diagnosis, groups)


def _collection(cohort: Cohort) -> dict[str, Row]:
    """Rows of the collection's tables, whatever they are called, by image number."""
    rows: dict[str, Row] = {}
    for path in cohort.folder.files("*.csv"):
        header = {cell.strip().casefold() for cell in next(read_lines(path), [])}
        if header & {"image data id", "image id"}:
            for row in read_table(path, COLLECTION, optional=("visit", "age", "sex", "date")):
                rows.setdefault(_plain_id(row["image"]), row)
    return rows


def _plain_id(text: str) -> str:
    return "I" + text.strip().upper().removeprefix("I")


def _clinical(cohort: Cohort) -> dict[str, list[Row]]:
    """Examinations by person."""
    path = find_optional_table(cohort.folder, "ADNIMERGE*")
    rows: defaultdict[str, list[Row]] = defaultdict(list)
    if path:
        for row in read_table(path, CLINICAL, optional=("education", "apoe4", "mmse")):
            rows[row["person"]].append(row)
    return dict(rows)


def _date(text: str) -> date | None:
    for form in DATES:
        try:
            return datetime.strptime(text.strip(), form).date()
        except ValueError:
            continue
    return None


def _scans(cohort: Cohort, listed: dict[str, Row]) -> list[Scan]:
    """All images: NIfTI files, and folders of DICOM files."""
    found = cohort.folder.require("images", "**/*.nii", "**/*.nii.gz", "**/*.dcm")
    series: dict[Path, Path] = {}
    for path in found:
        series.setdefault(path.parent if path.suffix.lower() == ".dcm" else path, path)
    scans = []
    for image, path in series.items():
        scan = _scan(image, path, listed)
        if scan:
            scans.append(scan)
        else:
            cohort.drop("image whose path names no person", path.name)
    return scans


def _scan(image: Path, path: Path, listed: dict[str, Row]) -> Scan | None:
    parts = path.parts
    person = next((part for part in reversed(parts[:-1]) if PERSON.fullmatch(part)), None)
    in_name = PERSON.search(path.name)
    if person is None and in_name is None:
        return None
    number_ = IMAGE_ID.search(path.name)
    folder = path.parent.name
    image_id = number_.group(1) if number_ else folder if re.fullmatch(r"I\d+", folder) else ""
    day = next((match.group() for part in reversed(parts) if (match := DATE.match(part))), "")
    row = listed.get(image_id, {})
    description = parts[parts.index(person) + 1] if person and len(parts) - parts.index(person) > 2 else path.name
    name = person or (in_name.group() if in_name else "")
    return Scan(image, name, image_id, description, _date(day) or _date(row.get("date", "")), row)


def _fits(cohort: Cohort, scan: Scan, description: str) -> bool:
    fits = description.casefold() in f"{scan.description} {scan.path.name}".casefold()
    if not fits:
        cohort.drop("image of another description", scan.path.name)
    return fits


def _one_each(cohort: Cohort, scans: list[Scan], visits: str) -> list[Scan]:
    """The first image of each person, or of each day of a person; the order is that of time, then of the archive."""
    kept: dict[tuple[str, date | None], Scan] = {}
    for scan in sorted(scans, key=lambda scan: (scan.person, scan.taken or date.max)):
        key = (scan.person, scan.taken if visits == "all" else None)
        if kept.setdefault(key, scan) is not scan:
            same_day = kept[key].taken == scan.taken
            cohort.drop("further image of one day" if same_day else "image of a later visit", scan.path.name)
    return list(kept.values())


def _at(cohort: Cohort, scan: Scan, clinical: dict[str, list[Row]], visits: str) -> Diagnosis | None:
    """The examination nearest to an image; the one at baseline if only that is wanted."""
    rows = clinical.get(scan.person)
    if not rows:
        cohort.drop("person who is not in ADNIMERGE", scan.person)
        return None
    first = next((row for row in rows if row["visit"] == "bl"), None)
    wanted = [first] if visits == "baseline" and first else rows
    gaps = [(abs(day - scan.taken), row) for row in wanted if scan.taken and (day := _date(row["date"]))]
    gap, row = min(gaps, key=lambda pair: pair[0], default=(timedelta(0), wanted[0]))
    if gap > NEAR:
        cohort.drop(f"image further than {NEAR.days} days from its examination", scan.path.name)
        return None
    group = row["baseline"] if row["visit"] == "bl" else row["diagnosis"].rpartition(" to ")[2]
    more: Known = {key: number(row[key]) for key in ("education", "apoe4", "mmse")}
    return Diagnosis(group, _age(scan, row, first), row["sex"], more | {"visit": row["visit"]})


def _age(scan: Scan, row: Row, first: Row | None) -> float | None:
    """Age in years when the image was taken: the table has that at baseline."""
    age, start = number(row["age"]), _date(first["date"]) if first else None
    if age is None or start is None or scan.taken is None:
        return age
    return round(age + (scan.taken - start).days / YEAR, 2)


def _from_collection(cohort: Cohort, scan: Scan) -> Diagnosis | None:
    if not scan.listed:
        cohort.drop("image without a row in the table of the collection", scan.path.name)
        return None
    row = scan.listed
    return Diagnosis(row["group"], number(row["age"]), row["sex"], {"visit": row["visit"]})


def _add(cohort: Cohort, scan: Scan, diagnosis: Diagnosis, groups: dict[str, str]) -> None:
    sex = {"m": "male", "f": "female"}.get(diagnosis.sex[:1].casefold(), "")
    more: Known = {
        "age": diagnosis.age,
        "sex": sex,
        "group": diagnosis.group,
        "image_id": scan.image_id,
        **diagnosis.more,
    }
    more["date"] = scan.taken.isoformat() if scan.taken else None
    if cohort.task.kind == "regression":
        label = more.pop("age")
        if label is None:
            cohort.drop("no age", scan.path.name)
            return
    else:
        offered = {name: group for name, group in groups.items() if group in cohort.labels}
        label = cohort.pick(offered, diagnosis.group, scan.path.name)
    if label is not None:
        cohort.add(scan.path, patient=scan.person, label=label, **more)


MIMIC_GROUPS = ("CN", "SMC", "EMCI", "LMCI", "AD", "AD")
MIMIC_TABLES = (
    ("RID", *CLINICAL.values()),
    ("Image Data ID", "Subject", "Group", "Sex", "Age", "Visit", "Modality", "Description", "Type", "Acq Date"),
)


def mimic(folder: Path, seed: int) -> None:
    """Write 13 people with NIfTI or DICOM images; repeats, later visits, and one who is not in ADNIMERGE."""
    rng = generator(seed, "adni")
    clinical, listed = ([list(columns)] for columns in MIMIC_TABLES)
    for index in range(13):
        person, group = f"{2 + index % 3:03d}_S_{295 + index:04d}", MIMIC_GROUPS[index % 6]
        sex, age = ("Male", "Female")[index % 2], 70.5 + index
        later = {"CN": "CN", "SMC": "CN", "EMCI": "MCI"}.get(group, "Dementia")
        for visit, day, diagnosis in (("bl", "2006-04-20", ""), ("m12", "2007-05-02", later)):
            if index != 12:
                row = [295 + index, person, visit, day, group, age, sex, 16, index % 3, 30 - index, diagnosis]
                clinical.append([str(cell) for cell in row])
        days = ["2006-04-18_08_20_30.0"]
        days += ["2006-04-18_08_31_12.0"] * (index == 3) + ["2007-05-04_09_11_00.0"] * (index % 4 == 3)
        for number_, day in enumerate(days):
            image = f"I{13700 + 10 * index + number_}"
            array, _ = head(rng, (14, 16, 10), kind=index)
            _write(folder / "ADNI" / person / "MP-RAGE" / day / image, array, person, image, dicom=index % 6 == 4)
            taken, phase = ("4/18/2006", "sc") if day < "2007" else ("5/04/2007", "m12")
            row = [image, person, group, sex[0], round(age), phase, "MRI", "MP-RAGE", "Original", taken]
            listed.append([str(cell) for cell in row])
    write_table(folder / "ADNIMERGE.csv", clinical)
    write_table(folder / "ADNI1_Screening_10_20_2021.csv", listed)


def _write(folder: Path, array: np.ndarray, person: str, image: str, *, dicom: bool) -> None:
    from medresnet3d.data.phantoms.dicom import write_dicom_series

    affine = np.diag([1.2, 1.2, 1.2, 1.0])
    if dicom:
        write_dicom_series(folder, array, affine, patient_id=person, study=image, header={"Modality": "MR"})
    else:
        save_nifti(array, affine, folder / f"ADNI_{person}_MR_MP-RAGE__br_raw_2006_1_S13408_{image}.nii")
