"""Train and measure one cell of a comparison in this process."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medresnet3d.bundle.load import fill_network, load_config
from medresnet3d.data.seeding import derive_seed, seed_global
from medresnet3d.engines.device import undistributed
from medresnet3d.engines.logs import scalar_metrics
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.io.atomic import atomic_write_text
from medresnet3d.workflows.compare_course import Calibration, Course
from medresnet3d.workflows.compare_datasets import DatasetShelf
from medresnet3d.workflows.compare_job import COURSE, STEPS, TUNING, Job
from medresnet3d.workflows.run_folder import HANDLERS, count_handlers, set_handler_options
from medresnet3d.workflows.running import own_error, quiet_engines

if TYPE_CHECKING:
    from monai.bundle import ConfigParser

Report = Callable[[int, int], None]
_MEASURING = 3
#: Steps that a calibration may take; more than a schedule would be built for, so that none ends in it.
_CALIBRATION_STEPS = 1000
_CALIBRATION_SHARE = 0.05
_CHECKPOINTS = "checkpoints"


def run_cell(job: Job, report: Report, shelf: DatasetShelf | None = None) -> None:
    """Train and measure a cell; its result file appears when all is done, also when it came to nothing.

    Args:
        job: the cell; nothing is done where its result is there already.
        report: called with (steps done, steps in all).
        shelf: data sets that this process has built before.

    Raises:
        TrainingInterrupted: after SIGINT or SIGTERM, when the state is saved; there is no result then.
    """
    if job.result.is_file():
        return
    try:
        with quiet_engines():
            result = _train(job, report, shelf or DatasetShelf())
    except Exception as error:
        cause = own_error(error)
        result = {"error": str(cause) if cause else _one_line(error)}
    atomic_write_text(job.result, json.dumps(_plain(result), indent=1) + "\n")
    shutil.rmtree(job.result.parent / _CHECKPOINTS, ignore_errors=True)


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def _plain(result: Any) -> Any:
    """Give NaN as null, which JSON has."""
    if isinstance(result, Mapping):
        return {key: _plain(value) for key, value in result.items()}
    return None if isinstance(result, float) and not math.isfinite(result) else result


def _train(job: Job, report: Report, shelf: DatasetShelf) -> dict[str, Any]:
    if not job.learning_rates:
        return _train_once(job, Path(job.folder), report, shelf)
    scores = _tune(job, report, shelf)
    rate = next(iter(scores))
    tuned = replace(job, overrides={**job.overrides, "learning_rate": rate}, learning_rates=())
    return {**_train_once(tuned, Path(job.folder), report, shelf), "learning_rate": rate, "tuning": scores}


def _tune(job: Job, report: Report, shelf: DatasetShelf) -> dict[float, float | None]:
    """Train with each learning rate on the inner split; give their metrics, the best first, diverged ones last."""
    scores: dict[float, float | None] = {}
    sign = 1.0
    for rate in job.learning_rates:
        folder = Path(job.folder) / f"rate_{rate:g}"
        done = folder / TUNING
        if not done.is_file():
            candidate = replace(job, outer=job.inner, overrides={**job.overrides, "learning_rate": rate}, points=1)
            try:
                found = _train_once(candidate, folder, report, shelf)
                outcome = {"metric": found["metric"], "smaller_is_better": found["smaller_is_better"]}
            except Exception as error:
                cause = own_error(error)
                if cause is None:
                    raise
                outcome = {"metric": None, "smaller_is_better": False, "error": str(cause)}
            atomic_write_text(done, json.dumps(_plain(outcome)))
            shutil.rmtree(folder / _CHECKPOINTS, ignore_errors=True)
        outcome = json.loads(done.read_text(encoding="utf-8"))
        scores[rate] = outcome["metric"]
        sign = -1.0 if outcome["smaller_is_better"] else sign
    known = {rate: value for rate, value in scores.items() if value is not None}
    if not known:
        raise DataError(f"No learning rate of {', '.join(f'{rate:g}' for rate in scores)} led to a finite metric.")
    return {rate: scores[rate] for rate in sorted(scores, key=lambda rate: -sign * known.get(rate, -sign * math.inf))}


def _train_once(job: Job, folder: Path, report: Report, shelf: DatasetShelf) -> dict[str, Any]:
    """Train to the end of the budget and measure on the held-out part."""
    early = _stops_early(job)
    steps = _steps(job, folder, shelf)
    parser = _configure(job, job.inner if early else job.outer, folder, steps)
    set_handler_options(
        parser.get(), resume=(folder / _CHECKPOINTS / "last.pt").is_file(), tensorboard=False, progress=False
    )
    if not early:
        set_handler_options(parser.get(), validator=None, early_stopping=None)
    trainer = _build(parser, shelf)
    evaluator = parser.get_parsed_content("validate#evaluator")
    measure = _measure_outside(job, trainer, folder, steps) if early else _measure(evaluator)
    course = Course(folder / COURSE, steps, report, [] if early else _points(job.points, steps), measure)
    metrics = course.run(trainer)
    name, value = next(iter(metrics.items()), ("", math.nan))
    if not math.isfinite(value):
        raise DataError(f"The key metric {name} on the held-out part is no finite number.")
    return {
        "metric": value,
        "metric_name": name,
        "smaller_is_better": bool(evaluator.metric_cmp_fn(0.0, 1.0)),
        "metrics": metrics,
        "steps": trainer.state.iteration,
        **_count_data(trainer.data_loader.dataset),
        **course.summary(undistributed(trainer.network), trainer.optimizer),
    }


def _count_data(dataset: Any) -> dict[str, int]:
    """Count what was trained on: cases, and patients where they are known."""
    entries = dataset.data if hasattr(dataset, "data") else []
    patients = {entry["patient"] for entry in entries if entry.get("patient")}
    return {"training_cases": len(entries), "training_patients": len(patients)}


def _stops_early(job: Job) -> bool:
    parser = load_config(job.bundle, ("train.json",), job.overrides)
    return parser.get("early_stopping", None) is not None


def _configure(job: Job, data: str, folder: Path, steps: int) -> ConfigParser:
    """Read the bundle's training configuration for a cell; nothing of it is built yet."""
    parser = load_config(job.bundle, ("train.json",), job.overrides)
    config = parser.get()
    if count_handlers(config) != 1 or "validate" not in config:
        raise ConfigError(
            f"{job.bundle}: a comparison needs a `validate` part and one trainer with {HANDLERS} in train.json."
        )
    config |= {"data": data, "output_dir": str(folder), "seed": job.seed}
    config["device"] = {"_target_": "medresnet3d.engines.select_device", "name": job.device}
    parser.set(config)
    return _set_steps(parser, steps)


