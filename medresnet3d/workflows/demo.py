"""The demonstration: train on phantom CT nodules, segment a real brain MRI, and explain both in one report."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medresnet3d.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from medresnet3d.metrics import Estimate
    from medresnet3d.workflows.prediction import Prediction

PATIENTS = 30
VALIDATION_SUBSETS = "6"
TEST_SUBSETS = "7,8,9"
NODULE_BUNDLE = "lung_nodule_cnn3d"
BRAIN_BUNDLE = "brain_tissue_voxresnet"
PHANTOM_NOTE = (
    "The chest CTs are phantoms: synthetic images that this program has just drawn. They show that training, "
    "evaluation and reporting work. What is measured on them says nothing about patients."
)
REAL_NOTE = (
    "The brain is real: the MNI152 average of 152 T1-weighted MRI scans (ICBM 2009, as nilearn distributes it), "
    "skull-stripped. The network has never seen it. It is an average and not a person: smoother than any single scan."
)


@dataclass(frozen=True)
class DemoSummary:
    """What the demonstration found.

    Args:
        output: folder with everything.
        report: the page to open.
        auc: area under the ROC curve on held-out phantom patients.
        volumes_ml: volume of each tissue in the MNI152 average.
        agreement: Dice with nilearn's tissue maps, by tissue.
        seconds: time of each stage.
    """

    output: Path
    report: Path
    auc: Estimate
    volumes_ml: dict[str, float]
    agreement: dict[str, float]
    seconds: dict[str, float]

    def text(self) -> str:
        """Give the summary that the command prints."""
        volumes = ", ".join(f"{name} {ml:.0f} ml" for name, ml in self.volumes_ml.items())
        dice = ", ".join(f"{name} {value:.3f}" for name, value in self.agreement.items())
        return "\n".join(
            [
                "",
                f"Phantom CT: {NODULE_BUNDLE} was trained to tell nodules from vessels and other look-alikes.",
                f"  On held-out phantom patients: AUC {self.auc.value:.3f} "
                f"(95% interval {self.auc.low:.3f} to {self.auc.high:.3f}). Phantoms, not patients.",
                f"Real MRI: {BRAIN_BUNDLE} segmented the MNI152 average: {volumes}.",
                f"  Dice with nilearn's own tissue maps: {dice}.",
                f"Time: {', '.join(f'{name} {value:.0f} s' for name, value in self.seconds.items())}.",
                "",
                f"Open {self.report}",
                "Research use only. Not for clinical use.",
            ]
        )


class _Stopwatch:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[name], self._last = now - self._last, now


def demo(
    output: str | os.PathLike[str] = "medresnet3d-demo", *, patients: int = PATIENTS, epochs: int | None = None
) -> DemoSummary:
    """Run the demonstration.

    Draws phantom chest CTs in LUNA16's layout, trains ``lung_nodule_cnn3d`` on some of the patients and evaluates it on
    others, segments the MNI152 average brain with the shipped ``brain_tissue_voxresnet``, and writes ``report.html``.

    Args:
        output: folder for everything it writes; must be absent, empty or of an earlier demonstration.
        patients: number of phantom patients.
        epochs: of the training; by default what the bundle says.

    Raises:
        ConfigError: if nilearn is not installed or ``output`` holds something else.
    """
    folder = _prepare_folder(Path(output))
    brain = _write_mni152(folder / "mni152_t1_brain.nii.gz")
    watch = _Stopwatch()
    run, metrics = _nodules(folder, patients, epochs, watch)
    prediction, agreement = _brain(folder, brain, watch)
    report = _write_report(folder, run, metrics, prediction, agreement, watch.seconds)
    return DemoSummary(folder, report, metrics["auc"], prediction.volumes_ml, agreement, watch.seconds)


def _prepare_folder(folder: Path) -> Path:
    import shutil

    marker = folder / ".medresnet3d-demo"
    if folder.exists() and any(folder.iterdir()) and not marker.exists():
        raise ConfigError(f"{folder}: this folder holds something else; choose another with -o.")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    marker.touch()
    return folder


def _write_mni152(path: Path) -> Path:
    try:
        from nilearn.datasets import load_mni152_template
    except ImportError as error:
        raise ConfigError(
            "the demonstration needs nilearn for its brain MRI: pip install 'medresnet3d[demo]'."
        ) from error
    load_mni152_template(resolution=1).to_filename(path)
    return path


def _nodules(folder: Path, patients: int, epochs: int | None, watch: _Stopwatch) -> tuple[Path, dict[str, Any]]:
    from medresnet3d.data.phantoms.luna16 import write_luna16
    from medresnet3d.data.preparation.prepare import prepare
    from medresnet3d.workflows.evaluate import evaluate
    from medresnet3d.workflows.train import train

    cohort = write_luna16(folder / "phantom_luna16", patients=patients)
    options = {"validation_folds": VALIDATION_SUBSETS, "test_folds": TEST_SUBSETS}
    manifest = prepare("luna16", cohort, folder / "phantom_candidates.json", options=options).path
    watch.lap("drawing phantoms")
    overrides = {} if epochs is None else {"max_epochs": epochs}
    run = train(NODULE_BUNDLE, manifest, folder / "nodule_run", set=overrides)
    watch.lap("training")
    metrics = evaluate(run, manifest, folder / "nodule_evaluation", section="test")
    watch.lap("evaluation")
    return run, metrics


def _brain(folder: Path, image: Path, watch: _Stopwatch) -> tuple[Prediction, dict[str, float]]:
    from medresnet3d.workflows.predictor import Predictor

    prediction = Predictor(BRAIN_BUNDLE)(image)
    prediction.save(folder / "mni152_t1_brain_seg.nii.gz")
    agreement = _agreement(prediction)
    watch.lap("segmenting the brain")
    return prediction, agreement


def _agreement(prediction: Prediction) -> dict[str, float]:
    """Dice of grey and white matter with nilearn's tissue maps; a voxel there belongs to the likelier tissue."""
    import numpy as np
    from nilearn.datasets import load_mni152_gm_template, load_mni152_wm_template

    grey, white = (
        np.asarray(load(resolution=1).dataobj) for load in (load_mni152_gm_template, load_mni152_wm_template)
    )
    rest = 1.0 - grey - white
    reference = np.argmax(np.stack([rest, grey, white]), axis=0)
    assert prediction.pred is not None
    names = {"grey matter": 1, "white matter": 2}
    return {
        name: _dice(prediction.pred == prediction.labels.index(name), reference == number)
        for name, number in names.items()
    }


