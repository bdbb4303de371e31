from __future__ import annotations

from pathlib import Path

import pytest

from medresnet3d.errors import ConfigError
from medresnet3d.workflows.demo import demo


def test_demonstration_leaves_a_report_of_a_phantom_training_and_a_real_brain(tmp_path: Path) -> None:
    pytest.importorskip("nilearn")
    summary = demo(tmp_path / "demo", patients=10, epochs=1)
    page = summary.report.read_text(encoding="utf-8")
    assert "Not for clinical use" in page and "phantom" in page and "The brain is real" in page
    assert 0 <= summary.auc.value <= 1
    assert 1200 < sum(summary.volumes_ml.values()) < 2500
    assert min(summary.agreement.values()) > 0.75
    assert str(summary.report) in summary.text()
    for name in ("nodule_run/report.html", "nodule_evaluation/report.html", "mni152_t1_brain_seg.nii.gz"):
        assert (tmp_path / "demo" / name).is_file()


def test_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("two years of work")
    with pytest.raises(ConfigError, match="something else"):
        demo(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "two years of work"
