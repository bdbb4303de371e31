from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from medresnet3d.data.preparation.folders import Folder
from medresnet3d.data.preparation.mimics import write_table
from medresnet3d.data.preparation.tables import (
    find_optional_table,
    find_table,
    level,
    number,
    one_hot,
    read_lines,
    read_table,
)
from medresnet3d.errors import DataError

COLUMNS = {"image": "Image name", "grade": ("Retinopathy grade", "level")}


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_any_separator(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(separator.join(["Image name", "Retinopathy grade"]) + "\n" + separator.join(["a", "1"]) + "\n")
    assert read_table(path, COLUMNS) == [{"image": "a", "grade": "1"}]


def test_names_of_columns_vary_in_case_spaces_and_underscores(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("image_name ,LEVEL, ,\n x.jpg , 2 ,,\n,,,\n")
    assert read_table(path, COLUMNS) == [{"image": "x.jpg", "grade": "2"}]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("Image name,level\ncafé,2\n".encode(encoding))
    assert read_table(path, COLUMNS) == [{"image": "café", "grade": "2"}]


def test_line_breaks_within_quotes(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('Image name,level\r\n"a/1.dcm\n",3\r\n')
    assert read_table(path, COLUMNS) == [{"image": "a/1.dcm", "grade": "3"}]


def test_a_table_without_header(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,1\nb,0\n")
    rows = read_table(path, COLUMNS, header=("Image name", "level"))
    assert [row["image"] for row in rows] == ["a", "b"]


@pytest.mark.parametrize("suffix", [".xls", ".xlsx"])
def test_spreadsheets_give_what_text_gives(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    write_table(path, [("Image name", "Retinopathy grade", "age"), ("a.tif", 2, 61.5), ("b.tif", 0, None)])
    rows = read_table(path, {**COLUMNS, "age": "age"})
    assert rows == [{"image": "a.tif", "grade": "2", "age": "61.5"}, {"image": "b.tif", "grade": "0", "age": ""}]


def test_without_the_extra_the_message_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.xlsx"
    write_table(path, [("Image name", "level")])
    real = builtins.__import__

    def refuse(name: str, *arguments: Any, **more: Any) -> Any:
        if name == "openpyxl" or name.startswith("openpyxl."):
            raise ImportError(name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.setattr("pandas.io.excel._openpyxl.import_optional_dependency", lambda name, **_: refuse(name))
    with pytest.raises(DataError, match=r"pip install medresnet3d\[spreadsheets\]`; or save the table as t\.csv"):
        read_table(path, COLUMNS)


def test_a_damaged_spreadsheet(tmp_path: Path) -> None:
    (tmp_path / "t.xlsx").write_text("no workbook")
    with pytest.raises(DataError, match="is not a readable spreadsheet"):
        read_table(tmp_path / "t.xlsx", COLUMNS)


def test_a_missing_column_names_those_that_are_there(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,level\na,1\n")
    with pytest.raises(DataError, match="the column 'Image name' is missing; its columns are id, level"):
        read_table(path, COLUMNS)
    assert read_table(path, COLUMNS, optional=["image"]) == [{"image": "", "grade": "1"}]


def test_other_columns_are_carried_along_when_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("Image name,level,Age at scan,\na,1,50,\n")
    assert read_table(path, COLUMNS, rest=True) == [{"image": "a", "grade": "1", "Age at scan": "50"}]


def test_text_comes_before_a_spreadsheet_and_a_table_may_lack_its_suffix(tmp_path: Path) -> None:
    (tmp_path / "t.xls").write_text("x")
    assert find_table(Folder(tmp_path, "Toy"), "t").name == "t.xls"
    (tmp_path / "t.csv").write_text("x")
    assert find_table(Folder(tmp_path, "Toy"), "t").name == "t.csv"
    (tmp_path / "HAM10000_metadata").write_text("x")
    assert find_table(Folder(tmp_path, "Toy"), "HAM10000_metadata").name == "HAM10000_metadata"
    with pytest.raises(DataError, match=r"the table u\.csv/\.tsv/\.xlsx/\.xls is missing; it holds HAM10000_metadata"):
        find_table(Folder(tmp_path, "Toy"), "u")


@pytest.mark.parametrize(
    ("text", "value"), [("3", 3), ("3.0", 3), ("3.5", 3.5), ("", None), ("nan", None), ("unknown", None), ("inf", None)]
)
def test_numbers(text: str, value: float | None) -> None:
    assert number(text) == value


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("3.0", 3), ("4", 4), ("5", None), ("-1", None), ("2.5", None)])
def test_levels(text: str, value: int | None) -> None:
    assert level(text, 4) == value


def test_one_hot_needs_exactly_one() -> None:
    names = ("MEL", "NV")
    assert one_hot({"MEL": "1.0", "NV": "0.0"}, names) == "MEL"
    assert one_hot({"MEL": "0", "NV": ""}, names) == ""
    assert one_hot({"MEL": "1", "NV": "1"}, names) == ""


def test_lines_with_a_given_separator(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("\na,b,c\n1|2\n")
    assert list(read_lines(tmp_path / "t.txt", separator="|")) == [["a,b,c"], ["1", "2"]]


def test_an_optional_table(tmp_path: Path) -> None:
    assert find_optional_table(Folder(tmp_path, "Toy"), "t") is None
