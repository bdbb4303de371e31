"""``train``: from a bundle and a data set to a run folder with checkpoints, a report and a ready bundle."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medresnet3d.bundle.load import load_config, option_or_id
from medresnet3d.bundle.registry import read_metadata
from medresnet3d.bundle.trust import require_trust
from medresnet3d.bundle.uses import task_of
from medresnet3d.data.manifest import Manifest, load_manifest
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.workflows import run_folder
from medresnet3d.workflows.evaluation_data import split_patients
from medresnet3d.workflows.ready_bundle import write_ready_bundle
from medresnet3d.workflows.running import own_error, quiet_engines

if TYPE_CHECKING:
    from monai.bundle import ConfigParser


@dataclass(frozen=True)
class _Training:
    """One training: what is trained on what, and where it goes."""

    bundle: Path
    manifest: Manifest
    run: Path
    overrides: dict[str, Any]
    device: str
    command: str
    resume_command: str
    fitted: Mapping[str, Any] = field(default_factory=dict)
    """Values of ids that were learned from the data before the training; no override of the person's."""


def train(
    bundle: str | os.PathLike[str],
    data: str | os.PathLike[str] | Manifest,
    output: str | os.PathLike[str],
    *,
    resume: bool = False,
    device: str = "auto",
    set: Mapping[str, Any] | Iterable[str] = (),
    trust: bool = False,
    rivals: bool = True,
) -> Path:
    """Train a bundle on a data set.

    The run folder gets ``config.json`` (the configuration with all overrides; MONAI runs it), ``environment.json``
    (versions, seed, data), ``metrics.csv``, ``tensorboard/``, ``checkpoints/{last,best}.pt``, ``report.html`` and
    ``bundle/``, which ``infer`` and ``evaluate`` take. Under ``torchrun`` the processes share the work.

    Where the configuration has an id ``rivals`` (name to values of ids), the same is then trained with each of these
    values in ``rivals/NAME``, each a run folder of its own, for ``evaluate`` to compare with; one that is this run
    itself is left out. An id ``budget`` (name to number: what a run spends) is recorded in ``environment.json``.

    Args:
        bundle: a name from ``bundle list``, a bundle folder or a run folder.
        data: the manifest.
        output: the run folder; it must be new or empty, or with ``resume`` that of the run to go on with.
        resume: go on from the last checkpoint, to the same result as an unbroken run.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        set: configuration ids to override: a mapping, or ``id=value`` texts; a resumed run has its own by default.
        trust: accept a bundle from elsewhere although the inspection found something.
        rivals: train the rivals too, where the bundle names some.

    Returns:
        The run folder.

    Raises:
        ConfigError: if the folder is taken, a resumed run was started differently, or an override does not fit.
        DataError: if the manifest cannot be used, the loss becomes NaN or the disk is full.
        BundleError: if the bundle is not found or cannot be trained.
        UntrustedBundleError: if a bundle from elsewhere is not trusted.
        TrainingInterrupted: after Ctrl-C, when the state is saved; a ``KeyboardInterrupt``.
    """
    run = Path(output).resolve()
    source = run_folder.find_source(bundle, run)
    require_trust(source, trust)
    manifest = data if isinstance(data, Manifest) else load_manifest(Path(data))
    is_main = int(os.environ.get("RANK", "0")) == 0
    if is_main:
        run_folder.check_folder(run, resume)
    overrides = run_folder.run_overrides(run, resume, set)
    device = option_or_id("device", device, "auto", overrides)
    overrides.pop("device", None)
    check_task(source, manifest, overrides)
    overrides = fit_classes(source, manifest, overrides)
    names = (bundle, manifest.path or "MANIFEST", run, overrides, device)
    training = _Training(
        source,
        manifest,
        run,
        overrides,
        device,
        run_folder.command_line(*names),
        run_folder.command_line(*names, resume=True),
    )
    parser = _configure(training)
    training = fit_clinical(training, parser)
    if is_main:
        _record(training, parser, resume)
    if resume:
        run_folder.set_handler_options(parser.get(), resume=True)
    _run(training, parser, is_new=is_main and not resume)
    if is_main:
        _finish(training, parser)
    if rivals:
        _train_rivals(training, parser.get(), resume, trust)
    return run


