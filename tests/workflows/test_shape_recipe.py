"""The commands of docs/how-to/classify-a-shape.md, on a tiny copy of AdrenalMNIST3D's layout."""

from __future__ import annotations

import itertools
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medresnet3d.bundle.load import parse_overrides
from medresnet3d.data import items
from medresnet3d.data.preparation.prepare import mimic, prepare
from medresnet3d.io import load
from medresnet3d.workflows.evaluate import evaluate
from medresnet3d.workflows.predictor import Predictor
from medresnet3d.workflows.train import train

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "classify-a-shape.md"


def settings(verb: str) -> list[str]:
    """What follows each ``--set`` of the page's command ``medresnet3d VERB``."""
    text = PAGE.read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.search(rf"^medresnet3d {verb} .*", text, re.MULTILINE)
    assert found is not None
    words = shlex.split(found[0])
    return [value for option, value in itertools.pairwise(words) if option == "--set"]


def test_the_commands_train_and_answer_the_same_for_a_mirror_image(tmp_path: Path) -> None:
    manifest = prepare("medmnist", mimic("medmnist", tmp_path / "data"), tmp_path / "m.json").path
    short = ["max_epochs=1", "val_interval=1", "batch_size=4"]
    run = train("lung_nodule_cnn3d", manifest, tmp_path / "run", device="cpu", set=[*settings("train"), *short])
    result = evaluate(run, manifest, tmp_path / "out", device="cpu", set=settings("evaluate"), n_boot=10)
    assert (result.section, result.cases, result.errors) == ("test", 2, {})

    plain, flipping = Predictor(run, "cpu"), Predictor(run, "cpu", **parse_overrides(settings("evaluate")))
    volume = load(items(manifest, "test")[0]["image"])
    mirrored = replace(volume, array=np.ascontiguousarray(volume.array[::-1]))
    answers = {
        name: [predictor(each).probabilities["hyperplasia"] for each in (volume, mirrored)]
        for name, predictor in (("plain", plain), ("flipping", flipping))
    }
    assert answers["flipping"][0] == pytest.approx(answers["flipping"][1], abs=1e-5)
    assert answers["plain"][0] != pytest.approx(answers["plain"][1], abs=1e-5)
