"""The shipped bundles, read from their folders: a bundle folder is the registry, there is no second list in code.

Nothing here imports torch, monai or numpy, so that ``medresnet3d bundle list`` answers at once.
"""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from medresnet3d.errors import BundleError
from medresnet3d.names import did_you_mean

WEIGHT_FILES = ("models/model.pt", "models/model.safetensors")
METADATA = "configs/metadata.json"


@dataclass(frozen=True)
class BundleInfo:
    """What ``bundle list`` shows of one bundle.

    Args:
        name: folder name, the name that every command takes.
        path: absolute folder.
        system: identifier of the published system, e.g. ``"B4"``.
        task: ``"segmentation"``, ``"classification"``, ``"regression"``, ``"detection"`` or ``"conversion"``.
        modality: imaging modality, e.g. ``"MR"``.
        version: version of the bundle.
        description: one sentence.
        has_weights: whether trained weights are in the folder.
    """

    name: str
    path: Path
    system: str
    task: str
    modality: str
    version: str
    description: str
    has_weights: bool


@cache
def bundles_root() -> Path:
    """The folder of the package's own bundles (in the checkout, or installed as ``medresnet3d._bundles``).

    Raises:
        BundleError: if the package was installed without its bundles.
    """
    spec = importlib.util.find_spec("medresnet3d._bundles")
    if spec is None or not spec.submodule_search_locations:
        raise BundleError("The bundles are not installed with medresnet3d; reinstall the package with pip.")
    return Path(next(iter(spec.submodule_search_locations))).resolve()


def is_own_bundle(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` is one of the package's own bundle folders (symbolic links are followed first)."""
    return Path(path).resolve().parent == bundles_root()


def bundle_names() -> list[str]:
    """Names of the package's own bundles, sorted."""
    return sorted(folder.parent.parent.name for folder in bundles_root().glob(f"*/{METADATA}"))


def find_bundle(name_or_path: str | os.PathLike[str]) -> Path:
    """The absolute folder of a bundle.

    Args:
        name_or_path: a name from ``bundle list``, or a bundle folder (recognised by ``configs/metadata.json``), or a
            RUN folder of ``train`` (its ``bundle`` folder is taken). A name of the package wins over a folder of the
            same name in the current directory; write ``./name`` for the folder.

    Raises:
        BundleError: if there is no such bundle; the message names the nearest.
    """
    text = os.fspath(name_or_path)
    if text in bundle_names():
        return bundles_root() / text
    folder = Path(text).expanduser()
    for candidate in (folder, folder / "bundle"):
        if _has_metadata(candidate):
            return candidate.resolve()
    raise BundleError(_not_found(text, folder))


def _has_metadata(folder: Path) -> bool:
    return any((folder / "configs" / f"metadata.{suffix}").is_file() for suffix in ("json", "yaml", "yml"))


def _not_found(text: str, folder: Path) -> str:
    if folder.is_dir():
        return f"{text}: this folder is not a bundle (it has no {METADATA}); give a bundle folder or a name."
    names = bundle_names()
    hint = did_you_mean(text, names, f"known bundles: {', '.join(names) or 'none'}.", 0.4)
    return f"No bundle is called {text!r}, and there is no such folder; {hint}"


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a bundle's ``configs/metadata.json`` (or ``.yaml``), as it is in the file.

    Raises:
        BundleError: if it is missing or not a JSON/YAML object.
    """
    folder = Path(path) / "configs"
    for file in (folder / "metadata.json", folder / "metadata.yaml", folder / "metadata.yml"):
        if file.is_file():
            metadata = read_file(file)
            if not isinstance(metadata, dict):
                raise BundleError(f"{file}: the metadata must be an object of names and values.")
            return metadata
    raise BundleError(f"{folder / 'metadata.json'} is missing; a bundle needs this file.")


def read_file(file: Path) -> Any:
    """The content of a JSON or YAML file as plain values; nothing in it is evaluated.

    Raises:
        BundleError: if it cannot be read.
    """
    try:
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".json":
            return json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{file}: cannot be read as JSON ({error}); repair or replace it.") from error
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BundleError(f"{file}: cannot be read as YAML ({error}); repair or replace it.") from error


def weights_file(path: str | os.PathLike[str]) -> Path | None:
    """The trained weights in a bundle folder, or ``None``."""
    for name in WEIGHT_FILES:
        file = Path(path) / name
        if file.is_file():
            return file
    return None


def describe(path: str | os.PathLike[str]) -> BundleInfo:
    """What is known of the bundle in folder ``path`` from its metadata.

    Raises:
        BundleError: if the metadata cannot be read.
    """
    folder = Path(path).resolve()
    metadata = read_metadata(folder)
    return BundleInfo(
        name=folder.name,
        path=folder,
        system=str(metadata.get("system", "")),
        task=str(metadata.get("task", "")),
        modality=str(metadata.get("modality", "")),
        version=str(metadata.get("version", "")),
        description=str(metadata.get("description", "")),
        has_weights=weights_file(folder) is not None,
    )


def list_bundles() -> list[BundleInfo]:
    """The package's own bundles, sorted by name."""
    return [describe(bundles_root() / name) for name in bundle_names()]
