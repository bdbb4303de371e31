from __future__ import annotations

from pathlib import Path

from tests.data.collections.trap import Result, paint, write


def test_the_table_has_no_header_and_the_first_row_counts(tmp_path: Path) -> None:
    root = tmp_path / "ICIAR2018_BACH_Challenge"
    for name, file in (("Normal", "n001"), ("InSitu", "is001"), ("Invasive", "iv001")):
        paint(root / "Photos" / name / f"{file}.tif")
    paint(root / "WSI" / "thumbnails" / "A01.png")
    write(root / "Photos" / "microscopy_ground_truth.csv", "n001.tif,Normal\nis001.tif,InSitu\nb001.tif,Benign\n")
    result = Result("bach", root)
    assert result.values("label") == {"n001.tif": "Normal", "is001.tif": "InSitu"}
    assert result.dropped == {"image file missing": 1, "image without a row in the table": 1}
    assert result.raw["group_kind"] == "image" and "every image is a group of its own" in result.warnings[0]
    carcinoma = Result("bach", root, task="carcinoma").values("label")
    assert carcinoma == {"n001.tif": "no carcinoma", "is001.tif": "carcinoma"}
