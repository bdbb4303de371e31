from __future__ import annotations

from pathlib import Path

import pytest

from medresnet3d.data.preparation.mimics import write_table
from tests.data.collections.trap import Result, paint, write

HEAD = (
    "||   Name || Histological Diagnosis || Clinical Diagnosis || Asymmetry | Pigment Network | Dots/Globules | "
    "Streaks | Regression Areas | Blue-Whitish Veil ||           Colors ||\n"
)
TAIL = (
    " ||         0 |               T |             A |       A |                A |                 A || 4       ||\n"
)
LEGEND = "\nLegends:\n\nClinical Diagnosis:\n 0 - Common Nevus; 1 - Atypical Nevus; 2 - Melanoma.\n|| IMD ||\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("IMD003", "IMD058", "IMD063"):
        case = tmp_path / "PH2Dataset" / "PH2 Dataset images" / name
        paint(case / f"{name}_Dermoscopic_Image" / f"{name}.bmp", [[[9, 9, 9], [90, 80, 70]]])
        paint(case / f"{name}_lesion" / f"{name}_lesion.bmp", [[0, 255]])
        paint(case / f"{name}_roi" / f"{name}_R1_Label3.bmp", [[255, 0]])
    return tmp_path / "PH2Dataset"


def test_text_table_has_two_separators_and_a_legend(root: Path) -> None:
    rows = (
        f"|| IMD003 ||                        ||                  0{TAIL}"
        f"|| IMD058 || Melanoma               ||                  2{TAIL}"
        f"|| IMD063 ||                        ||                  1{TAIL}"
    )
    write(root / "PH2_dataset.txt", HEAD + rows + LEGEND)
    expected = {"IMD003.bmp": "common nevus", "IMD058.bmp": "melanoma", "IMD063.bmp": "atypical nevus"}
    assert Result("ph2", root).values("label") == expected
    assert Result("ph2", root, task="lesion").mask("IMD058.bmp").tolist() == [[0, 1]]


def test_spreadsheet_marks_the_diagnosis_with_a_cross(root: Path) -> None:
    rows: list[tuple[object, ...]] = [
        ("PH2 Dataset",),
        ("Image Name", "Histological Diagnosis", "Common Nevus", "Atypical Nevus", "Melanoma", "Asymmetry"),
        ("IMD003", None, "X", None, None, 0),
        ("IMD058", "Melanoma", None, None, "X", 2),
        ("IMD063", None, None, "X", None, 1),
    ]
    write_table(root / "PH2_dataset.xlsx", rows)
    labels = Result("ph2", root).values("label")
    assert labels == {"IMD003.bmp": "common nevus", "IMD058.bmp": "melanoma", "IMD063.bmp": "atypical nevus"}
