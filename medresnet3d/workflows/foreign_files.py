"""Bundles that read and write files by themselves: they run as ``monai.bundle run`` would, on one case at a time."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from medresnet3d.errors import BundleError
from medresnet3d.io import Volume, load, save_nifti
from medresnet3d.io.reading import ITK_SUFFIXES, NIFTI_SUFFIXES, known_suffix
from medresnet3d.workflows.bundle_parts import Answer, Item
from medresnet3d.workflows.foreign_config import ForeignConfig
from medresnet3d.workflows.foreign_errors import quiet_engine
from medresnet3d.workflows.foreign_outputs import file_name, make_answer
from medresnet3d.workflows.foreign_parts import ForeignParts
from medresnet3d.workflows.foreign_rewrite import components, short_name

FILES = "files"
_RUN = ("run", "evaluating", "evaluate", "inference", "inferring", "infer", "eval", "testing")
_STEPS = (("initialize",), _RUN, ("finalize",))
_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")

Runner = Callable[[Sequence[Path], Path], None]
"""Answers the case in some files, and writes into a folder."""


@dataclass
class FileParts(ForeignParts):
    """A bundle from elsewhere that is run as a whole.

    Args:
        runner: runs it.
    """

    runner: Runner | None = None

    def prepare(self, item: Item) -> Item:
        """Keep the volumes of a case; they become files when the bundle runs."""
        volumes = item["image"] if isinstance(item["image"], list) else [item["image"]]
        return {**item, FILES: volumes}

    def input_tensor(self, data: Mapping[str, Any]) -> MetaTensor:
        """Give the first volume, (1, i, j, k)."""
        first: Volume = data[FILES][0]
        return MetaTensor(
            torch.from_numpy(np.ascontiguousarray(first.array, np.float32))[None], torch.as_tensor(first.affine)
        )

    def run(self, data: Item) -> Any:
        """Run the bundle on the case and read what it wrote."""
        assert self.runner is not None
        with tempfile.TemporaryDirectory(prefix="medresnet3d-") as folder:
            given, made = Path(folder) / "in", Path(folder) / "out"
            given.mkdir()
            made.mkdir()
            files = [_as_file(volume, given / f"case_{index}") for index, volume in enumerate(data[FILES])]
            with self._computing(), quiet_engine():
                self.runner(files, made)
            return read_results(made)

    def finish(self, data: Item, output: Any, volumes: Sequence[Volume]) -> Answer:
        """Make the answer of the files that were written."""
        if not output:
            raise BundleError(f"{self.bundle}: it ran to its end but wrote no result into its output folder.")
        return make_answer(output, volumes[0], self.meaning, self.name)


def _as_file(volume: Volume, stem: Path) -> Path:
    """Give a file of the volume that any reader knows: its own where it is one, a NIfTI file otherwise."""
    path = volume.source.path
    if (
        path is not None
        and path.is_file()
        and (known_suffix(path) in NIFTI_SUFFIXES + ITK_SUFFIXES or path.suffix.lower() in _PICTURES)
    ):
        copy = stem.with_name(f"{stem.name}_{path.name}")
        shutil.copyfile(path, copy)
        return copy
    return save_nifti(volume.array, volume.affine, stem.with_name(f"{stem.name}.nii.gz"))


def config_runner(
    path: Path, overrides: Mapping[str, Any] | Iterable[str], device: str, extra: Mapping[str, Any]
) -> Runner:
    """Give a runner that parses a bundle's configuration anew for each case, with the case as its data set.

    Args:
        path: bundle folder.
        overrides: values of ids.
        device: where to compute.
        extra: what the items of its data set hold besides the image.
    """

    def run(files: Sequence[Path], output: Path) -> None:
        config = ForeignConfig(path, overrides, device, output, hand_over=False)
        texts = [str(file) for file in files]
        item = {**extra, "image": texts[0] if len(texts) == 1 else texts}
        if "datalist" in config.parser:
            config.parser["datalist"] = texts
        for key, node in list(config.components()):
            if short_name(node).endswith("Dataset") and "data" in node:
                config.parser[f"{key}::data"] = texts if _takes_paths(node, config) else [item]
            elif short_name(node).endswith("DataLoader"):
                config.parser[f"{key}::num_workers"] = 0
        steps = [next((name for name in names if name in config.parser), None) for names in _STEPS]
        if steps[1] is None:
            raise BundleError(
                f"{path}: {', '.join(config.files)} in configs/ has no `run`, so nothing says how it runs."
            )
        for step in steps:
            if step is not None:
                config.build(step)

    return run


def _takes_paths(dataset: Mapping[str, Any], config: ForeignConfig) -> bool:
    """Whether the transforms of a data set load a path and not an item with keys."""
    transform = dataset.get("transform")
    if isinstance(transform, str) and transform.startswith("@"):
        transform = config.parser.get(transform[1:].replace("#", "::"))
    return any(short_name(node) == "LoadImage" for _, node in components(transform))


def read_results(folder: Path) -> dict[str, Any]:
    """Read the files that a bundle wrote, images first; their names are shortened where there is only one image."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    images = {file: _read_image(file) for file in files if _is_image(file)}
    results: dict[str, Any] = {}
    for file, value in images.items():
        results["pred" if len(images) == 1 else file_name(file.name.partition(".")[0])] = value
    for file in files:
        if file.suffix.lower() == ".json":
            results[file_name(file.stem)] = json.loads(file.read_text(encoding="utf-8"))
        elif file.suffix.lower() == ".csv":
            with file.open(encoding="utf-8", newline="") as handle:
                results[file_name(file.stem)] = list(csv.reader(handle))
    return results


def _is_image(file: Path) -> bool:
    return known_suffix(file) in NIFTI_SUFFIXES + ITK_SUFFIXES or file.suffix.lower() in (".npy", ".png")


def _read_image(file: Path) -> Any:
    """Read (K, i, j, k) with its affine where the file has one."""
    if known_suffix(file) in NIFTI_SUFFIXES:
        image: Any = nib.loadsave.load(file)
        values = np.asarray(image.dataobj)
        values = np.moveaxis(values.reshape(*values.shape[:3], -1), -1, 0)
        return MetaTensor(
            torch.from_numpy(np.ascontiguousarray(values, np.float32)), affine=torch.as_tensor(image.affine)
        )
    if known_suffix(file) in ITK_SUFFIXES:
        volume = load(file, constant_ok=True)
        return _tensor(volume.array[None], volume.affine)
    if file.suffix.lower() == ".npy":
        return np.load(file, allow_pickle=False)
    from PIL import Image

    with Image.open(file) as picture:
        values = np.asarray(picture)
    return np.moveaxis(values.reshape(*values.shape[:2], -1), (2, 1, 0), (0, 1, 2))


def _tensor(values: NDArray[Any], affine: Any) -> MetaTensor:
    plain = torch.from_numpy(np.ascontiguousarray(values, np.float32))
    return MetaTensor(plain, affine=torch.as_tensor(np.asarray(affine)))