def _train_rivals(training: _Training, config: Mapping[str, Any], resume: bool, trust: bool) -> None:
    """Train the same with other values of some ids, as the id `rivals` says, for `evaluate` to compare with."""
    from medresnet3d.engines.trainer import TrainingInterrupted

    own = run_folder.own_name(config)
    for name, changes in (config.get(run_folder.RIVALS) or {}).items():
        if name == own:
            continue
        folder = training.run / run_folder.RIVALS / name
        begun = resume and (folder / run_folder.ENVIRONMENT).is_file()
        values = {**training.overrides, **changes}
        where = (training.bundle, training.manifest, folder)
        try:
            train(*where, resume=begun, device=training.device, set=values, trust=trust, rivals=False)
        except TrainingInterrupted as stop:
            what = str(stop).partition(" Go on with: ")[0]
            raise TrainingInterrupted(f"{what} Go on with: {training.resume_command}") from None


def check_task(bundle: Path, manifest: Manifest, overrides: Mapping[str, Any]) -> None:
    """Refuse a data set for another task than the bundle's, as far as ``task`` among the overrides does not choose it.

    Raises:
        DataError: if it is one.
    """
    metadata = read_metadata(bundle)
    task = task_of(metadata, overrides)
    if task in ("classification", "regression", "segmentation", "detection", "conversion") and task != manifest.task:
        known = manifest.task in metadata.get("uses", {})
        advice = f"use --set task={manifest.task}" if known else "choose a bundle for that task with `bundle list`"
        raise DataError(
            f"{manifest.where}: the data set is for {manifest.task}, but {bundle.name} does {task}; {advice}."
        )


def fit_classes(bundle: Path, manifest: Manifest, overrides: dict[str, Any]) -> dict[str, Any]:
    """Give a classifier the classes that the data set has, unless the user says which.

    A bundle to which names matter has an id ``class_names``, the others have ``num_classes`` alone.
    """
    if manifest.task != "classification" or not manifest.labels or {"num_classes", "class_names"} & overrides.keys():
        return overrides
    config = load_config(bundle, ("train.json",))
    if "class_names" in config:
        names = list(manifest.labels)
        return overrides if config.get("class_names") == names else {**overrides, "class_names": names}
    own = config.get("num_classes")
    return overrides if own in (None, len(manifest.labels)) else {**overrides, "num_classes": len(manifest.labels)}


