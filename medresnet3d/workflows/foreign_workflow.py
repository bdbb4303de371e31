"""Bundles without a configuration: a ``BundleWorkflow`` written in Python."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import BundleWorkflow, ConfigWorkflow
from monai.inferers import SimpleInferer

from medresnet3d.bundle.load import weights_hash
from medresnet3d.errors import BundleError, ConfigError, WeightsError
from medresnet3d.workflows.foreign_errors import told_in_words
from medresnet3d.workflows.foreign_files import FileParts
from medresnet3d.workflows.foreign_images import as_compose, feed
from medresnet3d.workflows.foreign_labels import read_meaning
from medresnet3d.workflows.foreign_parts import ForeignParts
from medresnet3d.workflows.foreign_weights import WeightsPlan, fill, the_only_file

_FOLDERS = ("dataset_dir", "data_dir", "data_root", "dataroot", "input_dir", "input_folder")
_FILES = ("filename", "file_name", "filepath", "file_path", "image", "image_path", "input", "input_file", "input_path")
_OUTPUTS = ("output_dir", "output_path", "output", "output_folder", "save_dir")
_OF_CLASS = re.compile(r"^class\s+(\w+)\s*\(([^)]*Workflow[^)]*)\)", re.MULTILINE)
_WHY = "its Python workflow"


def has_workflow(path: Path) -> bool:
    """Tell whether Python files of the bundle define a workflow; they are read as texts."""
    return any(True for _ in _candidates(path))


def _candidates(path: Path) -> Iterator[tuple[str, str]]:
    """Yield module and class names of workflows, those for inference first."""
    found = []
    for file in sorted(path.glob("*.py")) + sorted(path.glob("*/*.py")):
        module = ".".join(file.relative_to(path).with_suffix("").parts)
        for name, _ in _OF_CLASS.findall(file.read_text(encoding="utf-8", errors="replace")):
            found.append((module.removesuffix(".__init__"), name))
    yield from sorted(found, key=lambda one: not re.search("infer|eval", f"{one[0]}.{one[1]}", re.IGNORECASE))


def workflow_class(path: Path, metadata: Mapping[str, Any]) -> type[BundleWorkflow]:
    """Import the class that runs the inference of a bundle.

    Raises:
        BundleError: if there is none.
    """
    for module, name in _candidates(path):
        with told_in_words(path, metadata, _WHY):
            kind = getattr(importlib.import_module(module), name)
        if isinstance(kind, type) and issubclass(kind, BundleWorkflow) and not issubclass(kind, ConfigWorkflow):
            return kind
    raise BundleError(f"{path}: there is neither an inference configuration nor a BundleWorkflow for inference.")


def workflow_parts(
    path: Path,
    metadata: Mapping[str, Any],
    overrides: Mapping[str, Any],
    device: torch.device,
    exact: bool,
    workspace: Path,
) -> ForeignParts:
    """Build a bundle that is a Python workflow.

    Its ``network_def``, ``preprocessing``, ``inferer`` and ``postprocessing`` are used where it has them, else it runs
    as a whole, once for each case.

    Raises:
        BundleError: if it cannot run here; the message says why.
        WeightsError: if there are no weights.
        ConfigError: if the workflow has no argument that is to be set.
    """
    kind = workflow_class(path, metadata)
    weights, meaning = the_only_file(path), read_meaning(metadata)

    def make(files: Sequence[Path], output: Path) -> BundleWorkflow:
        arguments = _arguments(kind, path, overrides, str(device), files, output)
        with told_in_words(path, metadata, _WHY):
            workflow = kind(**arguments)
            workflow.initialize()
        return workflow

    def run(files: Sequence[Path], output: Path) -> None:
        workflow = make(files, output)
        workflow.run()
        workflow.finalize()

    workflow = make([workspace / "case.nii.gz"], workspace)
    network = _part(workflow, "network_def")
    preprocessing = as_compose(_part(workflow, "preprocessing"))
    image_keys = feed(preprocessing, meaning.spatial_dims == 2, meaning.channels)
    known: dict[str, Any] = {
        "bundle": path,
        "preprocessing": preprocessing,
        "inferer": _part(workflow, "inferer") or SimpleInferer(),
        "answer": as_compose(_part(workflow, "postprocessing")),
        "task": meaning.task,
        "labels": meaning.labels,
        "device": device,
        "weights_hash": weights_hash(weights),
        "metadata": metadata,
        "meaning": meaning,
    }
    if not isinstance(network, torch.nn.Module) or not image_keys:
        return FileParts(**known, network=torch.nn.Identity(), runner=run)
    notes = _fill(network, weights)
    parts = ForeignParts(**known, network=network.to(device).eval(), image_keys=image_keys, notes=notes)
    parts.take_over(exact)
    return parts


def _fill(network: torch.nn.Module, weights: Path) -> list[str]:
    try:
        return fill(WeightsPlan(weights, {}, strict=True), {"model": network})
    except WeightsError:
        return [f"{weights.name} is not a plain state dict of the network; the bundle's own code loads it."]


def _part(workflow: BundleWorkflow, name: str) -> Any:
    """Give a property of a workflow, or ``None`` where it has none."""
    try:
        return getattr(workflow, name)
    except (AttributeError, KeyError, ValueError, NotImplementedError, FileNotFoundError):
        return None


def _arguments(
    kind: Callable[..., Any],
    path: Path,
    overrides: Mapping[str, Any],
    device: str,
    files: Sequence[Path],
    output: Path,
) -> dict[str, Any]:
    """Choose the arguments of a workflow by their names."""
    known: dict[str, Any] = {"bundle_root": str(path), "bundle_path": str(path), "workflow_type": "inference"}
    known |= dict.fromkeys(_FOLDERS, str(files[0].parent)) | dict.fromkeys(_FILES, str(files[0]))
    known |= dict.fromkeys(_OUTPUTS, str(output)) | {"device": torch.device(device)}
    parameters = inspect.signature(kind).parameters
    takes_all = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
    unknown = [name for name in overrides if name not in parameters and not takes_all]
    if unknown:
        raise ConfigError(f"--set {unknown[0]}: {kind.__name__} of {path} has no argument of this name.")
    values = {name: known[name] for name in parameters if name in known} | dict(overrides)
    absent = [
        name
        for name, one in parameters.items()
        if one.default is inspect.Parameter.empty
        and one.kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        and name not in values
    ]
    if absent:
        raise BundleError(
            f"{path}: {kind.__name__} needs the argument `{absent[0]}`; give it with --set {absent[0]}=VALUE."
        )
    return values
