from __future__ import annotations

from pathlib import Path

import pytest

from medresnet3d.data.preparation.folders import Folder, Pictures
from medresnet3d.errors import DataError


def make(root: Path, *names: str) -> Folder:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    return Folder(root, "Toy")


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_the_tail_of_a_path_is_what_counts(tmp_path: Path) -> None:
    folder = make(tmp_path / "top" / "Release 1.0", "AllXML/1.XML", "AllXML/deep/2.xml", "Other/3.xml")
    assert names(folder.files("AllXML/*.xml")) == ["1.XML"]
    assert names(folder.files("allxml/**/*.xml")) == ["1.XML", "2.xml"]
    assert names(Folder(tmp_path, "Toy").files("AllXML/*.xml")) == ["1.XML"]
    assert names(Folder(tmp_path / "top" / "Release 1.0" / "AllXML", "Toy").files("AllXML/*.xml")) == ["1.XML"]


def test_wild_cards_stay_within_one_name(tmp_path: Path) -> None:
    folder = make(tmp_path, "a/b.c/(1).jpg", "a/1.jpg", "a/2.jpg", "a/12.jpg", "a/x1.jpgx")
    assert names(folder.files("a/*.jpg")) == ["1.jpg", "2.jpg", "12.jpg"]
    assert names(folder.files("a/[12].jpg")) == ["1.jpg", "2.jpg"]
    assert names(folder.files("?.jpg")) == ["1.jpg", "2.jpg"]
    assert names(folder.files("b.c/(*).jpg")) == ["(1).jpg"]
    assert folder.files("bxc/*.jpg") == []


def test_leftovers_of_systems_are_never_seen(tmp_path: Path) -> None:
    folder = make(tmp_path, "a/Thumbs.db", "a/._1.jpg", "__MACOSX/a/1.jpg", ".git/1.jpg", "a/desktop.ini", "a/1.jpg")
    assert names(folder.files("*")) == ["1.jpg"]


def test_order_is_natural(tmp_path: Path) -> None:
    assert names(make(tmp_path, "10.png", "9.png", "1.png").files("*.png")) == ["1.png", "9.png", "10.png"]


def test_links_to_folders_are_followed_and_loops_end(tmp_path: Path) -> None:
    make(tmp_path / "disk", "images/1.png")
    root = tmp_path / "root"
    root.mkdir()
    (root / "images").symlink_to(tmp_path / "disk" / "images")
    (root / "again").symlink_to(root)
    assert names(Folder(root, "Toy").files("*.png")) == ["1.png"]


def test_the_first_pattern_that_fits_wins_and_the_least_deep_file(tmp_path: Path) -> None:
    folder = make(tmp_path, "copy/t.csv", "t.csv", "t.xls")
    assert folder.file("t.xlsx", "t.csv", "t.xls") == (tmp_path / "t.csv").resolve()
    assert folder.file("u.csv") is None


def test_what_is_missing_is_told_with_what_is_there(tmp_path: Path) -> None:
    folder = make(tmp_path, "notes.txt", "scans/1.dcm", "scans/2.dcm")
    with pytest.raises(DataError) as caught:
        folder.require("photographs", "*.jpg", "*.png")
    assert str(caught.value) == (
        f"{tmp_path}: holds no photographs (looked for *.jpg or *.png); it holds notes.txt, scans/ "
        "(files below: 2 .dcm, 1 .txt). Give the folder that Toy was unpacked to."
    )


def test_an_archive_is_to_be_unpacked_and_a_single_file_may_be_given(tmp_path: Path) -> None:
    make(tmp_path, "toy.zip", "toy.npz")
    with pytest.raises(DataError, match=r"toy\.zip: is a file; unpack it and give the folder"):
        Folder(tmp_path / "toy.zip", "Toy")
    assert Folder(tmp_path / "toy.npz", "Toy").given == tmp_path / "toy.npz"


def test_pictures_are_found_without_case_and_know_who_was_not_asked_for(tmp_path: Path) -> None:
    pictures = Pictures([tmp_path / "A.JPG", tmp_path / "b.png", tmp_path / "copy" / "a.jpg"])
    assert pictures["a "] == tmp_path / "A.JPG"
    assert pictures.get("c") is None
    assert len(pictures) == 2
    assert pictures.unused() == [tmp_path / "b.png"]
