"""Manifests: what a data set holds, validated before anything is read.

The law is ``data_manifests/manifest.schema.json`` (JSON Schema 2020-12); :mod:`medresnet3d.data.manifest_rules` holds
what a schema cannot say. A manifest may also be a CSV table (:mod:`medresnet3d.data.manifest_table`). Medical
Segmentation Decathlon ``dataset.json`` files and MONAI datalists are turned into manifests first.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from medresnet3d.data.cases import case_ids
from medresnet3d.data.datalists import convert, is_foreign
from medresnet3d.data.manifest_rules import SECTIONS, class_names, problems, truth_key
from medresnet3d.data.manifest_table import ManifestTable, is_table
from medresnet3d.data.splits import assign_folds, choose_share, choose_validation
from medresnet3d.errors import DataError

Section = Literal["training", "validation", "test", "all"]


@dataclass(frozen=True)
class Manifest:
    """A validated data set description.

    Args:
        name: of the data set.
        task: ``classification``, ``regression``, ``segmentation``, ``detection`` or ``conversion``.
        labels: class names in index order; empty where the task has none.
        sections: entries of ``training``, ``validation`` and ``test`` with absolute paths, ``label`` as class index
            (classification) or float (regression), and ``patient`` as string.
        path: the file it was read from.
        raw: the manifest as JSON, after conversion of foreign formats.
    """

    name: str
    task: str
    labels: tuple[str, ...]
    sections: dict[str, list[dict[str, Any]]]
    path: Path | None = None
    raw: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def where(self) -> str:
        """The manifest's file, for messages."""
        return str(self.path or self.name)

    def content_hash(self) -> str:
        """SHA-256 of the canonical JSON; the same for the same entries wherever the file lies."""
        text = json.dumps(self.raw, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def has_truth(self, section: str) -> bool:
        """Say whether ``section`` lists anything and each of its entries carries the truth that the task needs."""
        key = truth_key(self.task)
        entries = self.sections.get(section, [])
        return bool(entries) and all(key is None or key in entry for entry in entries)


def manifest_path(source: str | Path) -> Path:
    """Give the manifest file that ``source`` names: itself, or the one in the folder.

    Raises:
        DataError: if the folder holds none.
    """
    path = Path(source)
    if not path.is_dir():
        return path
    found = [path / name for name in ("manifest.json", "dataset.json", "manifest.csv") if (path / name).is_file()]
    if not found:
        raise DataError(f"{path}: the folder holds no manifest.json; name the manifest file itself.")
    return found[0]


def read_raw_manifest(source: str | Path) -> tuple[dict[str, Any], Path]:
    """Read a manifest, MSD ``dataset.json`` or MONAI datalist as a manifest that is not validated yet.

    Args:
        source: the JSON file or CSV table, or a folder that holds one.

    Raises:
        DataError: if there is no such file or it is not a JSON object.
    """
    path = manifest_path(source)
    if is_table(path):
        return ManifestTable(path).raw(), path
    try:
        raw = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such manifest; check the path.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the file and its permissions.") from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}: is not valid JSON at line {error.lineno}, column {error.colno} ({error.msg}); correct it there."
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text; save the manifest as UTF-8 JSON.") from error
    if not isinstance(raw, dict):
        raise DataError(
            f"{path}: holds a JSON {type(raw).__name__}, but a manifest is an object with `name` and `task`."
        )
    return (convert(raw, path) if is_foreign(raw) else raw), path


def load_manifest(source: str | Path | Manifest) -> Manifest:
    """Read and validate a manifest, an MSD ``dataset.json`` or a MONAI datalist.

    Args:
        source: the JSON file, its folder, or a manifest that is loaded already.

    Raises:
        DataError: at the first problem, naming file, entry and field.
    """
    if isinstance(source, Manifest):
        return source
    raw, path = read_raw_manifest(source)
    for problem in problems(raw):
        raise DataError(f"{path}: {problem}")
    return build_manifest(raw, path)


def build_manifest(raw: dict[str, Any], path: Path) -> Manifest:
    """Resolve the paths and labels of a manifest that :func:`medresnet3d.data.manifest_rules.problems` found sound."""
    root = data_root(raw, path)
    names = class_names(raw)
    sections = {
        name: [resolve_entry(entry, root, raw["task"], names) for entry in raw[name]]
        for name in SECTIONS
        if name in raw
    }
    return Manifest(raw["name"], raw["task"], names, sections, path, raw)


def data_root(raw: Mapping[str, Any], path: Path) -> Path:
    """The folder that the paths of a manifest start from."""
    return (path.parent / raw.get("root", "")).resolve()


def items(
    data: str | Path | Manifest,
    section: Section = "training",
    *,
    validation_fraction: float = 0.2,
    fold: int | None = None,
    folds: int = 5,
    seed: int = 0,
    fraction: float = 1.0,
    class_names: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """List the items of one section of a manifest, ready for a transform pipeline.

    Without ``fold``, ``validation`` is the manifest's own list; where it has none, a seeded, patient-wise part of
    ``training`` (or fold 0, where every entry names its ``fold``). With ``fold=k`` the k-th of ``folds`` patient-wise
    folds of ``training`` is the validation section; an entry's own ``fold`` wins when every entry has one. Splits are
    stratified by class for classification and do not depend on the order of the entries.

    Args:
        data: manifest file, or loaded manifest.
        section: ``training``, ``validation``, ``test``, or ``all`` (everything listed).
        validation_fraction: share of patients to validate on where the manifest has no validation list.
        fold: number of the fold to validate on.
        folds: number of folds.
        seed: of the split.
        fraction: share of the section's patients to list: the first ones of a seeded order, so that a larger share
            contains a smaller one (a learning curve). The split comes first and does not depend on it.
        class_names: names of the classes in the order that a network counts them; a manifest that names other classes,
            or these in another order, is refused.

    Returns:
        dictionaries with ``image`` and ``path`` (path or list of paths), ``case`` (unique name), and, where the
        manifest has them, ``label`` (class index, number, or for segmentation the mask's path), ``mask``, ``patient``,
        ``position`` ((3,), mm, RAS+) and every further key.

    Raises:
        DataError: if the section is empty, cannot be split, lacks its truth, has other classes, or a listed file does
            not exist.
    """
    manifest = load_manifest(data)
    if class_names is not None and manifest.labels and list(class_names) != list(manifest.labels):
        raise DataError(
            f"{manifest.where}: its classes are {', '.join(manifest.labels)}, but class_names is "
            f"{', '.join(class_names)}; set class_names to those of the manifest, in its order."
        )
    if section not in (*SECTIONS, "all"):
        raise DataError(f"There is no section {section!r}; use training, validation, test or all.")
    everything = _list_all(manifest)
    if section == "all":
        chosen = [entry for name in SECTIONS for entry in everything[name]]
    elif section == "test" or (fold is None and everything["validation"]):
        chosen = everything[section]
    else:
        training = everything["training"]
        held_out = _held_out(manifest, [entry.item for entry in training], validation_fraction, fold, folds, seed)
        chosen = [entry for entry, out in zip(training, held_out, strict=True) if out == (section == "validation")]
    nothing_wanted = section == "validation" and fold is None and validation_fraction == 0
    if fraction != 1:
        chosen = _first_share(manifest, chosen, fraction, seed)
    if not chosen and not nothing_wanted:
        raise DataError(f"{manifest.where}: nothing is listed under `{section}`; add entries or use another section.")
    for entry in chosen:
        _require_truth(manifest, entry)
        _require_files(manifest, entry)
    return [entry.item for entry in chosen]


class _Listed(NamedTuple):
    """An item and where the manifest lists it (numbers start at 1)."""

    section: str
    number: int
    item: dict[str, Any]


def _held_out(
    manifest: Manifest, training: list[dict[str, Any]], fraction: float, fold: int | None, folds: int, seed: int
) -> list[bool | None]:
    """Say for each training item whether it is held out for validation; ``None`` leaves it out of both parts."""
    if not training:
        raise DataError(f"{manifest.where}: nothing is listed under `training`, so there is nothing to split.")
    if fold is None and fraction == 0:
        return [False] * len(training)
    known = _known_patients(manifest, training)
    kept = [item for item, is_known in zip(training, known, strict=True) if is_known]
    held_out = iter(_split(manifest, kept, fraction, fold, folds, seed))
    return [next(held_out) if is_known else None for is_known in known]


def _first_share(manifest: Manifest, chosen: list[_Listed], fraction: float, seed: int) -> list[_Listed]:
    """The entries of a share of the patients; see :func:`medresnet3d.data.splits.choose_share`."""
    known = _known_patients(manifest, [entry.item for entry in chosen])
    kept = [entry for entry, is_known in zip(chosen, known, strict=True) if is_known]
    patients, classes = [entry.item["patient"] for entry in kept], None
    if manifest.task == "classification" and all("label" in entry.item for entry in kept):
        classes = [entry.item["label"] for entry in kept]
    taken = choose_share(patients, fraction, classes=classes, seed=seed)
    return [entry for entry, is_taken in zip(kept, taken, strict=True) if is_taken]


def _known_patients(manifest: Manifest, training: list[dict[str, Any]]) -> list[bool]:
    """Say for each item whether its patient is known; one that names none at all cannot be split."""
    for number, item in enumerate(training, 1):
        if "patient" not in item:
            raise DataError(
                f"{manifest.where}: entry {number} of `training` has no `patient`, and splitting is done by patient; "
                "name the patient (or the finest honest group) of every entry, or list `validation` yourself."
            )
    known = [bool(item["patient"]) for item in training]
    if not all(known):
        warnings.warn(
            f"{manifest.where}: {known.count(False)} of {len(known)} training entries have an empty `patient` and are "
            "left out of the split, since they could be on both sides of it.",
            stacklevel=4,
        )
    return known


def _split(
    manifest: Manifest, training: list[dict[str, Any]], fraction: float, fold: int | None, folds: int, seed: int
) -> list[bool]:
    """Say for each item of a known patient whether it is held out."""
    if all("fold" in item for item in training):
        own = sorted({item["fold"] for item in training})
        wanted = own[0] if fold is None else fold
        if wanted not in own:
            raise DataError(f"{manifest.where}: no entry has fold {wanted}; the manifest's folds are {own}.")
        return [item["fold"] == wanted for item in training]
    patients = [item["patient"] for item in training]
    classes = None
    if manifest.task == "classification" and manifest.has_truth("training"):
        classes = [item["label"] for item in training]
    if fold is None:
        return choose_validation(patients, fraction, classes=classes, seed=seed)
    if not 0 <= fold < folds:
        raise DataError(f"Fold {fold} does not exist; with {folds} folds the numbers are 0 to {folds - 1}.")
    return [value == fold for value in assign_folds(patients, folds, classes=classes, seed=seed)]


def list_items(manifest: Manifest) -> list[dict[str, Any]]:
    """List everything in a manifest as items, without asking for truth or files; see :func:`items`."""
    everything = _list_all(manifest)
    return [entry.item for name in SECTIONS for entry in everything[name]]


def _list_all(manifest: Manifest) -> dict[str, list[_Listed]]:
    """Make the items of every section, with case names that are unique in the manifest."""
    paths = [_first(entry["image"]) for name in SECTIONS for entry in manifest.sections.get(name, [])]
    names = iter(case_ids(paths))
    result: dict[str, list[_Listed]] = {}
    for section in SECTIONS:
        result[section] = []
        for number, entry in enumerate(manifest.sections.get(section, []), 1):
            # Not `image_path`: MONAI's Spacingd takes every key that begins with `image_` for a dictionary of metadata.
            item = {**entry, "path": entry["image"], "case": next(names)}
            if manifest.task == "segmentation":
                item.pop("label", None)
                if "mask" in entry:
                    item["label"] = entry["mask"]
            result[section].append(_Listed(section, number, item))
    return result


def resolve_entry(entry: Mapping[str, Any], root: Path, task: str, names: tuple[str, ...]) -> dict[str, Any]:
    """Make an entry's paths absolute, its label a number and its patient a string."""
    resolved = dict(entry)
    image = entry["image"]
    resolved["image"] = [str(root / part) for part in image] if isinstance(image, list) else str(root / image)
    if "mask" in entry:
        resolved["mask"] = str(root / entry["mask"])
    if "patient" in entry:
        resolved["patient"] = str(entry["patient"])
    if "label" in entry and task == "classification":
        label = entry["label"]
        resolved["label"] = names.index(label) if isinstance(label, str) else int(label)
    elif "label" in entry and task == "regression":
        resolved["label"] = float(entry["label"])
    return resolved


def _first(image: str | list[str]) -> str:
    return image[0] if isinstance(image, list) else image


def _require_truth(manifest: Manifest, listed: _Listed) -> None:
    key = truth_key(manifest.task)
    if key is not None and key not in listed.item:
        raise DataError(
            f"{manifest.where}: entry {listed.number} of `{listed.section}` has no `{key}`, "
            f"which {manifest.task} needs; add it."
        )


def _require_files(manifest: Manifest, listed: _Listed) -> None:
    for key, path in listed_files(listed.item):
        if not Path(path).exists():
            raise DataError(
                f"{manifest.where}: entry {listed.number} of `{listed.section}`: the {key} {path} does not exist; "
                "correct the path."
            )


def listed_files(entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Give ``(key, path)`` of every file that a resolved entry or item names."""
    image = entry["image"]
    files = [("image", part) for part in (image if isinstance(image, list) else [image])]
    return [*files, ("mask", entry["mask"])] if "mask" in entry else files
