"""MedMNIST v2: small images of 18 kinds in one array file each (Yang et al., Scientific Data 2023)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medresnet3d.data.preparation.cohort import Cohort, DerivedFile, write_png
from medresnet3d.data.preparation.mimics import generator
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.io import atomic_path, save_nifti

PARTS = {"train": "training", "val": "validation", "test": "test"}
_ORGANS_2D = (
    "bladder, left femur, right femur, heart, left kidney, right kidney, liver, left lung, right lung, pancreas, spleen"
)
_ORGANS_3D = (
    "liver, right kidney, left kidney, right femur, left femur, bladder, heart, right lung, left lung, spleen, pancreas"
)
CLASSES = {
    "adrenalmnist3d": "normal, hyperplasia",
    "bloodmnist": "basophil, eosinophil, erythroblast, immature granulocyte, lymphocyte, monocyte, "
    "neutrophil, platelet",
    "breastmnist": "malignant, normal or benign",
    "chestmnist": "atelectasis, cardiomegaly, effusion, infiltration, mass, nodule, pneumonia, pneumothorax, "
    "consolidation, edema, emphysema, fibrosis, pleural, hernia",
    "dermamnist": "akiec, bcc, bkl, df, mel, nv, vasc",
    "fracturemnist3d": "buckle rib fracture, nondisplaced rib fracture, displaced rib fracture",
    "nodulemnist3d": "benign, malignant",
    "octmnist": "choroidal neovascularization, diabetic macular edema, drusen, normal",
    "organamnist": _ORGANS_2D,
    "organcmnist": _ORGANS_2D,
    "organmnist3d": _ORGANS_3D,
    "organsmnist": _ORGANS_2D,
    "pathmnist": "adipose, background, debris, lymphocytes, mucus, smooth muscle, normal colon mucosa, "
    "cancer-associated stroma, colorectal adenocarcinoma epithelium",
    "pneumoniamnist": "normal, pneumonia",
    "retinamnist": "0, 1, 2, 3, 4",
    "synapsemnist3d": "inhibitory synapse, excitatory synapse",
    "tissuemnist": "collecting duct and connecting tubule, distal convoluted tubule, glomerular endothelial cells, "
    "interstitial endothelial cells, leukocytes, podocytes, proximal tubule segments, thick ascending limb",
    "vesselmnist3d": "vessel, aneurysm",
}
"""Class names in the order of the numbers, as MedMNIST's own package lists them."""


def collect(cohort: Cohort, *, name: str = "*", finding: str = "") -> None:
    """List the images of one array file; they are written beside the manifest, as PNG or (3D) NIfTI.

    Args:
        cohort: to fill.
        name: of the file without suffix, where the folder holds several.
        finding: for a set with several findings an image (ChestMNIST): the one to learn, absent or present.
    """
    path = _array_file(cohort, name)
    classes = _classes(path)
    for part, section in PARTS.items():
        images, labels = _arrays(path, part)
        column, cohort.labels = _column(path, labels, classes, finding)
        for number, (image, label) in enumerate(zip(images, labels[:, column], strict=True)):
            cohort.add(
                _file(f"{path.stem}/{part}{number}", image),
                section=section,
                label=cohort.labels[int(label)],
                patient=f"{part}{number}",
            )


def _array_file(cohort: Cohort, name: str) -> Path:
    if cohort.folder.given:
        return cohort.folder.given
    found = cohort.folder.require("MedMNIST array file", f"{name}.npz")
    if len(found) > 1:
        shown = ", ".join(path.stem for path in found)
        raise ConfigError(
            f"{cohort.folder.root}: holds several array files ({shown}); choose one with --set name=NAME."
        )
    return found[0]


def _classes(path: Path) -> list[str]:
    """Class names of a file, which may be called ``adrenalmnist3d_64.npz``; empty for a set that is not known."""
    return [text.strip() for text in CLASSES.get(path.stem.lower().split("_")[0], "").split(",") if text.strip()]


def _arrays(path: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (n, rows, columns[, 3]) or (n, x, y, z), and labels (n, findings), of one part."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: is no MedMNIST array file ({error}); download it again.") from error
    return images, labels.reshape(len(labels), -1).astype(np.int64)


def _column(path: Path, labels: NDArray[np.int64], classes: list[str], finding: str) -> tuple[int, tuple[str, ...]]:
    """Which column of the labels to take, and the names of its values."""
    if labels.shape[1] == 1:
        count = max(int(labels.max()) + 1, 2)
        return 0, tuple(classes) if len(classes) >= count else tuple(str(number) for number in range(count))
    names = classes if len(classes) == labels.shape[1] else [str(number) for number in range(labels.shape[1])]
    if finding not in names:
        raise ConfigError(
            f"{path}: an image may have several findings, of which one is learnt; choose it with "
            f"--set finding=NAME, one of {', '.join(names)}."
        )
    return names.index(finding), (f"no {finding}", finding)


def _file(name: str, image: NDArray[np.uint8]) -> DerivedFile:
    if image.ndim == 3 and image.shape[-1] != 3:
        return DerivedFile(f"images/{name}.nii.gz", lambda path: _save_volume(image, path))
    return DerivedFile(f"images/{name}.png", lambda path: write_png(path, image))


def _save_volume(image: NDArray[np.uint8], path: Path) -> None:
    save_nifti(image, np.eye(4), path)


def mimic(folder: Path, seed: int) -> None:
    """Write a file like AdrenalMNIST3D: N x 28 x 28 x 28 voxels and N x 1 labels in three parts."""
    rng = generator(seed, "medmnist")
    arrays: dict[str, NDArray[np.uint8]] = {}
    for part, count in (("train", 6), ("val", 2), ("test", 2)):
        labels = np.arange(count) % 2
        blocks = rng.integers(0, 60, (count, 28, 28, 28))
        blocks[:, 8:20, 8:20, 8:20] += 60 + 100 * labels[:, None, None, None]
        arrays[f"{part}_images"] = blocks.astype(np.uint8)
        arrays[f"{part}_labels"] = labels[:, None].astype(np.uint8)
    with atomic_path(folder / "adrenalmnist3d.npz") as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)
