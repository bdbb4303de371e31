from __future__ import annotations

import numpy as np

from medresnet3d.io import Source, Volume
from medresnet3d.metrics import match_detections
from medresnet3d.workflows.detection_marks import COLORS, answer_marks, compared_marks, detection_scene
from medresnet3d.workflows.prediction import Prediction

DETECTIONS = np.array([[1.0, 2, 3, 8, 0.9], [1, 2, 4, 6, 0.8], [50, 0, 0, 4, 0.7], [90, 0, 0, 4, 0.6]])
FINDINGS = np.array([[30.0, 0, 0, 10, 0], [1, 2, 3, 10, 0], [90, 0, 0, 10, 1]])


def test_detections_are_numbered_from_the_most_probable() -> None:
    marks = answer_marks(DETECTIONS)
    assert [mark.name for mark in marks] == ["1", "2", "3", "4"]
    assert marks[0].position == (1.0, 2.0, 3.0) and marks[0].radius_mm == 4.0
    assert marks[0].facts == {"probability": 0.9, "diameter, mm": 8.0}
    assert {mark.kind for mark in marks} == {"detection"}


def test_what_was_missed_comes_first_then_detections_by_what_they_are() -> None:
    marks = compared_marks(DETECTIONS, match_detections(DETECTIONS, FINDINGS), FINDINGS)
    kinds = ["missed", "hit", "repeated hit", "false positive", "on an excluded finding"]
    assert [mark.kind for mark in marks] == kinds
    assert [mark.color for mark in marks] == [COLORS[kind] for kind in kinds]
    assert marks[0].name == "finding 1" and marks[0].position == (30.0, 0.0, 0.0) and marks[0].radius_mm == 5.0


def test_a_volume_keeps_its_affine() -> None:
    volume = Volume(np.zeros((4, 5, 6)), np.eye(4))
    scene = detection_scene(Prediction("c", "detection", (), volume=volume), answer_marks(DETECTIONS))
    assert scene is not None and scene.affine is volume.affine and scene.marks[0].position == (1.0, 2.0, 3.0)
    assert detection_scene(Prediction("c", "detection", ()), []) is None


def test_a_picture_is_turned_with_its_marks() -> None:
    pixels = np.zeros((40, 30, 1))
    pixels[12, 7] = 1  # column 12, row 7 from the top
    volume = Volume(pixels, np.diag([-1.0, -1, 1, 1]), None, (), Source(format="image"))
    marks = answer_marks([[-12.0, -7.0, 0.0, 5.0, 0.9]])
    scene = detection_scene(Prediction("c", "detection", (), volume=volume), marks)
    assert scene is not None and scene.affine is None
    assert scene.pixels[tuple(int(value) for value in scene.marks[0].position)] == 1
    assert "diameter, pixels" in scene.marks[0].facts
