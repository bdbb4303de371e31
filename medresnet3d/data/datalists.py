"""Other people's lists of data, turned into manifests: MSD's ``dataset.json`` and MONAI datalists."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

SECTION_NAMES = {
    "training": "training",
    "train": "training",
    "validation": "validation",
    "val": "validation",
    "test": "test",
    "testing": "test",
}
_IMAGE_SUFFIXES = (".nii", ".gz", ".mha", ".mhd", ".nrrd", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm")


def is_foreign(raw: Mapping[str, Any]) -> bool:
    """Say whether ``raw`` is MSD's ``dataset.json`` or a MONAI datalist rather than a manifest of ours."""
    if "task" in raw or not any(isinstance(raw.get(name), list) and raw[name] for name in SECTION_NAMES):
        return False
    if "tensorImageSize" in raw or "numTraining" in raw or isinstance(raw.get("modality"), Mapping):
        return True
    return "name" not in raw or _task(raw) == "segmentation"


def convert(raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Turn MSD's ``dataset.json`` or a MONAI datalist into a manifest.

    Where no patient is named, each image counts as one patient (true for MSD, where a case is a patient).

    Args:
        raw: the parsed JSON.
        path: where it was read from; its folder names a list that has no name.
    """
    task = _task(raw)
    name = raw.get("name")
    manifest: dict[str, Any] = {
        "name": name if isinstance(name, str) and name else path.resolve().parent.name or "data"
    }
    manifest["task"] = task
    for key in ("description", "licence", "labels", "root"):
        if key in raw:
            manifest[key] = raw[key]
    modality = raw.get("modality")
    if modality is not None:
        manifest["modality"] = ", ".join(map(str, modality.values())) if isinstance(modality, Mapping) else modality
    for key, section in SECTION_NAMES.items():
        if isinstance(raw.get(key), list):
            manifest.setdefault(section, []).extend(_entry(entry, task) for entry in raw[key])
    return manifest


def _entry(entry: object, task: str) -> object:
    """Convert one entry; what is no entry at all is left for the schema to refuse."""
    if isinstance(entry, str):
        entry = {"image": entry}
    if not isinstance(entry, Mapping):
        return entry
    converted = dict(entry)
    if task == "segmentation" and "mask" not in converted and isinstance(converted.get("label"), str):
        converted["mask"] = converted.pop("label")
    if "box" in converted:
        converted["boxes"] = converted.pop("box")
    image = converted.get("image")
    first = image[0] if isinstance(image, list) and image else image
    if "patient" not in converted and isinstance(first, str):
        converted["patient"] = Path(first).name.split(".")[0]
    return converted


def _task(raw: Mapping[str, Any]) -> str:
    """Read the task off the first labelled entry."""
    for name in SECTION_NAMES:
        for entry in raw.get(name) or []:
            if not isinstance(entry, Mapping):
                continue
            if "box" in entry or "boxes" in entry:
                return "detection"
            label = entry.get("label")
            if "mask" in entry or (isinstance(label, str) and label.lower().endswith(_IMAGE_SUFFIXES)):
                return "segmentation"
            if isinstance(label, float):
                return "regression"
            if label is not None:
                return "classification"
    return "conversion"
