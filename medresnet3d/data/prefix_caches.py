"""Where the results of a chain's deterministic transforms are kept: nowhere, in memory, or on disk."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset, PersistentDataset, SmartCacheDataset
from monai.transforms import Compose
from monai.utils import enums
from torch.serialization import safe_globals

from medresnet3d.data.cache.dataset import DiskCacheDataset, first_random
from medresnet3d.data.cache.files import identities
from medresnet3d.data.cache.fingerprint import environment, fingerprint
from medresnet3d.data.cache.folder import default_folder
from medresnet3d.errors import ConfigError
from medresnet3d.progress import track

_METADATA: list[Any] = [
    np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
    np._core.multiarray.scalar,  # type: ignore[attr-defined]
    np.ndarray,
    np.dtype,
    *(type(np.dtype(code)) for code in np.typecodes["All"] if code not in "OV"),
    *(kind for kind in vars(enums).values() if isinstance(kind, type) and issubclass(kind, Enum)),
]
"""What the metadata of images is made of in a file of torch's: arrays of numbers or texts, and MONAI's constants."""
Items = Sequence[Mapping[str, Any]]
CacheChoice = bool | int | str | Mapping[str, Any]


def _fresh(item: Any) -> Any:
    """A copy that may be changed at will; plain tensors are copied without the detour of ``deepcopy``."""
    if isinstance(item, dict):
        return {key: _fresh(value) for key, value in item.items()}
    return item.clone() if type(item) is torch.Tensor else deepcopy(item)


class NoCache:
    """Runs the deterministic transforms on every access.

    Args:
        data: items.
        chain: all transforms, flat.
        cache_dir: folder for what is kept on disk.

    Attributes:
        in_process: whether what is kept is lost with a worker process, so that it has to be there before workers start.
    """

    in_process = False

    def __init__(self, data: Items, chain: Compose, cache_dir: Path) -> None:
        self.data = data
        self.chain = chain
        self.cache_dir = cache_dir
        self.first_random = first_random(chain)
        self.prefix = Compose(
            chain.transforms[: self.first_random],
            map_items=chain.map_items,
            unpack_items=chain.unpack_items,
            log_stats=chain.log_stats,
            lazy=chain.lazy,
            overrides=chain.overrides,
        )

    def __len__(self) -> int:
        """Return the number of items that an epoch goes through."""
        return len(self.data)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; only :class:`SmartCache` has different items in each."""

    def fill(self) -> None:
        """Compute what is to be kept and is not yet."""

    def deterministic(self, i: int) -> Any:
        """Return item ``i`` as the deterministic transforms leave it, to be changed at will."""
        return self.prefix(dict(self.data[i]))

    def prepare(self, i: int) -> Any:
        """Do for item ``i`` what draws no random numbers, and return what :meth:`finish` needs."""
        return self.deterministic(i)

    def finish(self, i: int, prepared: Any) -> Any:
        """Run the random transforms, whose random state has been set."""
        return self.chain(prepared, start=self.first_random)


class MemoryCache(NoCache):
    """MONAI's ``CacheDataset``, filled when an item is first asked for.

    Args:
        data: items.
        chain: all transforms, flat.
        cache_dir: not needed.
        cache_num: keep the first ``cache_num`` items.
    """

    in_process = True

    def __init__(self, data: Items, chain: Compose, cache_dir: Path, cache_num: int | None = None) -> None:
        super().__init__(data, chain, cache_dir)
        kept = len(data) if cache_num is None else min(cache_num, len(data))
        self._dataset = CacheDataset(
            data, self.prefix, cache_num=kept, progress=False, num_workers=None, runtime_cache="threads"
        )

    def fill(self) -> None:
        """Compute what is to be kept and is not yet."""
        missing = [i for i, item in enumerate(self._dataset._cache) if item is None]
        for i in track(missing, "reading the data"):
            self._dataset[i]

    def deterministic(self, i: int) -> Any:
        """Return a copy of item ``i``."""
        return _fresh(self._dataset[i])


