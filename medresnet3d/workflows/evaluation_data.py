"""What an evaluation is made on: the section of a manifest, and which of its patients the weights have seen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medresnet3d.data.manifest import Manifest, items
from medresnet3d.errors import ConfigError, DataError

if TYPE_CHECKING:
    from medresnet3d.workflows.predictor import Predictor

_ITEMS = ("medresnet3d.data.items", "medresnet3d.data.manifest.items")
_MOST_REFERENCES = 8
SECTIONS = ("auto", "test", "validation", "training", "all")


@dataclass(frozen=True)
class PastPatients:
    """Patients whose scans shaped the weights: ``training`` taught them, ``validation`` chose among them."""

    training: frozenset[str] = frozenset()
    validation: frozenset[str] = frozenset()


def past_patients(bundle_or_run: Path) -> PastPatients | None:
    """Read which patients a RUN folder (or the RUN around a bundle folder) recorded in ``environment.json``.

    Args:
        bundle_or_run: the folder; anything else gives None.
    """
    for folder in (bundle_or_run, bundle_or_run.parent):
        file = folder / "environment.json"
        if file.is_file():
            content = json.loads(file.read_text(encoding="utf-8"))
            recorded = content.get("patients") if isinstance(content, dict) else None
            return _recorded(recorded)
    return None


def patients_of_weights(predictor: Predictor) -> PastPatients | None:
    """Read which patients the bundle's metadata name as those of its weights.

    Args:
        predictor: the bundle in memory; its metadata may hold ``weights: {"patients": {"training": [...]}}``.
    """
    weights = predictor.metadata.get("weights")
    return _recorded(weights.get("patients")) if isinstance(weights, Mapping) else None


def _recorded(patients: Any) -> PastPatients | None:
    if isinstance(patients, Mapping):
        return PastPatients(*(frozenset(map(str, patients.get(part) or ())) for part in ("training", "validation")))
    if isinstance(patients, Sequence) and not isinstance(patients, str):
        return PastPatients(frozenset(map(str, patients)))
    return None


def past_warnings(chosen: Sequence[Mapping[str, Any]], past: PastPatients | None, section: str) -> list[str]:
    """Warn of patients that the weights have seen.

    Args:
        chosen: the evaluated items.
        past: recorded patients; None where nothing is recorded.
        section: which part is evaluated.
    """
    present = {str(item["patient"]) for item in chosen if item.get("patient")}
    notes = []
    if past is not None and (seen := len(present & past.training)):
        notes.append(
            f"{seen} of the {len(present)} patients were in the training of these weights: the figures are too good "
            "and say little about new patients."
        )
    if section == "validation" or (past is not None and present & past.validation):
        notes.append(
            "Validation patients chose the best of the trained states, so these figures are somewhat too good; list a "
            "`test` section for an unbiased answer."
        )
    if not all(item.get("patient") for item in chosen):
        notes.append("Not every case names its patient; each such case counts as a patient of its own.")
    return notes


def split_patients(config: Mapping[str, Any], manifest: Manifest) -> dict[str, list[str]] | None:
    """List the patients that a training configuration trains on and validates on, for ``environment.json``.

    Only reads the configuration, and follows its ``@`` references; nothing of it is evaluated.

    Args:
        config: content of a bundle's ``train.json``, with ``medresnet3d.data.items`` as the source of its data sets.
        manifest: the data.

    Returns:
        Patients by section; None where the configuration takes its data from elsewhere or needs evaluation.

    Raises:
        DataError: if the data cannot be split in this way.
    """
    patients: dict[str, list[str]] = {}
    for part in ("train", "validate"):
        source = _follow(config, f"@{part}::dataset::data")
        if not isinstance(source, Mapping) or source.get("_target_") not in _ITEMS:
            return None
        options = {key: _follow(config, value) for key, value in source.items() if key not in ("_target_", "data")}
        if any(isinstance(value, str) and value.startswith(("$", "@")) for value in options.values()):
            return None
        chosen = items(manifest, **options)
        name = str(options.get("section", "training"))
        patients[name] = sorted({str(item["patient"]) for item in chosen if item.get("patient")})
    return patients


def _follow(config: Mapping[str, Any], value: Any) -> Any:
    """Replace a reference by what it names, as long as that can be done without evaluating anything."""
    for _ in range(_MOST_REFERENCES):
        if not isinstance(value, str) or not value.startswith("@"):
            break
        found: Any = config
        for key in value[1:].replace("#", "::").split("::"):
            if not isinstance(found, Mapping) or key not in found:
                return value
            found = found[key]
        value = found
    return value


def choose_items(
    manifest: Manifest, section: str, past: PastPatients | None
) -> tuple[list[dict[str, Any]], str, list[str]]:
    """Choose what to evaluate.

    Args:
        manifest: the data.
        section: as in :func:`evaluate`.
        past: patients that a RUN recorded.

    Returns:
        The items, the name of the section, and a note where another one was taken than the first choice.

    Raises:
        ConfigError: if there is no such section.
        DataError: if it is empty or lacks its truth.
    """
    if section not in SECTIONS:
        raise ConfigError(f"--section {section}: there is no such section; use {', '.join(SECTIONS)}.")
    if section == "validation" and not manifest.sections.get("validation") and past is not None and past.validation:
        return _of_patients(manifest, past.validation), "validation", []
    if section != "auto":
        return items(manifest, section), section, []  # type: ignore[arg-type]
    if manifest.has_truth("test"):
        return items(manifest, "test"), "test", []
    missing = "The manifest lists no test cases with their truth"
    if manifest.sections.get("validation"):
        return items(manifest, "validation"), "validation", [f"{missing}; the validation cases are evaluated instead."]
    if past is not None and past.validation:
        chosen = _of_patients(manifest, past.validation)
        return chosen, "validation", [f"{missing}; the patients that this run held out are evaluated instead."]
    return _with_truth(manifest), "all", [f"{missing} and no validation cases; everything listed is evaluated."]


def _with_truth(manifest: Manifest) -> list[dict[str, Any]]:
    """All cases but those of a section without its truth, as challenges' test sections are."""
    sections: list[Any] = [name for name in manifest.sections if manifest.has_truth(name)]
    if len(sections) in (0, len(manifest.sections)):
        return items(manifest, "all")
    return [item for name in sections for item in items(manifest, name, validation_fraction=0)]


def _of_patients(manifest: Manifest, patients: frozenset[str]) -> list[dict[str, Any]]:
    chosen = [item for item in _with_truth(manifest) if str(item.get("patient")) in patients]
    if not chosen:
        raise DataError(
            f"{manifest.where}: none of the patients that this run held out is listed; "
            "use --section all for other data."
        )
    return chosen
