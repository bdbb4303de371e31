from __future__ import annotations

from pathlib import Path

from tests.data.collections.trap import Result, paint


def test_the_hidden_picture_is_not_read(tmp_path: Path) -> None:
    root = tmp_path / "PBC_dataset_normal_DIB"
    paint(root / "neutrophil" / ".DS_169665.jpg")
    paint(root / "neutrophil" / "SNE_1.JPG")
    paint(root / "ig" / "MY_1.jpg")
    assert sorted(Result("pbc", root).by_name()) == ["MY_1.jpg", "SNE_1.JPG"]


def test_file_names_tell_sub_types(tmp_path: Path) -> None:
    root = tmp_path / "PBC_dataset_normal_DIB"
    for name in (
        "ig/MY_1",
        "ig/MMY_2",
        "ig/PMY_3",
        "ig/IG_4",
        "neutrophil/SNE_5",
        "neutrophil/BNE_6",
        "platelet/PLATELET_7",
    ):
        paint(root / f"{name}.jpg")
    paint(root / "neutrophil" / "NEUTROPHIL_8.jpg")
    result = Result("pbc", root, task="subtype")
    assert result.values("label") == {
        "MY_1.jpg": "myelocyte",
        "MMY_2.jpg": "metamyelocyte",
        "PMY_3.jpg": "promyelocyte",
        "SNE_5.jpg": "segmented neutrophil",
        "BNE_6.jpg": "band neutrophil",
        "PLATELET_7.jpg": "platelet",
    }
    assert result.dropped == {"sub-type not told": 2}
    assert Result("pbc", root).values("subtype")["IG_4.jpg"] == "IG"
