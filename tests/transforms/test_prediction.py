from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from medresnet3d.transforms.prediction import SavePredictiond


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


@pytest.mark.parametrize("labels", [["vessel", "nodule"], {"1": "nodule", "0": "vessel"}])
def test_classification_rows(tmp_path: Path, labels: object) -> None:
    save = SavePredictiond("pred", tmp_path / "out", labels)  # type: ignore[arg-type]
    item = {"case": "a", "path": "/data/a, b.nii.gz", "pred": torch.tensor([0.25, 0.75])}
    assert save(item)["pred"] is item["pred"]
    save({"case": "c", "pred": torch.tensor([0.9, 0.1])})
    assert rows(tmp_path / "out") == [
        {
            "case": "a",
            "path": "/data/a, b.nii.gz",
            "label": "nodule",
            "probability_vessel": "0.250000",
            "probability_nodule": "0.750000",
        },
        {
            "case": "c",
            "path": "",
            "label": "vessel",
            "probability_vessel": "0.900000",
            "probability_nodule": "0.100000",
        },
    ]


def test_regression_rows(tmp_path: Path) -> None:
    SavePredictiond("pred", tmp_path)({"case": "a", "pred": torch.tensor([61.5])})
    assert rows(tmp_path) == [{"case": "a", "path": "", "value": "61.5"}]


def test_a_new_run_starts_the_table_anew(tmp_path: Path) -> None:
    for case in ("old", "new"):
        SavePredictiond("pred", tmp_path, ["no", "yes"])({"case": case, "pred": torch.tensor([0.5, 0.5])})
    assert [row["case"] for row in rows(tmp_path)] == ["new"]


def test_details_follow_in_columns_of_their_own(tmp_path: Path) -> None:
    save = SavePredictiond("pred", tmp_path, ["no", "yes"])
    for case, score in (("a", 0.25), ("b", 0.75)):
        screening = {"score": score, "from_grade": 1}
        save({"case": case, "pred": torch.tensor([1 - score, score]), "details": {"screening": screening}})
    save({"case": "c", "pred": torch.tensor([0.5, 0.5])})
    found = rows(tmp_path)
    assert [row["details_screening_score"] for row in found] == ["0.25", "0.75", ""]
    assert [row["details_screening_from_grade"] for row in found] == ["1", "1", ""]
