from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from medresnet3d.data.checking.cohort import examine
from medresnet3d.data.checking.fingerprint import fingerprint, fingerprint_schema, load_fingerprint, write_fingerprint
from medresnet3d.errors import DataError
from tests.data.checking.cohorts import COUNT, SHAPE, body, lung, pictures, scans


def test_the_fingerprint_of_scans(tmp_path: Path) -> None:
    cohort = scans(tmp_path)
    cohort.move(12, "test")
    with examine(cohort.path, deep=True) as checked:
        content = write_fingerprint(checked, tmp_path / "out" / "fingerprint.json")
    assert load_fingerprint(tmp_path / "out" / "fingerprint.json") == content
    assert content["sections"]["training"] == {"entries": 11, "patients": 11, "classes": {}}
    (images,) = content["images"]
    assert images["modality"] == "CT" and images["count"] == COUNT and images["orientations"] == {"RAS": COUNT}
    for axis, size, spacing in zip("ijk", SHAPE, (0.8, 0.8, 2.5), strict=True):
        assert set(images["size"][axis].values()) == {size}
        assert images["spacing_mm"][axis]["median"] == pytest.approx(spacing)
    assert images["hounsfield"] == {"units": COUNT}
    everything = [body(number) for number in range(1, COUNT + 1)]
    assert images["intensity"]["min"]["min"] == min(int(one.min()) for one in everything)
    assert images["intensity"]["p75"]["median"] == pytest.approx(
        np.median([np.percentile(one, 75) for one in everything])
    )
    voxels = int(lung().sum())
    assert content["masks"][1]["name"] == "lung" and content["masks"][1]["masks"] == COUNT
    assert set(content["masks"][1]["voxels"].values()) == {voxels}


def test_headers_give_no_intensities(tmp_path: Path) -> None:
    with examine(pictures(tmp_path).path) as checked:
        content = fingerprint(checked)
    Draft202012Validator(fingerprint_schema()).validate(content)
    (images,) = content["images"]
    assert "intensity" not in images and images["colours"] == {"3": COUNT} and images["spacing_mm"] == {}
    assert content["sections"]["training"]["classes"] == {"a": 6, "b": 6} and content["masks"] == []


def test_nobody_is_named(tmp_path: Path) -> None:
    cohort = scans(tmp_path)
    cohort.change(3, patient="patient1")
    cohort.file("s2.nii.gz").unlink()
    with examine(cohort.path, deep=True) as checked:
        text = json.dumps(fingerprint(checked))
    assert "patient1" not in text and "s2.nii" not in text and str(tmp_path) not in text
    assert '{"level": "error", "kind": "leakage", "count": 1}' in text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read as a fingerprint"),
        ("[]", "is a fingerprint of version None"),
        ('{"fingerprint_version": 2}', "is a fingerprint of version 2, but this release reads version 1"),
        ('{"fingerprint_version": 1}', "the whole is not what a fingerprint has"),
    ],
)
def test_what_is_no_fingerprint(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "f.json").write_text(content)
    with pytest.raises(DataError, match=words):
        load_fingerprint(tmp_path / "f.json")


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(fingerprint_schema())
