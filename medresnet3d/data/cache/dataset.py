"""A data set whose deterministic transforms are computed once and kept on disk, in a form that crops read in part."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from monai.data import Dataset, MetaTensor
from monai.transforms import Compose, RandomizableTrait, Transform
from monai.utils import TraceKeys

from medresnet3d.data.cache.crops import crop_entry, is_lazy_crop, voxel_parameters, voxel_sets
from medresnet3d.data.cache.entry import Entry
from medresnet3d.data.cache.files import Identity, identities, item_files
from medresnet3d.data.cache.fingerprint import environment, fingerprint
from medresnet3d.data.cache.folder import CacheFolder
from medresnet3d.data.cache.header import DamagedEntryError
from medresnet3d.data.cache.store import EntryStore, Storage, Verify
from medresnet3d.errors import ConfigError
from medresnet3d.progress import track

CHOICES = {
    "storage": ("auto", "raw", "compressed"),
    "identity": ("stat", "content"),
    "verify": ("once", "always", "never"),
}


class DiskCacheDataset(Dataset):
    """MONAI's ``PersistentDataset`` with results that cannot be stale, and crops that read no more than they need.

    The transforms before the first random one run once for each item; their result is kept in ``cache_dir``, and the
    rest runs on every access. An entry is found by all that it depends on: the item's own values, its files (full
    path, size and time of change, or their content), every parameter and the code of the deterministic transforms
    (:func:`~medresnet3d.data.cache.fingerprint.fingerprint`), and the versions of MONAI, torch, numpy and this
    package. So a changed parameter, an edited transform or a replaced scan is never answered with an old result.
    Files are looked at when an item is first asked for, once in each process.

    Where the first random transform is one of MONAI's crops (``RandSpatialCrop``, ``RandScaleCrop``,
    ``RandSpatialCropSamples``, each also for dictionaries; ``RandCropByPosNegLabeld``, ``RandCropByLabelClassesd``),
    only the crop is read from the volume; voxels, affine, metadata and random state are those of MONAI's own chain.
    The voxels that balanced crops draw from are stored with the item.

    Several processes may share a folder: each entry is computed by one, appears whole, and has checksums; a damaged
    one is made anew with a warning. Where the folder cannot be written, a warning says why, and nothing is cached.
    Nothing is pickled: entries are arrays and JSON.

    Args:
        data: items, as for MONAI's data sets.
        transform: one or several transforms, or a ``Compose``.
        cache_dir: folder, made if need be, for any number of data sets; ``None``:
            :func:`~medresnet3d.data.cache.folder.default_folder`.
        max_bytes: size beyond which the longest unused entries are removed; ``None`` for half of what is free and
            cached on the disk.
        storage: ``raw``, ``compressed`` (in blocks of 32^3), or ``auto``: raw where the whole data set fits so.
        half_precision: store values that are no whole numbers as float16, which rounds them to about three digits.
            Without it every bit comes back, in the smallest type that allows it.
        identity: tell files by ``stat`` or by their ``content``.
        verify: compare an entry with its checksums ``once`` in each process, ``always`` or ``never``.
        name: data set, for ``medresnet3d data cache info``; by default the folder that the items' files lie in.

    Raises:
        ConfigError: if an option has no such value, or a transform's parameter cannot be told from another of its kind.
        DataError: if ``cache_dir`` is a file or ``max_bytes`` not positive.

    Example:
        >>> chain = [LoadVolumed("image"), RandSpatialCropd("image", (96, 96, 96))]  # doctest: +SKIP
        >>> DiskCacheDataset(items, chain, "cache")[0]["image"].shape  # doctest: +SKIP
        torch.Size([1, 96, 96, 96])
    """

    def __init__(
        self,
        data: Sequence[Any],
        transform: Sequence[Callable[..., Any]] | Callable[..., Any] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        *,
        max_bytes: int | None = None,
        storage: Storage = "auto",
        half_precision: bool = False,
        identity: Identity = "stat",
        verify: Verify = "once",
        name: str | None = None,
    ) -> None:
        super().__init__(data, transform)
        for option, value in (("storage", storage), ("identity", identity), ("verify", verify)):
            if value not in CHOICES[option]:
                raise ConfigError(f"{option} is {value!r}; use {', '.join(CHOICES[option])}.")
        self.transform = self.transform.flatten()
        self.identity = identity
        self._first_random = first_random(self.transform)
        following = self.transform.transforms[self._first_random : self._first_random + 1]
        self._crop = following[0] if following and is_lazy_crop(following[0], self.transform) else None
        self._chain_key = self._key_of_chain(half_precision)
        self._keys: dict[int, str] = {}
        self._store = EntryStore(
            CacheFolder(cache_dir, max_bytes), name or _folder_name(data), storage, len(data), half_precision, verify
        )

    @property
    def folder(self) -> CacheFolder:
        """The folder that the entries lie in."""
        return self._store.folder

    def set_data(self, data: Sequence[Any]) -> None:
        """Go on with other items. What is cached of the former ones stays, for it may be asked for again."""
        self.data = data
        self._keys = {}
        self._store.items = len(data)

    def fill(self) -> None:
        """Compute what is not cached yet, with a progress bar."""
        for index in track(list(range(len(self.data))), "filling the cache"):
            self.ensure(index)

    def ensure(self, index: int) -> None:
        """Compute item ``index`` if it is not cached yet."""
        if self._first_random:
            self._get(index)

    def prefix(self, index: int) -> Any:
        """Return item ``index`` as the deterministic transforms leave it; every call gives new objects."""
        if self._first_random == 0:
            return deepcopy(self.data[index])
        entry, item = self._get(index)
        if entry is not None:
            try:
                return entry.value()
            except DamagedEntryError as error:
                return self._without(index, error)
        return item

    def _key_of_chain(self, half_precision: bool) -> str:
        prefix = self.transform.transforms[: self._first_random]
        flags = [self.transform.lazy, self.transform.map_items, self.transform.unpack_items, self.transform.overrides]
        parts = [environment(), prefix, flags, half_precision]
        return fingerprint([*parts, {} if self._crop is None else voxel_parameters(self._crop)])

    def _key(self, index: int) -> str:
        if index not in self._keys:
            item = self.data[index]
            parts = [self._chain_key, fingerprint(item), identities(item, self.identity)]
            self._keys[index] = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        return self._keys[index]

    def _compute(self, index: int) -> Any:
        item = self.transform(deepcopy(self.data[index]), end=self._first_random, threading=True)
        _forget_object_numbers(item)
        return item

    def _get(self, index: int) -> tuple[Entry | None, Any]:
        return self._store.get(
            self._key(index), lambda: self._compute(index), lambda item: voxel_sets(self._crop, item)
        )

    def _transform(self, index: int) -> Any:
        if index < 0:
            index += len(self.data)
        if self._crop is not None and self._first_random:
            entry, item = self._get(index)
            if entry is None:
                return self.transform(item, start=self._first_random)
            try:
                cropped = crop_entry(entry, self._crop, self.transform)
            except DamagedEntryError as error:
                return self.transform(self._without(index, error), start=self._first_random)
            if cropped is not None:
                return self.transform(cropped, start=self._first_random + 1)
        return self.transform(self.prefix(index), start=self._first_random)

    def _without(self, index: int, error: Exception) -> Any:
        """Item ``index`` computed, since its entry turned out damaged while it was read."""
        self._store.discard(self._key(index), error)
        return self._compute(index)


def first_random(chain: Compose) -> int:
    """Return the position of the first transform of a flat chain whose result is not the same each time."""
    found = chain.get_index_of_first(
        lambda each: isinstance(each, RandomizableTrait) or not isinstance(each, Transform)
    )
    return len(chain.transforms) if found is None else found


def _forget_object_numbers(value: Any) -> None:
    """Take out which objects in memory have transformed a tensor, so that others of their kind can invert it.

    As MONAI's ``reset_ops_id``, which turns tuples into lists besides.
    """
    if isinstance(value, MetaTensor):
        _forget_object_numbers(value.applied_operations)
    elif isinstance(value, dict):
        if TraceKeys.ID in value:
            value[TraceKeys.ID] = TraceKeys.NONE
        for each in value.values():
            _forget_object_numbers(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            _forget_object_numbers(each)


def _folder_name(data: Sequence[Any]) -> str:
    """Name of the folder that the files of the first items lie in."""
    files = [os.path.realpath(file) for i in range(min(len(data), 20)) for file in item_files(data[i])]
    if not files:
        return "unnamed"
    common = Path(os.path.commonpath(files))
    return (common if common.is_dir() else common.parent).name or "unnamed"
