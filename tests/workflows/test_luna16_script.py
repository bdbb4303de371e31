"""FROC against the challenge's own script, where ``MEDRESNET3D_LUNA16_SCRIPT`` names it; it does not come with us.

It is run on the tables of an evaluation, as a user would, and the curve that it leaves is compared with ours.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from medresnet3d import Predictor
from medresnet3d.metrics.detection import RATES, rate_name
from medresnet3d.workflows.detection_scoring import DetectionScorer
from medresnet3d.workflows.prediction import Prediction

SCRIPT = os.environ.get("MEDRESNET3D_LUNA16_SCRIPT", "")
TABLES = ("annotations.csv", "annotations_excluded.csv", "seriesuids.csv", "detections.csv")


def sensitivities(script: Path, tables: Path, output: Path) -> np.ndarray:
    """Run the script on an evaluation's tables and read its curve at :data:`RATES`.

    Its exit code says little: where its figure cannot be drawn, the curve is written already.
    """
    output.mkdir()
    command = [sys.executable, str(script), *(str(tables / name) for name in TABLES), str(output)]
    done = subprocess.run(command, cwd=script.parent, capture_output=True, text=True, timeout=600)
    curve = output / "froc_detections.txt"  # false positives a scan, sensitivity, threshold
    assert curve.is_file(), f"the script left no curve:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    points = np.loadtxt(curve, delimiter=",", ndmin=2)
    return np.interp(RATES, points[:, 0], points[:, 1])


def ball(x: float, diameter: float = 10.0) -> list[float]:
    """The box of a finding on the x axis."""
    radius = diameter / 2
    return [x - radius, -radius, -radius, x + radius, radius, radius]


def mark(x: float, probability: float) -> list[float]:
    return [x, 0.0, 0.0, 7.0, probability]


def evaluated(detector: Path, folder: Path) -> tuple[Path, np.ndarray]:
    """Score eight scans with every special case of the rules; give the folder of tables and our sensitivities."""
    scans = [
        ([ball(0), ball(40)], [], [mark(0, 0.9), mark(41, 0.4), mark(90, 0.8)]),
        ([ball(0)], [], [mark(1, 0.3), mark(-2, 0.7), mark(90, 0.7), mark(120, 0.2)]),  # hit twice, a tie
        ([ball(0)], [ball(40)], [mark(40, 0.95), mark(1, 0.6), mark(90, 0.5)]),  # on an excluded finding
        ([ball(0), ball(8)], [], [mark(4, 0.55)]),  # in two findings
        ([ball(0)], [ball(6)], [mark(4, 0.45), mark(70, 0.65)]),  # in a finding and in an excluded one
        ([ball(0)], [], [mark(5, 0.85), mark(90, 0.1)]),  # on the surface: missed
        ([], [], [mark(90, 0.75), mark(120, 0.35)]),  # nothing to find
        ([ball(0, 4.0), ball(-60)], [], [mark(1.9, 0.25), mark(-58, 0.15), mark(30, 0.3)]),
    ]
    scorer = DetectionScorer(Predictor(detector))
    for number, (boxes, excluded, marks) in enumerate(scans):
        item = {"boxes": boxes, "excluded_boxes": excluded, "patient": str(number)}
        scorer.add(item, Prediction(f"1.3.{number}", "detection", ("nodule",), detections=np.array(marks)))
    figures = scorer.metrics(n_boot=20, seed=0)
    for name, text in scorer.files().items():
        (folder / name).write_text(text)
    return folder, np.array([figures[rate_name(rate)].value for rate in RATES])


@pytest.mark.skipif(not SCRIPT, reason="MEDRESNET3D_LUNA16_SCRIPT does not name noduleCADEvaluationLUNA16.py")
def test_the_script_of_the_challenge_gives_the_same_sensitivities(detector: Path, tmp_path: Path) -> None:
    tables, ours = evaluated(detector, tmp_path)
    np.testing.assert_allclose(sensitivities(Path(SCRIPT), tables, tmp_path / "theirs"), ours, atol=1e-6)


STAND_IN = """
import csv, pathlib, sys
annotations, excluded, scans, detections, output = map(pathlib.Path, sys.argv[1:])
assert [len(list(csv.DictReader(each.open()))) for each in (annotations, excluded, detections)] == [10, 2, 20]
assert len(scans.read_text().split()) == 8
points = ("0,0,inf", "0,0.25,0.9", "1,0.25,0.5", "1,0.5,0.4", "5,1,0.1")
(output / f"froc_{detections.stem}.txt").write_text("\\n".join(points))
sys.exit("the figure cannot be drawn")
"""


def test_the_runner_hands_over_the_tables_and_reads_the_curve(detector: Path, tmp_path: Path) -> None:
    """With a stand-in that writes a curve of its own: nothing is learned here about the challenge's script."""
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    tables, ours = evaluated(detector, tmp_path)
    np.testing.assert_allclose(ours, [0.1, 0.1, 0.2, 0.8, 0.9, 0.9, 0.9], err_msg="counted by hand")
    found = sensitivities(script, tables, tmp_path / "theirs")
    np.testing.assert_allclose(found, [0.25, 0.25, 0.25, 0.5, 0.625, 0.875, 1.0])
    script.write_text("raise SystemExit('cannot read the tables')")
    with pytest.raises(AssertionError, match="cannot read the tables"):
        sensitivities(script, tables, tmp_path / "nothing")
