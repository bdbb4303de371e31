from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest

from medresnet3d.errors import DataError
from tests.data.collections.trap import Result, paint, write

VERSION = "GNDVERSION2.0 (INCLUDES NOTES AT THE END OF THE FILE)\n"


def photograph(root: Path, name: str) -> None:
    paint(root / f"({name}).jpg", [[[9, 9, 9]] * 3, [[90, 90, 90]] * 3])
    paint(root / f"({name})_vess.png", [[0, 255, 0]])


def blobs(root: Path, name: str, values: list[int], width: int = 3, height: int = 2) -> None:
    content = struct.pack(f"<{3 + len(values)}i", 0, width, height, *values)
    write(root / f"({name}).map.gz", gzip.compress(content))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "DMED"
    photograph(root, "00000052")
    write(root / "(00000052).GND", VERSION + "3\nMicroAneurysm 1\nExudate 1\nExudate 2\n0\n0\n1\n(none)\n")
    blobs(root, "00000052", [0, 1, 2, 3, 0, 2])
    write(root / "(00000052).meta", "~ImageName~(00000052)\n~PatientGender~M\n~QualityValue~0.75\n")
    photograph(root, "00000053")
    return root


def test_values_of_the_map_are_lines_of_the_list_row_by_row(root: Path) -> None:
    result = Result("hei_med", root, task="exudates")
    assert result.mask("(00000052).jpg").tolist() == [[0, 0, 1], [1, 0, 1]]


def test_without_version_line_the_count_comes_first(root: Path) -> None:
    photograph(root, "00000054")
    write(root / "(00000054).GND", "1\nExudate 1\n0\n0\n1\n")
    blobs(root, "00000054", [1, 0, 0, 0, 0, 0])
    assert Result("hei_med", root, task="exudates").mask("(00000054).jpg").tolist() == [[1, 0, 0], [0, 0, 0]]


def test_neither_list_nor_map_means_healthy(root: Path) -> None:
    assert Result("hei_med", root).values("label") == {
        "(00000052).jpg": "exudate",
        "(00000053).jpg": "no exudate",
    }
    assert not Result("hei_med", root, task="exudates").mask("(00000053).jpg").any()


def test_exudates_without_a_map_are_a_class_but_no_mask(root: Path) -> None:
    (root / "(00000052).map.gz").unlink()
    assert Result("hei_med", root).values("label")["(00000052).jpg"] == "exudate"
    assert Result("hei_med", root, task="exudates").dropped == {"mask file missing": 1}


def test_other_lesions_are_no_exudates(root: Path) -> None:
    write(root / "(00000052).GND", "1\nMicroAneurysm 1\n0\n0\n1\n")
    assert Result("hei_med", root).values("label")["(00000052).jpg"] == "no exudate"


def test_a_cut_map_is_told(root: Path) -> None:
    blobs(root, "00000052", [0, 1, 2])
    with pytest.raises(DataError, match="holds 3 pixels instead of 3 x 2"):
        Result("hei_med", root, task="exudates")


def test_what_is_known_of_the_patient(root: Path) -> None:
    entry = Result("hei_med", root).by_name()["(00000052).jpg"]
    assert (entry["patient"], entry["sex"], entry["quality"]) == ("00000052", "M", 0.75)
