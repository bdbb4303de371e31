"""A report with every kind of block, of synthetic images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medresnet3d.metrics import Estimate
from medresnet3d.reports import (
    Bars,
    Cases,
    Figure,
    Figures,
    Heading,
    KeyValues,
    Mark,
    MarkedScan,
    Report,
    Table,
    Text,
    Tile,
    Tiles,
    Warnings,
    classification_card,
    detection_card,
    failed_card,
    roc_plot,
    segmentation_card,
    three_plane_figure,
    three_plane_view,
)

AFFINE = np.array([[-0.8, 0, 0, 20.0], [0, 1.5, 0, -30.0], [0, 0, 3.0, 5.0], [0, 0, 0, 1.0]])


def ball(shape: tuple[int, int, int] = (40, 32, 14), centre: tuple[int, int, int] = (12, 10, 8)) -> NDArray[np.float32]:
    """A bright ball in noise, with a dark border."""
    grid = np.indices(shape)
    distance = np.sqrt(sum((axis - c) ** 2 for axis, c in zip(grid, centre, strict=True)))
    noise = np.random.default_rng(0).normal(size=shape)
    volume = 100 + 10 * noise + 80 * (distance < 5)
    volume[:2] = 0
    return volume.astype(np.float32)


def labels() -> NDArray[np.uint8]:
    """The ball as label 1 and its core as label 2."""
    grid = np.indices((40, 32, 14))
    distance = np.sqrt(sum((axis - c) ** 2 for axis, c in zip(grid, (12, 10, 8), strict=True)))
    return ((distance < 5).astype(np.uint8) + (distance < 3)).astype(np.uint8)


def everything() -> Report:
    """A report with every kind of block and with texts that must be escaped."""
    names = ["background", "rim", "core"]
    rng = np.random.default_rng(0)
    prob = rng.dirichlet([1, 1], size=30)
    return Report(
        "Every block <b>& more</b>",
        "one of each",
        [
            Warnings(["A warning with <script>alert(1)</script>."]),
            Tiles([Tile("Dice", "0.931", "95% interval 0.92 to 0.94"), Tile("cases", "3")]),
            Heading("Results", "with a note"),
            Text("One paragraph.\n\nAnother one."),
            Cases(
                [
                    segmentation_card(
                        "a very long case name " * 5 + "x" * 90,
                        ball(),
                        labels(),
                        affine=AFFINE,
                        labels=names,
                        truth=labels(),
                    ),
                    classification_card(
                        "crop",
                        ball(),
                        [0.2, 0.8],
                        ["benign", "malignant"],
                        affine=AFFINE,
                        truth="malignant",
                        heat=ball() / 200,
                        position=(10.4, -15.0, 29.0),
                        warnings=["The scan has thick slices."],
                    ),
                    failed_card("broken", "broken.nii.gz is truncated; copy it again."),
                ]
            ),
            Heading("Tables"),
            Table(
                ["case", "Dice", "path", "note"],
                [
                    ["b", 0.9, "/data/" + "deep/" * 30 + "b.nii.gz", None],
                    ["a", Estimate(0.95, 0.9, 0.97), "/data/a.nii.gz", "fine"],
                    ["c", float("nan"), "/data/c.nii.gz", "fine"],
                    ["d", 10.5, "/data/d.nii.gz", "fine"],
                ],
                "All cases",
            ),
            Table(["column"] * 12, [["value"] * 12], "Wide", folded=True),
            Heading("Pictures"),
            Figures([Figure(roc_plot(prob, np.arange(30) % 2), "A plot"), Figure(roc_plot(prob, np.arange(30) % 2))]),
            Figure(three_plane_figure(ball(), overlay=labels(), affine=AFFINE), "Planes"),
            three_plane_view(ball(), affine=AFFINE),
            Bars(["benign", "malignant"], [0.3, 0.7], "benign"),
            KeyValues(
                {"weights": "0123456789abcdef" * 4, "seconds": 1.25}, "What was run", command="medresnet3d infer x"
            ),
            KeyValues({"torch": "2.13"}, "Versions", folded=True),
        ],
        {"bundle": "toy", "version": "0.1.0"},
    )


CT_SHAPE = (48, 40, 20)
CT_AFFINE = np.array([[-1.0, 0, 0, 24.0], [0, -1.2, 0, 30.0], [0, 0, 3.0, -10.0], [0, 0, 0, 1.0]])


def chest() -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Hounsfield units in LPS order: bone at the right, air at the front, and a bar whose value names its slice.

    Turned to RAS+, bone is i > 39, air is j > 31 and the bar is 20 <= i < 28, 12 <= j < 20 with 10 HU a slice; label 1
    is the bone, label 2 the air.
    """
    volume = np.zeros(CT_SHAPE, dtype=np.int16)
    volume[:8] = 1000
    volume[8:, :8] = -900
    volume[20:28, 20:28] = 10 * np.arange(CT_SHAPE[2])
    marks = (volume == 1000) + 2 * (volume == -900).astype(np.uint8)
    return volume, marks.astype(np.uint8)


def chest_page() -> Report:
    """One CT case with a viewer."""
    volume, marks = chest()
    names = ["background", "bone <left>", "air"]
    card = segmentation_card("chest", volume, marks, affine=CT_AFFINE, labels=names, modality="CT", scroll=True)
    return Report("One scan", "to scroll through", [Cases([card])], {"bundle": "toy"})


def marks_page() -> Report:
    """The same CT with two marks, in slices 5 and 16, both of 12 mm in the bar's middle."""
    marks = [
        Mark("1", (0.0, 1.2, 2.0), 6.0, "#FF0066", "missed"),
        Mark("2", (0.0, 1.2, 35.0), 6.0, "#009E73", "hit", {"probability": 0.9}),
    ]
    card = detection_card("chest", MarkedScan(chest()[0], marks, CT_AFFINE), modality="CT", scroll=True)
    return Report("Detections", "", [Cases([card])])


def heat_page() -> Report:
    """One classified MR case with a viewer, a heat overlay and a marked point."""
    card = classification_card(
        "crop", ball(), [0.2, 0.8], ["benign", "malignant"], affine=AFFINE, heat=labels(), position=(10.4, -15.0, 29.0),
        modality="MR", scroll=True,
    )  # fmt: skip
    return Report("One crop", "", [Cases([card])])
