from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from medresnet3d.reports.cohort import MOST_CLASSES, CohortPage, FindingRow, cohort_report
from medresnet3d.reports.cohort_figures import Spread

SPREAD = {"min": 1.0, "p05": 2.0, "median": 3.0, "p95": 4.0, "max": 5.0}


def content(**changes: Any) -> dict[str, Any]:
    return {
        "name": "toy",
        "task": "classification",
        "deep": True,
        "sections": {"training": {"entries": 7, "patients": 0, "classes": {"a": 3, "b": 4}}},
        "images": [],
        "masks": [],
        **changes,
    }


def written(folder: Path, page: CohortPage) -> str:
    html = cohort_report(folder / "report.html", page, {"data set": "toy", "command": "check it"}).read_text()
    return re.sub(r"\s+", " ", re.sub(r"<(script|style).*?</\\1>|<[^>]+>", " ", html, flags=re.DOTALL))


def test_a_sound_cohort(tmp_path: Path) -> None:
    text = written(tmp_path, CohortPage(content(), [], 0, 0))
    assert "Nothing was found." in text and "every voxel was read" in text and "not named" in text
    assert "would spoil a training 0" in text and "check it" in text
    assert "Masks" not in text and "Outliers" not in text


def test_what_spoils_comes_first_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    rows = [
        FindingRow("error", True, "file", "entry 1", "is lost"),
        FindingRow("warning", False, "outlier", "entry 2", "is large"),
        FindingRow("warning", True, "near duplicate", "entry 3", "looks like entry 1"),
    ]
    text = written(tmp_path, CohortPage(content(), rows, 13, 2, further="findings.csv", notes=["look"]))
    assert text.index("is lost") < text.index("looks like entry 1") < text.index("is large")
    assert "10 more are in findings.csv." in text and "further findings 11" in text and "look" in text


def test_images_and_masks(tmp_path: Path) -> None:
    images = {
        "channel": 0,
        "modality": "CT",
        "dimensions": 3,
        "count": 7,
        "formats": {"nifti": 5, "mha": 2},
        "types": {"int16": 7},
        "colours": {"1": 7},
        "orientations": {"RAS": 7},
        "size": {"i": SPREAD},
        "spacing_mm": {"k": SPREAD},
    }
    masks = [{"value": 1, "name": "liver", "masks": 6, "voxels": SPREAD}]
    spread = Spread("spacing along k, mm", np.array([1.0, 1.0, 2.5]), (0.8, 1.2))
    page = CohortPage(content(images=[images, {**images, "channel": 1}], masks=masks), [], 0, 0, spreads=[spread])
    text = written(tmp_path, page)
    assert "nifti (5), mha (2)" in text and "image 2, 3D" in text and "spacing k, mm" in text and "liver" in text
    assert (tmp_path / "report.html").read_text().count("data:image/svg+xml") == 2  # classes and spacing


def test_many_classes_are_a_table(tmp_path: Path) -> None:
    classes = {f"class{number}": number for number in range(MOST_CLASSES + 1)}
    sections = {"test": {"entries": 1, "patients": 1, "classes": classes}}
    assert "class40" in written(tmp_path, CohortPage(content(sections=sections), [], 0, 0))
    assert "data:image/svg+xml" not in (tmp_path / "report.html").read_text()
