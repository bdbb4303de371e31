from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medresnet3d.io import Volume
from medresnet3d.reports.planes import label_color
from medresnet3d.workflows import overview as room
from medresnet3d.workflows.overview import overview
from medresnet3d.workflows.prediction import Prediction


def volume() -> Volume:
    array = np.random.default_rng(0).normal(100, 5, (30, 40, 20)).astype(np.float32)
    return Volume(array, np.diag([1.0, 1.0, 2.0, 1.0]))


def rgb(color: str) -> list[int]:
    return [int(color[place : place + 2], 16) for place in (1, 3, 5)]


def test_a_segmentation_shows_its_structures_in_their_colours() -> None:
    given = volume()
    pred = np.zeros(given.shape, np.uint8)
    pred[5:15, 5:20, 5:10], pred[18:28, 5:20, 5:10] = 1, 2
    prediction = Prediction(
        "secret name", "segmentation", ("background", "left", "right"), pred=pred, volume=given, affine=given.affine,
        volumes_ml={"left": 1.5, "right": 1.5},
    )  # fmt: skip
    picture = overview(prediction, "bundle 1.0")
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    legend = picture[-80:]
    for label in (1, 2):
        assert (legend == rgb(label_color(label))).all(axis=2).sum() > 100
    plain = overview(
        Prediction("x", "segmentation", prediction.labels, volume=given, volumes_ml=prediction.volumes_ml), "bundle 1.0"
    )
    assert picture.shape == plain.shape and (picture != plain).any(axis=2).sum() > 2000


def test_nothing_about_the_patient_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    draw = room.ImageDraw.ImageDraw.text

    def note(self: Any, place: Any, text: str, **more: Any) -> None:
        drawn.append(text)
        draw(self, place, text, **more)

    monkeypatch.setattr(room.ImageDraw.ImageDraw, "text", note)
    prediction = Prediction(
        "DOE^JOHN", "classification", ("no", "yes"), path="/data/DOE^JOHN", patient="P1", volume=volume(),
        probabilities={"no": 0.25, "yes": 0.75}, label="yes", position=(10.0, 10.0, 10.0),
    )  # fmt: skip
    overview(prediction, "bundle 1.0")
    assert {"bundle 1.0", "yes: probability 0.750", "no: probability 0.250"} <= set(drawn)
    assert not any("DOE" in text or "P1" in text for text in drawn)
    assert drawn.index("yes: probability 0.750") < drawn.index("no: probability 0.250")


def test_many_structures_are_cut_short() -> None:
    names = tuple(f"structure {number}" for number in range(105))
    prediction = Prediction("x", "segmentation", names, volumes_ml=dict.fromkeys(names[1:], 1.0))
    lines = room._lines(prediction, room.three_plane_view(volume().array))
    assert len(lines) == room.MOST_LINES and lines[-1][1] == "and 81 more"


def test_an_estimate_and_an_image_of_one_slice() -> None:
    flat = Volume(volume().array[:, :, :1], np.eye(4))
    assert overview(Prediction("x", "regression", (), value=71.25, volume=flat), "age 1.0").shape[2] == 3


def test_detections_have_rings_and_a_line_each() -> None:
    given = volume()
    found = np.array([[10.0, 20.0, 16.0, 8.0, 0.9], [25.0, 5.0, 30.0, 6.0, 0.5]])
    prediction = Prediction("x", "detection", ("nodule",), detections=found, volume=given, affine=given.affine)
    picture = overview(prediction, "bundle 1.0")
    assert (picture == rgb("#E69F00")).all(axis=2).sum() > 200
    empty = overview(Prediction("x", "detection", ("nodule",), detections=found[:0], volume=given), "bundle 1.0")
    assert picture.shape[0] - empty.shape[0] == 2 * room.LINE
