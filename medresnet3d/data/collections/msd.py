"""Medical Segmentation Decathlon: ten tasks with one ``dataset.json`` each (Antonelli et al., Nat. Commun. 2022)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medresnet3d.data.cases import stem
from medresnet3d.data.preparation.cohort import IMAGE_MISSING, MASK_MISSING, Cohort, DerivedFile
from medresnet3d.data.preparation.mimics import generator
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.io import atomic_path, atomic_write_text, save_nifti


def collect(cohort: Cohort, *, name: str = "*") -> None:
    """List the cases of one task; an image of four dimensions is written as one file for each modality.

    Args:
        cohort: to fill.
        name: folder of the task (``Task04_Hippocampus``), where there are several.
    """
    path = _dataset_file(cohort, name)
    listed = _read(path)
    cohort.labels = tuple(listed["labels"][key] for key in sorted(listed["labels"], key=int))
    modalities = [listed["modality"][key] for key in sorted(listed.get("modality", {}), key=int)]
    if len(cohort.labels) < 2:
        raise DataError(f"{path}: `labels` names no class beside the background; download the task again.")
    for entry in listed.get("training", []):
        image, mask = path.parent / entry["image"], path.parent / entry["label"]
        if not image.is_file() or not mask.is_file():
            cohort.drop(MASK_MISSING if image.is_file() else IMAGE_MISSING, image.name)
            continue
        cohort.add(_channels(image.resolve(), modalities), patient=stem(image), mask=mask.resolve())
    for entry in listed.get("test", []):
        image = path.parent / (entry["image"] if isinstance(entry, Mapping) else entry)
        if not image.is_file():
            cohort.drop(IMAGE_MISSING, image.name)
            continue
        cohort.add(_channels(image.resolve(), modalities), section="test", patient=stem(image))


def _dataset_file(cohort: Cohort, name: str) -> Path:
    if cohort.folder.given:
        return cohort.folder.given
    found = cohort.folder.require("dataset.json", f"{name}/dataset.json")
    if len(found) > 1:
        shown = ", ".join(path.parent.name for path in found)
        raise ConfigError(f"{cohort.folder.root}: holds several tasks ({shown}); choose one with --set name=FOLDER.")
    return found[0]


def _read(path: Path) -> dict[str, Any]:
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}); download the task again.") from error
    if not isinstance(listed, dict) or not isinstance(listed.get("labels"), dict):
        raise DataError(f"{path}: has no `labels`; this is not the dataset.json of a decathlon task.")
    return listed


def _channels(image: Path, modalities: list[str]) -> Any:
    """The file itself, or one derived file for each modality of an image of four dimensions."""
    shape: tuple[int, ...] = nib.nifti1.Nifti1Image.from_filename(image).shape if len(modalities) > 1 else ()
    if len(shape) < 4:
        return image
    return [
        DerivedFile(f"images/{stem(image)}_{channel:04d}.nii.gz", partial(_save_channel, image, channel))
        for channel in range(shape[3])
    ]


def _save_channel(image: Path, channel: int, path: Path) -> None:
    volume = nib.nifti1.Nifti1Image.from_filename(image)
    save_nifti(np.asarray(volume.dataobj[..., channel]), volume.affine, path)


def mimic(folder: Path, seed: int) -> None:
    """Write a task of six labelled cases of two modalities and one test case, with macOS leftovers beside them."""
    rng = generator(seed, "msd")
    task = folder / "Task05_Prostate"
    training, names = [], [f"prostate_{case:02d}.nii.gz" for case in range(7)]
    for name in names:
        mask = np.zeros((16, 16, 8), np.uint8)
        mask[4:8, 4:12, 2:6], mask[8:12, 4:12, 2:6] = 1, 2
        image = rng.integers(0, 50, (16, 16, 8, 2)) + 100 * mask[..., None]
        if name == names[-1]:
            _save(task / "imagesTs" / name, image.astype(np.int16))
            continue
        _save(task / "imagesTr" / name, image.astype(np.int16))
        _save(task / "labelsTr" / name, mask)
        atomic_write_text(task / "imagesTr" / f"._{name}", "Mac OS X")
        training.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    listed = {
        "name": "PROSTATE",
        "modality": {"0": "T2", "1": "ADC"},
        "labels": {"0": "background", "1": "PZ", "2": "TZ"},
        "numTraining": 6,
        "numTest": 1,
        "training": training,
        "test": [f"./imagesTs/{names[-1]}"],
    }
    atomic_write_text(task / "dataset.json", json.dumps(listed, indent=1))


def _save(path: Path, array: NDArray[Any]) -> None:
    """Write 3 mm slices of 1 mm pixels; :func:`medresnet3d.io.save_nifti` writes no four dimensions."""
    with atomic_path(path) as temporary:
        nib.nifti1.Nifti1Image(array, np.diag([1.0, 1.0, 3.0, 1.0])).to_filename(temporary)
