from __future__ import annotations

import io
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from sklearn.metrics import roc_auc_score

from medresnet3d.errors import DataError
from medresnet3d.reports import (
    agreement_plot,
    bland_altman_plot,
    class_bars,
    confusion_plot,
    figure_bytes,
    reliability_plot,
    roc_plot,
    three_plane_figure,
    training_curves,
)
from tests.reports.samples import AFFINE, ball, labels


def texts(figure: Figure) -> str:
    found = [text.get_text() for text in figure.findobj(matplotlib.text.Text)]
    return "\n".join(filter(None, found))


def test_three_planes_with_letters_and_legend() -> None:
    figure = three_plane_figure(
        ball(), overlay=labels(), labels=["", "rim", "core"], affine=AFFINE, position=(10, -15, 29), title="A ball"
    )
    assert [axes.get_title() for axes in figure.axes] == ["axial", "coronal", "sagittal"]
    shown = texts(figure)
    for word in ("R", "L", "A", "P", "S", "I", "rim", "core", "A ball"):
        assert word in shown.splitlines()
    picture = Image.open(io.BytesIO(figure_bytes(figure)))
    assert picture.format == "PNG" and picture.width > picture.height


def test_overlay_and_heat_colour_the_planes() -> None:
    plain, coloured, heated = (
        np.asarray(three_plane_figure(ball(), affine=AFFINE, **more).axes[0].images[0].get_array()).astype(int)
        for more in ({}, {"overlay": labels()}, {"heat": labels()})
    )
    assert (np.ptp(plain[..., :3], axis=-1) == 0).all()
    assert (np.ptp(coloured[..., :3], axis=-1) > 30).any()
    assert (np.ptp(heated[..., :3], axis=-1) > 30).any()


def test_training_curves_separate_losses_from_metrics(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "epoch": range(1, 6),
            "train_loss": [1.0, 0.8, 0.6, 0.5, 0.4],
            "val_mean_dice": [np.nan, 0.5, np.nan, 0.7, np.nan],
            "learning_rate": 0.01,
            "seconds": 3.0,
        }
    )
    table.to_csv(tmp_path / "metrics.csv", index=False)
    figure = training_curves(tmp_path / "metrics.csv")
    losses, metrics = figure.axes
    assert [line.get_label() for line in losses.lines] == ["train loss"]
    assert [line.get_label() for line in metrics.lines] == ["val mean dice"]
    np.testing.assert_array_equal(metrics.lines[0].get_xdata(), [2, 4])  # epochs without validation leave no hole
    assert metrics.get_xlabel() == "epoch"


def test_unusable_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        training_curves(tmp_path / "absent.csv")
    (tmp_path / "empty.csv").touch()
    with pytest.raises(DataError, match="cannot be read"):
        training_curves(tmp_path / "empty.csv")
    with pytest.raises(DataError, match="holds no figures"):
        training_curves(pd.DataFrame({"epoch": [1, 2]}))


def test_roc_plot_names_the_area() -> None:
    rng = np.random.default_rng(0)
    label = np.arange(60) % 2
    score = 1 / (1 + np.exp(-rng.normal(size=60) - label))
    figure = roc_plot(np.stack([1 - score, score], axis=1), label, ["benign", "malignant"])
    assert f"malignant: {roc_auc_score(label, score):.3f}" in texts(figure)
    three = roc_plot(rng.dirichlet([1, 1, 1], size=60), np.arange(60) % 3)
    assert texts(three).count("class ") == 3


def test_roc_plot_of_one_class_is_empty_but_drawn() -> None:
    figure = roc_plot(np.tile([0.3, 0.7], (5, 1)), np.ones(5, dtype=int))
    assert len(figure.axes[0].lines) == 1


def test_reliability_plot_counts_the_cases() -> None:
    prob = np.array([[0.05, 0.95]] * 7 + [[0.45, 0.55]] * 3)
    shown = texts(reliability_plot(prob, np.ones(10, dtype=int))).splitlines()
    assert "7" in shown and "3" in shown


def test_confusion_plot_shows_counts_and_shares() -> None:
    shown = texts(confusion_plot(np.array([[8, 2], [0, 5]]), ["benign", "malignant"]))
    for words in ("8\n80%", "2\n20%", "0\n0%", "5\n100%", "truth", "answer"):
        assert words in shown


def test_other_plots() -> None:
    dots = class_bars(["CSF", "grey matter"], [[0.9, np.nan, 0.92], [np.nan, np.nan]], "Dice")
    assert "grey matter" in texts(dots) and dots.axes[0].get_xlabel() == "Dice"
    plot = agreement_plot(np.array([40.0, 52.0]), np.array([41.0, 50.0]), "years")
    assert plot.axes[0].get_xlabel() == "truth (years)"


def test_bland_altman_shows_mean_difference_and_limits() -> None:
    truth = np.array([40.0, 50.0, 60.0, 70.0])
    plot = bland_altman_plot(truth + np.array([1.0, 3.0, 1.0, 3.0]), truth, "years")
    heights = sorted(float(line.get_ydata()[0]) for line in plot.axes[0].lines)
    reach = 1.96 * np.std([1.0, 3.0, 1.0, 3.0], ddof=1)
    np.testing.assert_allclose(heights, [2 - reach, 2, 2 + reach])
    for words in ("+2.0", "truth (years)", "answer less truth (years)"):
        assert words in texts(plot)
    assert len(bland_altman_plot(truth[:1], truth[:1]).axes[0].lines) == 1


def test_nothing_is_left_in_pyplot() -> None:
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    three_plane_figure(ball(), affine=AFFINE)
    agreement_plot(np.arange(3.0), np.arange(3.0))
    assert plt.get_fignums() == before
