"""What makes a manifest sound: the schema, and the rules that a schema cannot say, as one sentence for each breach."""

from __future__ import annotations

import difflib
import functools
import importlib.resources
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from medresnet3d.data.cases import natural_key
from medresnet3d.names import did_you_mean

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

SECTIONS = ("training", "validation", "test")
SECTION_NAMES = {
    **dict.fromkeys(("train", "training", "tr"), "training"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "ts"), "test"),
}
"""What tables and folders call the sections."""
_TRUTH = {"classification": "label", "regression": "label", "segmentation": "mask", "detection": "boxes"}
_TYPES = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "array": "a list",
    "object": "an object",
    "boolean": "true or false",
}


@dataclass(frozen=True)
class Problem:
    """One breach of the rules: where it is, what is wrong and what to do, and the patient whom the text names."""

    where: str
    text: str
    kind: str = "schema"
    patient: str = ""

    def __str__(self) -> str:
        """Give the sentence."""
        return f"{self.where}: {self.text}" if self.where else self.text


def truth_key(task: str) -> str | None:
    """The entry's key that holds the truth of ``task``; ``None`` for a task without truth."""
    return _TRUTH.get(task)


def class_names(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """The class names in index order: from ``labels``, or for classification from the entries' own labels.

    Without ``labels``, names are sorted as a person would sort them, and class numbers name themselves.
    """
    labels = raw.get("labels")
    if isinstance(labels, Mapping):
        return tuple(labels[key] for key in sorted(labels, key=int))
    if labels is not None:
        return tuple(labels)
    if raw["task"] != "classification":
        return ()
    used = [entry["label"] for _, _, entry in entries(raw) if "label" in entry]
    if all(isinstance(label, str) for label in used):
        return tuple(sorted(set(used), key=natural_key))
    numbers = [label for label in used if isinstance(label, int | float) and math.isfinite(label)]
    return tuple(str(index) for index in range(int(max(numbers, default=-1)) + 1))


def entries(raw: Mapping[str, Any]) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Yield section, number (from 1) and entry of everything listed."""
    for section in SECTIONS:
        for number, entry in enumerate(raw.get(section) or [], 1):
            yield section, number, entry


@functools.cache
def manifest_schema() -> dict[str, Any]:
    """The JSON Schema that every manifest must satisfy."""
    text = importlib.resources.files("medresnet3d._data_manifests").joinpath("manifest.schema.json").read_text("utf-8")
    return json.loads(text)


def problems(raw: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield every problem of a manifest, in stages: a later stage is asked only where the earlier ones found nothing.

    Args:
        raw: the manifest as JSON.
    """
    for stage in (schema_problems, _misspelt_keys, _listing_problems, _content_problems):
        sound = True
        for problem in stage(raw):
            sound = False
            yield problem
        if not sound:
            return


def schema_problems(raw: Mapping[str, Any]) -> Iterator[Problem]:
    """Find what the schema forbids."""
    from jsonschema import Draft202012Validator

    for error in Draft202012Validator(manifest_schema()).iter_errors(raw):
        yield _schema_problem(error)


def _listing_problems(raw: Mapping[str, Any]) -> Iterator[Problem]:
    if not any(True for _ in entries(raw)):
        yield Problem("", "lists nothing; add at least one entry to `training`, `validation` or `test`.", "empty")
    yield from _label_list_problems(raw)


def _content_problems(raw: Mapping[str, Any]) -> Iterator[Problem]:
    yield from _truth_problems(raw)
    yield from _patient_problems(raw)


def place(section: str, number: int, image: object = None, noun: str = "entry") -> str:
    """Name an entry: its section, its number (from 1; the line of a table) and its image."""
    name = f" ({image[0] if isinstance(image, list) else image})" if image else ""
    return f"{noun} {number} of `{section}`{name}"


def _schema_problem(error: ValidationError) -> Problem:
    """Say in one sentence what the schema found."""
    path = list(error.absolute_path)
    where, key = "", ""
    if len(path) >= 2 and path[0] in SECTIONS and isinstance(path[1], int):
        where = place(str(path[0]), path[1] + 1)
        path = path[2:]
    if path:
        key = f"`{path[0]}` "
    shown = json.dumps(error.instance, ensure_ascii=False, default=str)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        return Problem(where, _missing(missing, error.instance, error.schema.get("properties", {})))
    if error.validator == "anyOf":
        close = _closest_of(error.instance, SECTIONS)
        hint = f"rename `{close[0]}` to `{close[1]}`" if close else "add at least one of them"
        return Problem(where, f"none of the lists `training`, `validation` and `test` is there; {hint}.")
    if error.validator == "enum":
        hint = did_you_mean(
            str(error.instance), error.validator_value, f"use one of {', '.join(error.validator_value)}."
        )
        return Problem(where, f"{key}is {shown}; {hint}")
    if error.validator == "type":
        kinds = error.validator_value if isinstance(error.validator_value, list) else [error.validator_value]
        return Problem(where, f"{key}is {shown} but must be {' or '.join(_TYPES[kind] for kind in kinds)}.".lstrip())
    meaning = error.schema.get("description", "")
    hint = f"; it must be: {meaning[0].lower()}{meaning[1:]}" if meaning else f" ({error.message})."
    return Problem(where, f"{key}is {shown}, which cannot be used{hint}")


def _missing(name: str, there: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, [key for key in there if key not in known], 1, 0.75)
    return f"has no `{name}`; " + (f"rename `{close[0]}` to `{name}`." if close else "add it.")


def _closest_of(there: Mapping[str, Any], wanted: tuple[str, ...]) -> tuple[str, str] | None:
    for name in wanted:
        close = difflib.get_close_matches(name, list(there), 1, 0.75)
        if close:
            return close[0], name
    return None


def _misspelt_keys(raw: Mapping[str, Any]) -> Iterator[Problem]:
    """Find keys such as "lable": nearly a known name that is itself absent. Other keys are carried along."""
    schema = manifest_schema()
    yield from _misspelt("", raw, schema["properties"])
    for section, number, entry in entries(raw):
        yield from misspelt_keys(place(section, number, entry["image"]), entry)


def misspelt_keys(where: str, keys: Mapping[str, Any]) -> Iterator[Problem]:
    """Find keys of an entry (or columns of a table) that are nearly a known key, which is itself absent."""
    return _misspelt(where, keys, manifest_schema()["$defs"]["entry"]["properties"])


def _misspelt(where: str, there: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[Problem]:
    absent = [name for name in known if name not in there]
    for key in there:
        if key in known or key == "license" or not key.isalpha():
            continue
        close = difflib.get_close_matches(key.lower(), absent, 1, 0.8)
        if close:
            yield Problem(where, f"the key `{key}` is unknown; rename it to `{close[0]}`.", "key")


def _label_list_problems(raw: Mapping[str, Any]) -> Iterator[Problem]:
    labels = raw.get("labels")
    if not isinstance(labels, Mapping):
        return
    if sorted(map(int, labels)) != list(range(len(labels))):
        found = ", ".join(sorted(labels, key=int))
        yield Problem("", f"`labels` names the numbers {found}; number the classes 0, 1, 2 … without gaps.", "labels")
    elif len(set(labels.values())) < len(labels):
        yield Problem("", "`labels` gives two numbers the same name; name each class differently.", "labels")


def _truth_problems(raw: Mapping[str, Any]) -> Iterator[Problem]:
    """Check each entry's truth for the task, and that within a section all entries have it or none."""
    key = truth_key(raw["task"])
    if key is None:
        return
    known = raw.get("labels")
    names = class_names({**raw, "labels": list(known.values()) if isinstance(known, Mapping) else known})
    used = {isinstance(entry.get("label"), str) for _, _, entry in entries(raw) if "label" in entry}
    if known is None and raw["task"] == "classification" and len(used) == 2:
        yield Problem("", "some labels are names and some are numbers; use one of the two or add `labels`.", "labels")
        return
    having = {section for section, _, entry in entries(raw) if key in entry}
    for section, number, entry in entries(raw):
        text = truth_breach(section, entry, raw["task"], names, section in having)
        if text:
            yield Problem(place(section, number, entry["image"]), text, "truth")


def truth_breach(section: str, entry: Mapping[str, Any], task: str, names: tuple[str, ...], wanted: bool) -> str | None:
    """Say what is wrong with the truth of one entry, if anything.

    Args:
        section: where it is listed.
        entry: as the manifest has it.
        task: of the manifest.
        names: the classes.
        wanted: whether other entries of the section have their truth.
    """
    key = truth_key(task)
    if key is None:
        return None
    if key not in entry and wanted:
        return f"has no `{key}`, but other entries of `{section}` have one; add it."
    if key not in entry and task == "segmentation" and isinstance(entry.get("label"), str):
        return "gives its map as `label`; segmentation entries name it `mask`."
    if task == "detection":
        return _boxes_breach(entry, names)
    return _label_breach(entry["label"], task, names) if key == "label" and key in entry else None


def _label_breach(label: object, task: str, names: tuple[str, ...]) -> str | None:
    """Say what is wrong with one entry's label, if anything."""
    if task == "regression":
        if isinstance(label, int | float) and math.isfinite(label):
            return None
        return f"`label` is {label!r}, but regression needs a finite number; correct it."
    if isinstance(label, str):
        if label in names:
            return None
        hint = did_you_mean(label, names, "correct it or add it to `labels`.")
        return f"`label` is {label!r}, which is none of the classes {_listing(names)}; {hint}"
    if isinstance(label, int | float) and math.isfinite(label) and label == int(label) and 0 <= label < len(names):
        return None
    return f"`label` is {label!r}, but the {len(names)} classes have the numbers 0 to {len(names) - 1}; correct it."


def _boxes_breach(entry: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """Say what is wrong with one entry's boxes and their labels, if anything."""
    for key in ("boxes", "excluded_boxes"):
        for box in entry.get(key) or ():
            half = len(box) // 2
            if len(box) not in (4, 6) or not all(map(math.isfinite, box)):
                return f"`{key}` has {box}; give x0, y0, z0, x1, y1, z1 in mm (RAS+), or x0, y0, x1, y1 in pixels."
            if any(high < low for low, high in zip(box[:half], box[half:], strict=True)):
                return f"`{key}` has {box}; the lowest corner of a box comes first (in mm of RAS+, not of LPS)."
    return _box_labels_breach(entry, names)


def _box_labels_breach(entry: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    labels, boxes = entry.get("label"), entry.get("boxes") or ()
    if not isinstance(labels, list):
        return None
    if len(labels) != len(boxes):
        return f"has {len(boxes)} `boxes` and {len(labels)} `label`s; give one label for each box."
    unknown = next((label for label in labels if isinstance(label, str) and names and label not in names), None)
    if unknown is None:
        return None
    hint = did_you_mean(unknown, names, "correct it or add it to `labels`.")
    return f"`label` has {unknown!r}, which is none of the classes {_listing(names)}; {hint}"


def _listing(names: tuple[str, ...]) -> str:
    return ", ".join(names[:12]) + (" …" if len(names) > 12 else "")


def _patient_problems(raw: Mapping[str, Any]) -> Iterator[Problem]:
    several = sum(bool(raw.get(section)) for section in SECTIONS) > 1
    listed = (
        Membership(place(section, number, entry["image"]), section, number, entry.get("patient"), entry.get("fold"))
        for section, number, entry in entries(raw)
    )
    return patient_problems(listed, several)


class Membership(NamedTuple):
    """Where an entry is listed and whom it belongs to."""

    where: str
    section: str
    number: int
    patient: str | int | None
    fold: int | None


def patient_problems(listed: Iterable[Membership], several: bool, noun: str = "entry") -> Iterator[Problem]:
    """Find patients on two sides of a split, and entries that name none although they are split.

    Args:
        listed: the entries, in any order; what is remembered grows with the number of patients.
        several: whether the manifest has several sections.
        noun: what an entry with its number is called.
    """
    seen: dict[str, tuple[str, int]] = {}
    folds: dict[str, tuple[int, int]] = {}
    for where, section, number, name, fold in listed:
        if name in (None, ""):
            if several or fold is not None:
                reason = "the manifest has several sections" if several else "it has a `fold`"
                yield Problem(where, f"has no `patient`, which is needed because {reason}; add it.", "patient")
            continue
        patient = str(name)
        first = seen.setdefault(patient, (section, number))
        if first[0] != section:
            text = f"patient {patient!r} is already in `{first[0]}` ({noun} {first[1]})"
            yield Problem(where, f"{text}; a patient may be in one section only.", "leakage", patient)
        elif fold is not None:
            other = folds.setdefault(patient, (fold, number))
            if other[0] != fold:
                text = f"patient {patient!r} is in fold {fold} here and in fold {other[0]} in {noun} {other[1]}"
                yield Problem(where, f"{text}; a patient may be in one fold only.", "leakage", patient)
