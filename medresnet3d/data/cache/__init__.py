"""A cache on disk that is keyed by all that its content depends on, and of which a random crop reads only its part."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medresnet3d._lazy import lazy_names

if TYPE_CHECKING:
    from medresnet3d.data.cache.dataset import DiskCacheDataset
    from medresnet3d.data.cache.folder import CacheFolder, default_folder

__all__ = ["CacheFolder", "DiskCacheDataset", "default_folder"]

# Loaded on first use: `medresnet3d data cache` must answer without torch.
_HOMES = {
    "CacheFolder": "folder",
    "DiskCacheDataset": "dataset",
    "default_folder": "folder",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