def _set_steps(parser: ConfigParser, steps: int) -> ConfigParser:
    """Let a training last so many steps: its epochs, the schedule's length and the trainer's own limit."""
    parser.get_parsed_content("initialize")
    epoch = len(parser.get_parsed_content("train#dataloader"))
    parser["max_epochs"] = math.ceil(steps / epoch)
    parser["train::trainer::max_steps"] = steps
    if "steps" in parser:
        parser["steps"] = steps
    return parser


def _build(parser: ConfigParser, shelf: DatasetShelf) -> Any:
    keys = shelf.place(parser)
    parser.get_parsed_content("initialize")
    trainer = parser.get_parsed_content("train#trainer")
    shelf.keep(parser, keys)
    if hasattr(trainer.data_loader.dataset, "fill_cache"):
        trainer.data_loader.dataset.fill_cache()
    return trainer


def _points(count: int, steps: int) -> list[int]:
    """Give the steps, the last one aside, after which the held-out part is measured."""
    return sorted({round(steps * k / count) for k in range(1, count)} - {0, steps})


def _measure(evaluator: Any) -> Callable[[], dict[str, float]]:
    """Give a function that runs an evaluator and returns its metrics, the key metric first."""

    def measure() -> dict[str, float]:
        seed_global(derive_seed(0))
        evaluator.run()
        metrics = {name: float(value) for name, value in scalar_metrics(evaluator.state.metrics).items()}
        key = evaluator.state.key_metric_name
        return {key: metrics[key], **metrics} if key in metrics else {}

    return measure


def _measure_outside(job: Job, trainer: Any, folder: Path, steps: int) -> Callable[[], dict[str, float]]:
    """Measure on the held-out part the weights that early stopping chose on the inner one."""

    def measure() -> dict[str, float]:
        parser = _configure(job, job.outer, folder, steps)
        network = undistributed(parser.get_parsed_content("network"))
        fill_network(network, undistributed(trainer.network).state_dict(), folder)
        return _measure(parser.get_parsed_content("validate#evaluator"))()

    return measure


def _steps(job: Job, folder: Path, shelf: DatasetShelf) -> int:
    """Give the number of steps of a cell: the budget's, or as many as its own first steps let one expect in it."""
    amount, unit = job.budget
    if unit == "steps":
        return int(amount)
    file = folder / STEPS
    if not file.is_file():
        step_seconds = _calibrate(job, amount, shelf)
        steps = max(1, int(amount / step_seconds))
        atomic_write_text(file, json.dumps({"steps": steps, "calibrated_step_seconds": step_seconds}))
    return int(json.loads(file.read_text(encoding="utf-8"))["steps"])


def _calibrate(job: Job, seconds: float, shelf: DatasetShelf) -> float:
    """Time a few steps of a training that is then thrown away."""
    folder = Path(job.folder) / "calibration"
    parser = _configure(job, job.outer, folder, _CALIBRATION_STEPS)
    set_handler_options(parser.get(), validator=None, early_stopping=None, tensorboard=False, progress=False)
    trainer = _build(parser, shelf)
    calibration = Calibration(_MEASURING, _CALIBRATION_SHARE * seconds)
    calibration.attach(trainer)
    trainer.run()
    shutil.rmtree(folder, ignore_errors=True)
    return calibration.step_seconds


def read_result(job: Job) -> dict[str, Any] | None:
    """Give a cell's result, or ``None`` while there is none."""
    if not job.result.is_file():
        return None
    return dict(json.loads(job.result.read_text(encoding="utf-8")))


def forget_failure(job: Job) -> None:
    """Remove the result of a cell that failed, so that it is run again."""
    result = read_result(job)
    if result is not None and "error" in result:
        job.result.unlink()
