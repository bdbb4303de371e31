from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medresnet3d.data.manifest import items, load_manifest, manifest_path, read_raw_manifest
from medresnet3d.data.manifest_table import ManifestTable, head_path, write_manifest_table
from medresnet3d.errors import DataError


def table(folder: Path, text: str, name: str = "t.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def rows(path: Path) -> list[tuple[str, int, dict[str, Any]]]:
    return [(row.section, row.line, row.entry) for row in ManifestTable(path).rows()]


def test_rows_become_entries(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        "image;label;patient;split;fold;age\na.png;benign;7;train;0;50\n\n"
        '"b\n.png";malignant;;val;1;\nc.png;benign;9;test;x;1\n',
    )
    assert rows(path) == [
        ("training", 2, {"image": "a.png", "label": "benign", "patient": "7", "fold": 0, "age": "50"}),
        ("validation", 5, {"image": "b\n.png", "label": "malignant", "patient": "", "fold": 1}),
        ("test", 6, {"image": "c.png", "label": "benign", "patient": "9", "fold": "x", "age": "1"}),
    ]
    read = ManifestTable(path)
    assert (read.head["name"], read.head["task"], read.names) == ("t", "classification", ("benign", "malignant"))
    assert len(read) == 3 and [row.plain for row in read.rows()] == [True, True, False]


@pytest.mark.parametrize(
    ("text", "task", "names"),
    [
        ("image\na\n", "conversion", ()),
        ("image,mask\na,b\n", "segmentation", ()),
        ("image,label\na,1\nb,10\nc,2\n", "classification", ("1", "2", "10")),
        ("image,label\na,1\nb,2.5\n", "regression", ()),
        ('image,boxes,label\na,"[[1,2,3,4]]","[""x""]"\n', "detection", ()),
    ],
)
def test_the_task_is_deduced(tmp_path: Path, text: str, task: str, names: tuple[str, ...]) -> None:
    read = ManifestTable(table(tmp_path, text))
    assert (read.head["task"], read.names) == (task, names)


def test_boxes_to_ignore_are_read_as_boxes_are(tmp_path: Path) -> None:
    path = table(tmp_path, 'image,boxes,excluded_boxes\na,"[[1,2,3,4]]","[[5,6,7,8]]"\nb,[],\n')
    assert [entry for _, _, entry in rows(path)] == [
        {"image": "a", "boxes": [[1, 2, 3, 4]], "excluded_boxes": [[5, 6, 7, 8]]},
        {"image": "b", "boxes": []},
    ]


def test_cells_that_are_no_text(tmp_path: Path) -> None:
    path = table(tmp_path, 'image,position\n"[""a.nii"", ""b.nii""]","1 2.5 -3"\nc.nii,"[1, 2, 3]"\nd.nii,1 2\n')
    assert [entry for _, _, entry in rows(path)] == [
        {"image": ["a.nii", "b.nii"], "position": [1, 2.5, -3]},
        {"image": "c.nii", "position": [1, 2, 3]},
        {"image": "d.nii", "position": "1 2"},
    ]
    assert [row.plain for row in ManifestTable(path).rows()] == [False, True, False]


MANIFESTS: list[dict[str, Any]] = [
    {
        "name": "scans",
        "task": "segmentation",
        "labels": {"0": "background", "1": "organ"},
        "root": "files",
        "training": [{"image": ["t1.nii", "t2.nii"], "mask": "m.nii", "patient": "a", "fold": 3, "site": "x, y"}],
        "test": [{"image": "b.nii", "mask": "n.nii", "patient": "b", "note": 'said "no"\nand left'}],
    },
    {
        "name": "points",
        "task": "regression",
        "validation": [{"image": "a.nii", "label": 2.5, "patient": "a", "position": [1.5, 2, 3]}],
    },
    {
        "name": "classes",
        "task": "classification",
        "labels": ["0", "one"],
        "training": [{"image": "a", "label": "0", "patient": ""}, {"image": "b", "label": 1, "patient": "é"}],
    },
    {
        "name": "cells",
        "task": "detection",
        "labels": ["x"],
        "test": [{"image": "a", "boxes": [[0, 1, 2, 3]], "label": ["x"], "patient": "1"}],
    },
]


@pytest.mark.parametrize("raw", MANIFESTS, ids=lambda raw: raw["task"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_manifest_comes_back_from_its_table(tmp_path: Path, raw: dict[str, Any], suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    write_manifest_table(path, raw)
    again, _ = read_raw_manifest(path)
    assert again == raw
    (tmp_path / "m.json").write_text(json.dumps(raw))
    assert load_manifest(path).sections == load_manifest(tmp_path / "m.json").sections


def test_a_table_can_be_trained_on(tmp_path: Path) -> None:
    for name in "abcd":
        (tmp_path / f"{name}.png").write_bytes(b"x")
    table(tmp_path, "image,label,patient\n" + "".join(f"{n}.png,{n < 'c'},{n}\n" for n in "abcd"), "manifest.csv")
    assert manifest_path(tmp_path) == tmp_path / "manifest.csv"
    chosen = [items(tmp_path, part, validation_fraction=0.5) for part in ("training", "validation")]
    assert sorted(item["label"] for part in chosen for item in part) == [0, 0, 1, 1]
    assert all(Path(item["image"]).is_file() for part in chosen for item in part)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,label\na,b\n", "no column `image`; its columns are file, label"),
        ("imag,label\na,b\n", "rename `imag` to `image`"),
        ("image,lable\na,b\n", "the key `lable` is unknown; rename it to `label`"),
        ("image,a,a\n1,2,3\n", "two columns are called 'a'"),
        ("", "no column `image`; its columns are none"),
        ("image,label\n" + "".join(f"{i},class{i}\n" for i in range(1100)), "more than 1000 different values"),
    ],
)
def test_tables_that_cannot_be_meant(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=r"t\.csv: .*") as caught:
        ManifestTable(table(tmp_path, text))
    assert words in str(caught.value)


def test_a_section_that_is_none(tmp_path: Path) -> None:
    path = table(tmp_path, "image,split\na,trian\nb,3\n")
    faults = [row.fault for row in ManifestTable(path).rows()]
    assert faults[0] == "`split` is 'trian'; did you mean 'train'?" and "`fold` for numbers" in faults[1]
    with pytest.raises(DataError, match=r"t\.csv: line 2: `split` is 'trian'"):
        read_raw_manifest(path)


def test_files_that_are_no_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such manifest"):
        ManifestTable(tmp_path / "lost.csv")
    (tmp_path / "l.csv").write_bytes("image,label\na,ö\n".encode("latin-1"))
    with pytest.raises(DataError, match="is not UTF-8 text"):
        ManifestTable(tmp_path / "l.csv")
    path = table(tmp_path, "image\na\n")
    for content, words in (("{", "cannot be read"), ("[]", "is an object")):
        head_path(path).write_text(content)
        with pytest.raises(DataError, match=rf"t\.head\.json: .*{words}"):
            ManifestTable(path)
