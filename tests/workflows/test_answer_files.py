from __future__ import annotations

from pathlib import Path

import pytest

from medresnet3d import Predictor
from medresnet3d.errors import ConfigError
from medresnet3d.workflows.answer_files import check_format, write_label_map
from medresnet3d.workflows.prediction import Prediction


def test_formats() -> None:
    for name in (None, "nifti", "mha", "nrrd", "dicomseg"):
        check_format(name)
    with pytest.raises(ConfigError, match=r"--format NIFTI: this format is unknown; did you mean nifti\?"):
        check_format("NIFTI")
    with pytest.raises(ConfigError, match=r"use nifti, mha, nrrd, dicomseg\."):
        check_format("xyz")


def test_the_label_map_is_named_after_the_case(thresholder: Path, scan: Path, tmp_path: Path) -> None:
    predictor = Predictor(thresholder)
    prediction = predictor(scan)
    prediction.case = "1.2.840"
    assert write_label_map(prediction, predictor, tmp_path / "out", None) == [tmp_path / "out" / "1.2.840_seg.nii.gz"]
    assert write_label_map(prediction, predictor, tmp_path / "out", "nrrd") == [tmp_path / "out" / "1.2.840_seg.nrrd"]
    assert write_label_map(Prediction("x", "classification", ()), predictor, tmp_path / "out", None) == []