def _dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def _write_report(
    folder: Path,
    run: Path,
    metrics: dict[str, Any],
    prediction: Prediction,
    agreement: dict[str, float],
    seconds: dict[str, float],
) -> Path:
    from medresnet3d.reports import (
        Cases,
        Figure,
        Heading,
        KeyValues,
        Report,
        Text,
        Tile,
        Tiles,
        segmentation_card,
        write_report,
    )
    from medresnet3d.reports.blocks import Block
    from medresnet3d.reports.builders import metric_table, versions
    from medresnet3d.reports.figures import training_curves

    assert prediction.volume is not None
    auc = metrics["auc"]
    card = segmentation_card(
        "MNI152 average brain, T1",
        prediction.volume.array,
        prediction.pred,
        affine=prediction.affine,
        labels=prediction.labels,
        rows={f"Dice with nilearn's map, {name}": f"{value:.3f}" for name, value in agreement.items()},
        warnings=prediction.warnings,
        scroll=True,
    )
    tiles = [
        Tile(f"Dice with nilearn, {name}", f"{value:.3f}", "real MRI, an average brain")
        for name, value in agreement.items()
    ]
    tiles.append(
        Tile("AUC, nodule or look-alike", f"{auc.value:.3f}", f"phantoms; 95% interval {auc.low:.3f} to {auc.high:.3f}")
    )
    blocks: list[Block] = [
        Tiles(tiles),
        Heading("A real brain, segmented", f"by the shipped bundle {BRAIN_BUNDLE}, in {prediction.seconds:.0f} s"),
        Text(REAL_NOTE),
        Cases([card]),
        Heading("Phantom nodules, learnt", f"by the bundle {NODULE_BUNDLE}, trained in {seconds['training']:.0f} s"),
        Text(PHANTOM_NOTE),
        metric_table(metrics, "On phantom patients that the training has not seen, with 95% intervals by patient"),
        Figure(
            training_curves(run / "metrics.csv"), "Loss and validation metrics over the training.", "training curves"
        ),
        Heading("What lies in this folder"),
        KeyValues(
            {
                "nodule_run/report.html": "the training: curves, settings, environment",
                "nodule_evaluation/report.html": "the evaluation: ROC, calibration, best and worst cases",
                "nodule_run/bundle": "the trained network as a bundle: `medresnet3d infer` takes its run folder",
                "phantom_luna16": "the phantoms, laid out as LUNA16 lays out its scans",
                "mni152_t1_brain_seg.nii.gz": "the label map of the brain: 1 CSF, 2 grey matter, 3 white matter",
            }
        ),
        KeyValues({name: f"{value:.0f} s" for name, value in seconds.items()}, "Time", folded=True),
        KeyValues(versions(), "Versions", folded=True),
    ]
    return write_report(
        Report("medresnet3d demonstration", "One real scan, some phantoms", blocks), folder / "report.html"
    )
