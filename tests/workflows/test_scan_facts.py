from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from medresnet3d.io import list_series, load
from medresnet3d.workflows.scan_facts import index_text, series_facts, volume_facts
from tests.io.dicom_maker import Series, stored_values


def test_values_become_plain(tmp_path: Path) -> None:
    tags = {"EchoTime": "12.5", "KVP": "", "EchoTrainLength": "7", "Manufacturer": "ACME", "BodyPartExamined": "CHEST"}
    folder = Series(stored_values(), tags=tags).write(tmp_path)
    found = volume_facts(load(folder), "none")["acquisition"]
    assert (found["EchoTime"], found["EchoTrainLength"], found["Manufacturer"]) == (12.5, 7, "ACME")
    assert found["ImageType"] == ["ORIGINAL", "PRIMARY", "AXIAL"] and "KVP" not in found
    json.dumps(volume_facts(load(folder), "keep"))


def test_a_value_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    volume = load(Series(stored_values(), tags={"KVP": 120}).write(tmp_path))
    header = volume.source.datasets[0]
    broken = RawDataElement(Tag("DiffusionBValue"), "FD", 3, b"abc", 0, False, True)
    torn = Dataset({element.tag: element for element in header} | {broken.tag: broken})
    found = volume_facts(replace(volume, source=replace(volume.source, datasets=(torn,))), "keep")["acquisition"]
    assert "DiffusionBValue" not in found and found["KVP"] == 120


def test_what_a_series_is(tmp_path: Path) -> None:
    (info,) = list_series(Series(stored_values((7, 6, 1)), tags={"Modality": "MR"}).write(tmp_path))
    facts = series_facts(info)
    assert facts == {"description": "phantom", "modality": "MR", "shape": [7, 6, 1], "note": "a single image"}


def test_text_is_json_with_a_line_for_each_fact() -> None:
    rows: list[dict[str, object]] = [
        {"id": "4", "shape": [1, 2, 3], "description": "Schädel"},
        {"id": "5", "file": None},
    ]
    text = index_text(rows)
    assert json.loads(text) == {"series": rows}
    assert '   "shape": [1, 2, 3],\n' in text and "Schädel" in text
    assert json.loads(index_text([])) == {"series": []}


def test_a_dataset_like_value(tmp_path: Path) -> None:
    def change(ds: Dataset, k: int) -> None:
        ds.PatientName = "Doe^Jane"

    found = volume_facts(load(Series(stored_values(), change=change).write(tmp_path)), "keep")
    assert found["identity"]["PatientName"] == "Doe^Jane"
