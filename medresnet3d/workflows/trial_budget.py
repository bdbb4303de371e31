"""How long a trial of a search may train: a number of steps, or of seconds that is turned into one."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medresnet3d.bundle.load import load_config
from medresnet3d.progress import hide_progress
from medresnet3d.workflows.budget import parse_budget
from medresnet3d.workflows.compare_course import Calibration

#: Steps that are timed, after a first one that warms up.
_MEASURED_STEPS = 5
#: The units of a trial's budget.
UNITS = ("seconds", "steps", "epochs")


def length_overrides(
    bundle: Path, data: Path, overrides: Mapping[str, Any], device: str, budget: str
) -> dict[str, int]:
    """Give the ids that let a training with these settings last as long as the budget.

    A budget of seconds is turned into epochs by timing a few steps of the same training, whose result is thrown away;
    so the schedule of the learning rate runs to its end whatever the settings cost.

    Args:
        bundle: folder of the bundle.
        data: the manifest file.
        overrides: settings of the training.
        device: where to compute.
        budget: for example ``60s``, ``5min``, ``200steps`` or ``3epochs``.

    Returns:
        ``max_epochs``, at least 1, and ``steps`` where a budget of steps is given and the bundle has that id.
    """
    length = parse_budget(budget, UNITS)
    if length.unit == "epochs":
        return {"max_epochs": max(1, round(length.amount))}
    with tempfile.TemporaryDirectory(prefix="medresnet3d-budget-") as folder:
        parser = load_config(bundle, ("train.json",), overrides)
        config = parser.get() | {"data": str(data), "output_dir": folder}
        config["device"] = {"_target_": "medresnet3d.engines.select_device", "name": device}
        parser.set(config)
        parser.get_parsed_content("initialize")
        epoch = len(parser.get_parsed_content("train#dataloader"))
        if length.unit == "steps":
            counted = {"steps": round(length.amount)} if "steps" in parser else {}
            return {"max_epochs": math.ceil(length.amount / epoch)} | counted
        parser["max_epochs"] = math.ceil((_MEASURED_STEPS + 2) / epoch)
        seconds = _seconds_per_step(parser.get_parsed_content("train#trainer"))
    return {"max_epochs": max(1, int(length.amount / (seconds * epoch)))}


def _seconds_per_step(trainer: Any) -> float:
    """Time a few steps, each with the loading of its batch."""
    calibration = Calibration(_MEASURED_STEPS, 0.0)
    calibration.attach(trainer)
    with hide_progress():
        trainer.run()
    return calibration.step_seconds
