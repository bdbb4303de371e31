"""Manifests, splits, datasets, public collections and phantoms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medresnet3d._lazy import lazy_names

if TYPE_CHECKING:
    from medresnet3d.data.cache.dataset import DiskCacheDataset
    from medresnet3d.data.checking.cohort import check_manifest
    from medresnet3d.data.checking.findings import Finding
    from medresnet3d.data.dataset import SeededDataset, SeededSampler, data_loader
    from medresnet3d.data.manifest import Manifest, items, load_manifest
    from medresnet3d.data.sources import inputs

__all__ = [
    "DiskCacheDataset",
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
    "Finding": "checking.findings",
    "DiskCacheDataset": "cache.dataset",
    "Manifest": "manifest",
    "SeededDataset": "dataset",
    "SeededSampler": "dataset",
    "check_manifest": "checking.cohort",
    "data_loader": "dataset",
    "inputs": "sources",
    "items": "manifest",
    "load_manifest": "manifest",
}


__getattr__, __dir__ = lazy_names(__name__, _HOMES)
