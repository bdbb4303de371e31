"""A table is checked like the JSON manifest that says the same, without ever being in memory as a whole."""

from __future__ import annotations

import csv
import gc
import tracemalloc
from pathlib import Path

import pytest

from medresnet3d.data import check_manifest
from medresnet3d.data.checking.cohort import examine
from medresnet3d.data.manifest_table import write_manifest_table
from tests.data.checking.cohorts import Cohort, all_of, changed, copied, pictures, scans


def as_table(cohort: Cohort) -> Path:
    path = cohort.file("table.csv")
    write_manifest_table(path, cohort.raw)
    return path


def said(path: Path) -> list[tuple[str, str, str]]:
    """Findings, with entries of the training under the same number in a table and in JSON."""
    findings = check_manifest(path, deep=True)
    with path.open() as handle:
        lines = {f"line {number}": f"entry {number - 1}" for number, _ in enumerate(csv.reader(handle), 1)}
    texts = [(one.level, one.kind, f"{one.where}: {one.text}".replace("(line ", "(entry ")) for one in findings]
    if path.suffix == ".csv":
        for line in sorted(lines, key=len, reverse=True):
            texts = [(level, kind, text.replace(f"{line} of", f"{lines[line]} of")) for level, kind, text in texts]
    return sorted(texts)


PLANTS = {
    "nothing": changed(1),
    "a lost file": changed(2, image="lost.png"),
    "a copy": copied("p2.png", "p3.png"),
    "no such class": changed(4, label="c"),
    "a class that nobody has": lambda cohort: cohort.write({**cohort.raw, "labels": ["a", "b", "c"]}),
    "no label": changed(4, label=None),
    "no patient": changed(4, patient=""),
}


@pytest.mark.parametrize("name", PLANTS)
def test_a_table_is_found_to_be_as_sound_as_the_json(tmp_path: Path, name: str) -> None:
    cohort = pictures(tmp_path)
    PLANTS[name](cohort)
    table = as_table(cohort)
    stops = name in ("no such class", "no label")  # in JSON, files are then not looked at
    if stops:
        assert len(said(cohort.path)) == 1 and set(said(cohort.path)) <= set(said(table))
    else:
        assert said(cohort.path) == said(table)


def test_segmentations_too(tmp_path: Path) -> None:
    cohort = scans(tmp_path)
    all_of(changed(2, mask="lost.nii.gz"), copied("s4.nii.gz", "s5.nii.gz"))(cohort)
    table = as_table(cohort)
    assert len(said(table)) == 2 and said(cohort.path) == said(table)


def test_patients_on_both_sides(tmp_path: Path) -> None:
    cohort = pictures(tmp_path)
    cohort.change(3, patient="patient1", fold=None)
    cohort.change(6, patient="patient5")
    cohort.move(3, "test")
    texts = {(one.place, one.text) for one in check_manifest(as_table(cohort)) if one.kind == "leakage"}
    assert texts == {
        (
            "line 13 of `test`",
            "patient 'patient1' is already in `training` (line 2); a patient may be in one section only.",
        ),
        (
            "line 6 of `training`",
            "patient 'patient5' is in fold 0 here and in fold 2 in line 5; a patient may be in one fold only.",
        ),
    }


def test_rows_that_cannot_be_read(tmp_path: Path) -> None:
    cohort = pictures(tmp_path)
    table = tmp_path / "t.csv"
    rows = "".join(f"p{number}.png,{'ab'[number % 2]},{number},train,0\n" for number in range(1, 9))
    table.write_text(f"image,label,patient,split,fold\n{rows}p9.png,a,9,trian,0\np10.png,a,10,train,x\n,a,11,train,0\n")
    findings = check_manifest(table)
    assert cohort.path.is_file()
    assert [(one.kind, one.where, one.text) for one in findings] == [
        ("schema", "line 10 of `training` (p9.png)", "`split` is 'trian'; did you mean 'train'?"),
        ("schema", "line 11 of `training` (p10.png)", '`fold` is "x" but must be a whole number.'),
        ("schema", "line 12 of `training`", "has no `image`; add it."),
    ]


def test_a_table_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image,label\n")
    (finding,) = check_manifest(tmp_path / "t.csv")
    assert finding.kind == "empty" and "add at least one row" in finding.text
    (tmp_path / "t.head.json").write_text('{"task": "magic"}')
    assert '`task` is "magic"' in check_manifest(tmp_path / "t.csv")[0].text


def long_table(folder: Path, rows: int) -> Path:
    """Points of a few scans, and as many lost files."""
    path = folder / f"{rows}.csv"
    with path.open("w") as handle:
        handle.write("image,label,patient,fold,position\n")
        for row in range(rows // 2):
            handle.write(f"s{row % 12 + 1}.nii.gz,{'ab'[row % 2]},p{row % 12},{row % 3},{row} 2 3\n")
            handle.write(f"lost{row}.nii.gz,{'ab'[row % 2]},lost{row},{row % 3},1 2 3\n")
    return path


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    scans(tmp_path)
    peaks = []
    for rows in (500, 500, 4000):  # the first run loads libraries
        path = long_table(tmp_path, rows)
        gc.collect()
        tracemalloc.start()
        with examine(path, workers=2) as cohort:
            assert cohort.sections["training"]["entries"] == rows
            assert cohort.ledger.finding_counts()["error", "file"] == rows // 2
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] - peaks[1] < 0.4 * 2**20, peaks  # 3500 entries as dictionaries would take several MiB
