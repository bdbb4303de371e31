from __future__ import annotations

import os
from pathlib import Path

import pytest

from medresnet3d.data.cache.files import identities, item_files


def write(path: Path, text: str = "a") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_files_are_found_however_deep(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one.nii"), write(tmp_path / "two.nii")
    item = {"image": [str(one), {"more": two}], "label": 3, "case": "no file", "missing": str(tmp_path / "three")}
    assert item_files(item) == [str(one), str(two)]


def test_size_and_time_of_change_count(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii")
    before = identities({"image": str(path)})
    assert identities({"image": str(path)}) == before
    facts = path.stat()
    write(path, "b")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
    assert identities({"image": str(path)}) != before


def test_content_counts_where_size_and_time_are_the_same(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii")
    facts = path.stat()
    by_content = identities({"image": str(path)}, by="content")
    os.utime(path, ns=(0, 0))
    assert identities({"image": str(path)}, by="content") == by_content
    replacement = write(tmp_path / "b.nii", "b")
    os.utime(replacement, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    replacement.replace(path)
    assert identities({"image": str(path)}, by="content") != by_content


@pytest.mark.parametrize(
    ("header", "companion", "text"),
    [
        ("a.mhd", "a.raw", "NDims = 3"),
        ("a.mhd", "voxels.bin", "ElementDataFile = voxels.bin"),
        ("a.nhdr", "b.raw.gz", "data file: b.raw.gz"),
        ("a.hdr", "a.img", ""),
        ("a.img", "a.hdr", ""),
    ],
)
def test_companions_of_headers_count(tmp_path: Path, header: str, companion: str, text: str) -> None:
    path, other = write(tmp_path / header, text), write(tmp_path / companion)
    before = identities({"image": str(path)})
    write(other, "longer")
    assert identities({"image": str(path)}) != before


def test_every_file_of_a_folder_counts(tmp_path: Path) -> None:
    write(tmp_path / "series" / "1.dcm")
    before = identities({"image": str(tmp_path / "series")})
    write(tmp_path / "series" / "deeper" / "2.dcm")
    assert identities({"image": str(tmp_path / "series")}) != before
