"""Synthetic cohorts without a fault, and the faults that can be planted into them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

COUNT = 12
SHAPE = (26, 24, 10)
SPACING = (0.8, 0.8, 2.5)


def affine_of(spacing: tuple[float, float, float] = SPACING) -> NDArray[np.float64]:
    return np.diag([*spacing, 1.0])


def body(seed: int, shape: tuple[int, int, int] = SHAPE) -> NDArray[np.int16]:
    """A cylinder of soft tissue with a lung in it, in air, with noise, in Hounsfield units."""
    rng = np.random.default_rng(seed)
    i, j, _ = np.indices(shape)
    radius = np.hypot(i - shape[0] / 2, j - shape[1] / 2) / (min(shape[:2]) / 2)
    values = np.select([radius < 0.4, radius < 0.8], [-850.0, 40.0], -1000.0)
    return np.clip(values + rng.normal(0, 12, shape), -1024, 1500).astype(np.int16)


def lung(shape: tuple[int, int, int] = SHAPE) -> NDArray[np.uint8]:
    i, j, _ = np.indices(shape)
    return (np.hypot(i - shape[0] / 2, j - shape[1] / 2) < 0.2 * min(shape[:2])).astype(np.uint8)


def save_scan(path: Path, array: NDArray[Any], affine: NDArray[Any] | None = None) -> None:
    nib.loadsave.save(nib.nifti1.Nifti1Image(array, affine_of() if affine is None else affine), path)


def texture(seed: int, size: tuple[int, int] = (96, 72)) -> Image.Image:
    """A coloured picture with blurred structure, unlike those of other seeds."""
    coarse = np.random.default_rng(seed).integers(30, 225, (9, 12, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


class Cohort:
    """A manifest on disk with its files."""

    def __init__(self, folder: Path, raw: dict[str, Any]) -> None:
        self.folder = folder
        self.path = folder / "manifest.json"
        self.write(raw)

    @property
    def raw(self) -> dict[str, Any]:
        return json.loads(self.path.read_text())

    def write(self, raw: dict[str, Any]) -> None:
        self.path.write_text(json.dumps(raw))

    def change(self, number: int, **values: Any) -> None:
        """Change entry ``number`` (from 1) of the training; ``None`` removes a key."""
        raw = self.raw
        entry = raw["training"][number - 1]
        entry |= values
        raw["training"][number - 1] = {key: value for key, value in entry.items() if value is not None}
        self.write(raw)

    def move(self, number: int, section: str) -> None:
        """Move an entry of the training to the end of another section."""
        raw = self.raw
        raw.setdefault(section, []).append(raw["training"].pop(number - 1))
        self.write(raw)

    def file(self, name: str) -> Path:
        return self.folder / name


def scans(folder: Path) -> Cohort:
    """CT scans with a label map each."""
    entries = []
    for number in range(1, COUNT + 1):
        save_scan(folder / f"s{number}.nii.gz", body(number))
        save_scan(folder / f"m{number}.nii.gz", lung())
        files = {"image": f"s{number}.nii.gz", "mask": f"m{number}.nii.gz"}
        entries.append({**files, "patient": f"patient{number}", "fold": number % 3})
    raw = {"name": "scans", "task": "segmentation", "modality": "CT", "labels": ["background", "lung"]}
    return Cohort(folder, {**raw, "training": entries})


def pictures(folder: Path) -> Cohort:
    """Coloured pictures of two classes."""
    entries = []
    for number in range(1, COUNT + 1):
        texture(number).save(folder / f"p{number}.png")
        patient = {"patient": f"patient{number}", "fold": number % 3}
        entries.append({"image": f"p{number}.png", "label": "ab"[number % 2], **patient})
    raw = {"name": "pictures", "task": "classification", "modality": "dermoscopy", "labels": ["a", "b"]}
    return Cohort(folder, {**raw, "training": entries})


Plant = Callable[[Cohort], None]


def rewritten(number: int, change: Callable[[NDArray[Any]], NDArray[Any]], kind: str = "s") -> Plant:
    """Change the voxels of a scan (or of a mask)."""

    def plant(cohort: Cohort) -> None:
        path = cohort.file(f"{kind}{number}.nii.gz")
        image = nib.loadsave.load(path)
        save_scan(path, change(np.asanyarray(image.dataobj)), image.affine)  # type: ignore[attr-defined]

    return plant


def regridded(number: int, affine: NDArray[Any], shape: tuple[int, int, int] = SHAPE) -> Plant:
    """Write a scan and its mask on another grid."""

    def plant(cohort: Cohort) -> None:
        save_scan(cohort.file(f"s{number}.nii.gz"), body(number, shape), affine)
        save_scan(cohort.file(f"m{number}.nii.gz"), lung(shape), affine)

    return plant


def changed(number: int, **values: Any) -> Plant:
    return lambda cohort: cohort.change(number, **values)


def all_of(*plants: Plant) -> Plant:
    def plant(cohort: Cohort) -> None:
        for one in plants:
            one(cohort)

    return plant


def copied(source: str, target: str) -> Plant:
    return lambda cohort: cohort.file(target).write_bytes(cohort.file(source).read_bytes()) and None


def cut(name: str, share: float) -> Plant:
    """Keep the first part of a file."""

    def plant(cohort: Cohort) -> None:
        content = cohort.file(name).read_bytes()
        cohort.file(name).write_bytes(content[: int(share * len(content))])

    return plant


def picture(number: int, make: Callable[[], Image.Image], suffix: str = ".png") -> Plant:
    """Replace a picture."""

    def plant(cohort: Cohort) -> None:
        make().save(cohort.file(f"p{number}{suffix}"), quality=85)
        cohort.change(number, image=f"p{number}{suffix}")

    return plant
