from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from medresnet3d.data.preparation.radiographs import write_mammogram
from medresnet3d.io import load, require_same_grid
from tests.data.collections.trap import Result, write

HEADER = "Patient ID;Patient age;Laterality;View;Acquisition date;File Name;ACR;Bi-Rads\n"
PLIST = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple Computer//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict><key>Images</key><array><dict><key>ImageIndex</key><integer>0</integer>
<key>NumberOfROIs</key><integer>2</integer><key>ROIs</key><array>
<dict><key>Area</key><real>1.5</real><key>Name</key><string>Assymetry</string><key>NumberOfPoints</key><integer>4</integer>
<key>Point_px</key><array><string>(1.0, 2.0)</string><string>(4.0, 2.0)</string><string>(4.0, 7.0)</string>
<string>(1.0, 7.0)</string></array></dict>
<dict><key>Name</key><string>Calcifications</string><key>NumberOfPoints</key><integer>1</integer>
<key>Point_px</key><array><string>(3.000000, 5.000000)</string></array></dict>
<dict><key>Name</key><string>Scar</string><key>Point_px</key><array><string>(1, 1)</string></array></dict>
</array></dict></array></dict></plist>
"""
FILMS = (
    ("20586908", "6c613a14b80a8591", "R"),
    ("20586934", "6c613a14b80a8591", "L"),
    ("22580732", "24065f761fa3bf51", "R"),
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "INbreast Release 1.0"
    film = np.arange(10 * 6, dtype=np.uint16).reshape(10, 6)
    for name, woman, side in FILMS:
        write_mammogram(root / "AllDICOMs" / f"{name}_{woman}_MG_{side}_CC_ANON.dcm", film)
    rows = "removed;removed;R;CC;201001;20586908;4;2\nremoved;removed;L;CC;201001;20586934;     ;4c\n"
    write(root / "INbreast.csv", HEADER + rows + "removed;removed;R;CC;201001;22580732;1;3\n;;;;;;;\n")
    write(root / "AllXML" / "20586908.xml", PLIST)
    return root


def test_women_are_told_by_the_file_names(root: Path) -> None:
    women = [entry["patient"] for entry in Result("inbreast", root, task="findings").entries()]
    assert women == ["6c613a14b80a8591", "6c613a14b80a8591", "24065f761fa3bf51"]


def test_birads_has_letters_and_three_is_dropped(root: Path) -> None:
    result = Result("inbreast", root)
    assert [entry["label"] for entry in result.entries()] == ["benign", "malignant"]
    assert [entry["birads"] for entry in result.entries()] == ["2", "4c"]
    assert result.dropped == {"BI-RADS 3": 1}


def test_a_blank_density_is_padded_with_spaces(root: Path) -> None:
    result = Result("inbreast", root, task="density")
    assert [entry["label"] for entry in result.entries()] == ["4", "1"]
    assert result.dropped == {"no ACR": 1}


def test_points_are_column_before_row_and_lie_on_the_mammogram(root: Path) -> None:
    result = Result("inbreast", root, task="findings")
    entry = result.entries()[0]
    image, mask = load(result.file(entry["image"])), load(result.file(entry["mask"]), constant_ok=True)
    require_same_grid(image, mask)
    rows = np.asarray(nibabel.nifti1.Nifti1Image.from_filename(result.file(entry["mask"])).dataobj)[..., 0].T
    names = result.raw["labels"]
    assert rows.shape == (10, 6)
    assert names[rows[4, 2]] == "asymmetry" and names[rows[5, 3]] == "calcification"
    assert rows[2:8, 1:5].all() and not rows[:2].any() and not rows[8:].any() and not rows[:, 5].any()


def test_no_outlines_mean_no_finding(root: Path) -> None:
    result = Result("inbreast", root, task="findings")
    assert not load(result.file(result.entries()[1]["mask"]), constant_ok=True).array.any()


def test_outlines_with_other_names_are_counted(root: Path) -> None:
    assert Result("inbreast", root, task="findings").dropped["outline named 'Scar'"] == 1
