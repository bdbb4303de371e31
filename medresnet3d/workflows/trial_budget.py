"""How long a trial of a search may train: a number of steps, or of seconds that is turned into one."""

from __future__ import annotations

import math
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medresnet3d.bundle.load import load_config
from medresnet3d.errors import ConfigError
from medresnet3d.progress import hide_progress

_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "steps": 1.0, "epochs": 1.0}
_FORM = re.compile(rf"(\d+(?:\.\d+)?)\s*({'|'.join(_UNITS)})")
_MEASURED_STEPS = 6


def parse_budget(text: str) -> tuple[float, str]:
    """Read a budget.

    Args:
        text: for example ``60s``, ``5min``, ``200steps`` or ``3epochs``.

    Returns:
        The amount and its unit: ``s``, ``steps`` or ``epochs``.

    Raises:
        ConfigError: if it is none.
    """
    found = _FORM.fullmatch(text.strip())
    if not found or float(found[1]) <= 0:
        raise ConfigError(f"--budget {text!r}: write a number and a unit, for example 60s, 5min, 200steps or 3epochs.")
    unit = found[2] if found[2] in ("steps", "epochs") else "s"
    return float(found[1]) * _UNITS[found[2]], unit


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
        budget: see :func:`parse_budget`.

    Returns:
        ``max_epochs``, at least 1, and ``steps`` where a budget of steps is given and the bundle has that id.
    """
    amount, unit = parse_budget(budget)
    if unit == "epochs":
        return {"max_epochs": max(1, round(amount))}
    with tempfile.TemporaryDirectory(prefix="medresnet3d-budget-") as folder:
        parser = load_config(bundle, ("train.json",), overrides)
        config = parser.get() | {"data": str(data), "output_dir": folder}
        config["device"] = {"_target_": "medresnet3d.engines.select_device", "name": device}
        parser.set(config)
        parser.get_parsed_content("initialize")
        epoch = len(parser.get_parsed_content("train#dataloader"))
        if unit == "steps":
            length = {"max_epochs": math.ceil(amount / epoch)}
            return length | ({"steps": round(amount)} if "steps" in parser else {})
        seconds = _seconds_per_step(parser.get_parsed_content("train#trainer"))
    return {"max_epochs": max(1, int(amount / (seconds * epoch)))}


def _seconds_per_step(trainer: Any) -> float:
    """Time a few steps, the first one (which warms up) aside where there are several."""
    from ignite.engine import Events

    ends = [time.monotonic()]

    def note(engine: Any) -> None:
        ends.append(time.monotonic())
        if len(ends) > _MEASURED_STEPS:
            engine.terminate()

    trainer.add_event_handler(Events.ITERATION_COMPLETED, note)
    with hide_progress():
        trainer.run()
    first = 1 if len(ends) > 2 else 0
    return (ends[-1] - ends[first]) / (len(ends) - 1 - first)