class SmartCache(NoCache):
    """MONAI's ``SmartCacheDataset``: a part of the items in memory, some of them replaced after every epoch.

    Epoch ``e`` has the items from ``e * replaced`` on, in the order of ``data`` and round again, so that it does not
    depend on where a training was interrupted.

    Args:
        data: items.
        chain: all transforms, flat.
        cache_dir: not needed.
        cache_rate: share of the items that is in memory, and that an epoch goes through.
        replace_rate: share of these that is replaced after an epoch.

    Raises:
        ConfigError: if a share is not above 0 and at most 1.
    """

    in_process = True

    def __init__(
        self,
        data: Items,
        chain: Compose,
        cache_dir: Path,
        cache_rate: float = 0.5,
        replace_rate: float = 0.1,
    ) -> None:
        super().__init__(data, chain, cache_dir)
        for name, share in (("cache_rate", cache_rate), ("replace_rate", replace_rate)):
            if not 0 < share <= 1:
                raise ConfigError(f"{name} is {share}; give a share of the items, above 0 and at most 1.")
        self._size = max(1, int(len(data) * cache_rate))
        self._rate = replace_rate
        self._epoch = 0
        self._dataset: SmartCacheDataset | None = None
        self._window: list[Any] | None = None

    def __len__(self) -> int:
        """Return the number of items that are in memory."""
        return self._size

    def set_epoch(self, epoch: int) -> None:
        """Let the items of an epoch be those in memory."""
        if epoch == self._epoch:
            return
        if self._dataset is not None and epoch == self._epoch + 1:
            self._dataset.update_cache()
            self._window = list(self._dataset._cache)
        elif self._size < len(self.data):
            self._shut()
        self._epoch = epoch

    def fill(self) -> None:
        """Read the items of this epoch, unless they are in memory."""
        if self._window is not None:
            return
        if self._size == len(self.data):  # nothing would ever be replaced
            self._window = [self.prefix(dict(item)) for item in track(self.data, "reading the data")]
            return
        replaced = min(math.ceil(self._size * self._rate), len(self.data) - self._size)
        start = self._epoch * replaced % len(self.data)
        turned = [*self.data[start:], *self.data[:start]]
        self._dataset = SmartCacheDataset(
            turned, self.prefix, self._rate, self._size, num_init_workers=None, progress=False, shuffle=False
        )
        self._window = list(self._dataset._cache)

    def deterministic(self, i: int) -> Any:
        """Return a copy of item ``i`` of those in memory."""
        self.fill()
        return _fresh(self._window[i])  # type: ignore[index]

    def _shut(self) -> None:
        if self._dataset is not None:
            self._dataset.shutdown()
        self._dataset = self._window = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the thread that replaces items behind: a worker process only reads."""
        return {**self.__dict__, "_dataset": None}


class PersistentCache(NoCache):
    """MONAI's ``PersistentDataset``, with keys that change with the files, the parameters and the versions.

    Args:
        data: items.
        chain: all transforms, flat.
        cache_dir: its files lie in ``persistent`` below it.
    """

    def __init__(self, data: Items, chain: Compose, cache_dir: Path) -> None:
        super().__init__(data, chain, cache_dir)
        self._dataset = PersistentDataset(
            data, self.prefix, cache_dir / "persistent", item_hash, hash_transform=chain_hash, track_meta=True
        )

    def fill(self) -> None:
        """Compute what is not on disk yet."""
        for i in track(list(range(len(self.data))), "filling the cache"):
            self.deterministic(i)

    def deterministic(self, i: int) -> Any:
        """Return item ``i``, read anew."""
        # without these, MONAI takes every file with metadata for damaged, and computes it again
        with safe_globals(_METADATA):
            return self._dataset[i]


class DiskCache(NoCache):
    """:class:`~medresnet3d.data.cache.DiskCacheDataset`.

    Args:
        data: items.
        chain: all transforms, flat.
        cache_dir: its folder.
        options: further arguments of ``DiskCacheDataset``.
    """

    def __init__(self, data: Items, chain: Compose, cache_dir: Path, **options: Any) -> None:
        super().__init__(data, chain, cache_dir)
        self._dataset = DiskCacheDataset(data, chain, cache_dir, **options)

    def fill(self) -> None:
        """Compute what is not on disk yet."""
        self._dataset.fill()

    def deterministic(self, i: int) -> Any:
        """Return item ``i``, read anew."""
        return self._dataset.prefix(i)

    def prepare(self, i: int) -> Any:
        """Make sure that item ``i`` is on disk."""
        self._dataset.ensure(i)

    def finish(self, i: int, prepared: Any) -> Any:
        """Run the random transforms on what they need of item ``i``."""
        return self._dataset[i]


CACHES: dict[str, Callable[..., NoCache]] = {
    "none": NoCache,
    "memory": MemoryCache,
    "smart": SmartCache,
    "persistent": PersistentCache,
    "disk": DiskCache,
}


def build_prefix_cache(
    cache: CacheChoice, data: Items, chain: Compose, cache_dir: str | os.PathLike[str] | None = None
) -> NoCache:
    """Choose where the results of the deterministic transforms are kept.

    Args:
        cache: ``none``; ``memory`` (MONAI's ``CacheDataset``); ``smart`` (``SmartCacheDataset``); ``persistent``
            (``PersistentDataset``); ``disk`` (:class:`~medresnet3d.data.cache.DiskCacheDataset`); a dictionary with
            such a ``name`` and options of that class; ``True`` for ``memory``, ``False`` for ``none``, or a number of
            items to keep in memory.
        data: items.
        chain: all transforms, flat.
        cache_dir: folder of ``persistent`` and ``disk``; ``None`` for the user's own.

    Raises:
        ConfigError: if there is no such cache or it has no such option.
    """
    if isinstance(cache, bool):
        cache = "memory" if cache else "none"
    options = {"cache_num": min(cache, len(data))} if isinstance(cache, int) else {}
    name: Any = "memory" if isinstance(cache, int) else cache
    if isinstance(cache, Mapping):
        options = dict(cache)
        name = options.pop("name", None)
    if name not in CACHES:
        near = get_close_matches(str(name), CACHES, 1)
        raise ConfigError(
            f"There is no cache {name!r}; use {', '.join(CACHES)}{f' (did you mean {near[0]}?)' if near else ''}."
        )
    try:
        return CACHES[name](data, chain, default_folder() if cache_dir is None else Path(cache_dir), **options)
    except TypeError as error:
        raise ConfigError(f"The cache {name!r} cannot be made with the options {options}: {error}.") from error


def item_hash(item: Any) -> bytes:
    """Name an item by its values and files, for MONAI's ``hash_func``."""
    return hashlib.sha256(json.dumps([fingerprint(item), identities(item)]).encode()).hexdigest().encode()


def chain_hash(transforms: Any) -> bytes:
    """Name transforms by all they depend on, for MONAI's ``hash_transform``."""
    return fingerprint([environment(), list(transforms)]).encode()