def _configure(training: _Training) -> ConfigParser:
    """Read the bundle's training configuration for this data, folder and device."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    files = ("train.json", "multi_gpu_train.json") if several else ("train.json",)
    parser = load_config(training.bundle, files, training.overrides)
    config = parser.get()
    if not run_folder.count_handlers(config):
        raise ConfigError(
            f"{training.bundle.name}: its train.json does not use {run_folder.HANDLERS}, so this command cannot resume "
            "or record it; run it with `python -m monai.bundle run`."
        )
    config["data"] = str(training.manifest.path)
    config["output_dir"] = str(training.run)
    if isinstance(config.get("device"), dict) and "name" in config["device"]:
        config["device"]["name"] = training.device
    elif training.device != "auto":
        config["device"] = {"_target_": "medresnet3d.engines.select_device", "name": training.device}
    parser.set(config)
    return parser


def fit_clinical(training: _Training, parser: ConfigParser) -> _Training:
    """Learn from the training cases what is known beside the image: ids ``clinical_fields`` and ``clinical``.

    Returns:
        the training, with the evidence among the values that its ready bundle gets.
    """
    if "clinical_fields" not in parser:
        return training
    from medresnet3d.transforms.clinical_evidence import fit_evidence

    fields = parser.get_parsed_content("clinical_fields") or ()
    cases = parser.get_parsed_content("train::dataset::data") if fields else ()
    evidence = fit_evidence(cases, fields, parser.get_parsed_content("num_classes")) or None
    parser["clinical"] = evidence
    return replace(training, fitted={"clinical": evidence})


def _record(training: _Training, parser: ConfigParser, resume: bool) -> None:
    """Write config.json and environment.json; when resuming, compare with what is there instead."""
    environment = run_folder.describe_run(training.bundle, training.manifest, training.overrides, training.command) | {
        "seed": parser.get("seed"),
        "device": training.device,
        "patients": split_patients(parser.get(), training.manifest),
    }
    config = parser.get()
    if resume and (training.run / run_folder.CONFIG).is_file():
        run_folder.check_same_run(training.run, config, environment)
        return
    run_folder.write_json(environment, training.run / run_folder.ENVIRONMENT)
    run_folder.write_json(config, training.run / run_folder.CONFIG)


def _run(training: _Training, parser: ConfigParser, is_new: bool) -> None:
    from medresnet3d.engines.trainer import TrainingInterrupted

    try:
        with quiet_engines():
            for part in ("initialize", "run", "finalize"):
                if part in parser:
                    parser.get_parsed_content(part)
    except TrainingInterrupted as stop:
        raise TrainingInterrupted(f"{stop} Go on with: {training.resume_command}") from None
    except Exception as error:
        if is_new:
            run_folder.withdraw(training.run)
        cause = own_error(error)
        if cause is None:
            raise
        raise cause from None


def _name_device(parser: ConfigParser) -> str:
    """Return the device that was computed on, with the name of the GPU."""
    import torch

    from medresnet3d.engines.device import describe_device

    return describe_device(torch.device(parser.get_parsed_content("device")))


def _finish(training: _Training, parser: ConfigParser) -> None:
    """Write the ready bundle and the report of a run that has come to its end."""
    from medresnet3d.engines.checkpoint import load_checkpoint
    from medresnet3d.reports import training_report

    run, device = training.run, _name_device(parser)
    best = load_checkpoint(run / "checkpoints" / "best.pt")
    last = load_checkpoint(run / "checkpoints" / "last.pt")
    environment = run_folder.read_json(run / run_folder.ENVIRONMENT)
    environment["result"] = {"device": device} | {key: last["trainer"][key] for key in ("iteration", "precision")}
    if "budget" in parser:
        environment["budget"] = dict(parser.get_parsed_content("budget"))
    run_folder.write_json(environment, run / run_folder.ENVIRONMENT)
    history = last["session"]["history"]
    chosen = next((row for row in history if row["epoch"] == last["session"]["best_epoch"]), history[-1])
    metrics = {
        name.removeprefix("val_"): value
        for name, value in chosen.items()
        if name.startswith("val_") and math.isfinite(value)
    }
    # what was fitted after the last epoch has figures of its own
    metrics = last.get("final_metrics") or metrics
    facts = _facts(training, environment, last, chosen)
    write_ready_bundle(
        training.bundle,
        run / "bundle",
        state_dict=best["network"],
        overrides={**training.overrides, **training.fitted},
        manifest=training.manifest,
        facts=facts,
        metrics=metrics,
    )
    training_report(
        run,
        what={**facts, "device": device, "command": training.command},
        results=metrics or {"training loss": chosen["train_loss"]},
        inputs=_inputs(training.manifest),
        warnings=_warnings(training.manifest, metrics),
        subtitle=f"{facts['bundle']} trained on {training.manifest.name}",
    )


def _facts(
    training: _Training, environment: Mapping[str, Any], last: Mapping[str, Any], chosen: Mapping[str, float]
) -> dict[str, Any]:
    counts = {name: len(entries) for name, entries in training.manifest.sections.items()}
    return {
        "bundle": f"{environment['bundle']['name']} {environment['bundle']['version']}".strip(),
        "data set": training.manifest.name,
        "manifest sha256": training.manifest.content_hash(),
        "cases listed": ", ".join(f"{number} {name}" for name, number in counts.items()),
        "epochs": int(last["session"]["history"][-1]["epoch"]),
        "best epoch": int(chosen["epoch"]),
        "seed": environment["seed"],
        "precision": last["trainer"]["precision"],
        "minutes": round(sum(row["seconds"] for row in last["session"]["history"]) / 60, 1),
        "settings": ", ".join(f"{key}={value}" for key, value in training.overrides.items()) or "the bundle's own",
        "medresnet3d": environment["versions"]["medresnet3d"],
    }


def _inputs(manifest: Manifest) -> list[dict[str, Any]]:
    return [
        {
            "section": name,
            "image": entry["image"] if isinstance(entry["image"], str) else ", ".join(entry["image"]),
            "patient": entry.get("patient", ""),
        }
        for name, entries in manifest.sections.items()
        for entry in entries
    ]


def _warnings(manifest: Manifest, metrics: Mapping[str, float]) -> list[str]:
    warnings = []
    if metrics:
        warnings.append(
            "The figures of this report are of the validation cases that also chose the best epoch, so they flatter; "
            "measure on cases the training never saw with `medresnet3d evaluate`."
        )
    if metrics and "validation" not in manifest.sections:
        warnings.append("The manifest lists no validation cases; a part of the training patients was held out for it.")
    return warnings
