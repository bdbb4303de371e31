"""Manifests, splits, datasets, public collections and phantoms."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medresnet3d.data.check import Finding, check_manifest
    from medresnet3d.data.dataset import SeededDataset, SeededSampler, data_loader
    from medresnet3d.data.manifest import Manifest, items, load_manifest
    from medresnet3d.data.sources import inputs

__all__ = [
    "Finding",
    "Manifest",
    "SeededDataset",
    "SeededSampler",
    "check_manifest",
    "data_loader",
    "inputs",
    "items",
    "load_manifest",
]

# Loaded on first use: `medresnet3d data` must answer without torch.
_HOMES = {
    "Finding": "check",
    "Manifest": "manifest",
    "SeededDataset": "dataset",
    "SeededSampler": "dataset",
    "check_manifest": "check",
    "data_loader": "dataset",
    "inputs": "sources",
    "items": "manifest",
    "load_manifest": "manifest",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'medresnet3d.data' has no attribute {name!r}")
    return getattr(importlib.import_module(f"medresnet3d.data.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*__all__, *globals()})
