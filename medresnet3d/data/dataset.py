"""Data sets, samplers and loaders whose every sample depends on (seed, epoch, index) alone."""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist
from monai.data import DataLoader
from monai.transforms import Compose
from torch.utils.data import Dataset, Sampler

from medresnet3d.data.prefix_caches import CacheChoice, build_prefix_cache
from medresnet3d.data.seeding import derive_seed, seeded
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.reseeding import reseed


class SeededDataset(Dataset):
    """Items put through transforms; what is random about item ``i`` in epoch ``e`` is drawn from ``(seed, e, i)``.

    So the same seed gives the same samples for any number of worker processes, and a run that is resumed in the middle
    of an epoch sees what the unbroken run saw. The global generators of torch, numpy and python are seeded for the
    time of a sample's transforms and put back afterwards, for transforms that draw from them.

    Args:
        data: item dictionaries, e.g. from :func:`medresnet3d.data.items`.
        transform: a transform or MONAI ``Compose`` applied to each item.
        seed: a non-negative integer.
        repeats: how many times an epoch goes through ``data`` (several random crops of each scan); the data set's
            length is ``repeats * len(data)``.
        cache: where the results of the leading deterministic transforms are kept: ``none``, ``memory`` (``True``; a
            number: those of the first items), ``smart``, ``persistent`` or ``disk``; see
            :func:`~medresnet3d.data.prefix_caches.build_prefix_cache`.
        cache_dir: folder of ``persistent`` and ``disk``; ``None`` for the user's own.
        all_items: let every epoch go through all items, as a validation must: ``smart`` then is ``memory``.

    Raises:
        ConfigError: if ``data`` is no sequence of items, ``repeats`` is below 1 or there is no such cache.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Callable[[Any], Any] | Sequence[Callable[[Any], Any]] | None = None,
        seed: int = 0,
        repeats: int = 1,
        cache: CacheChoice = True,
        cache_dir: str | os.PathLike[str] | None = None,
        all_items: bool = False,
    ) -> None:
        if isinstance(data, str) or not isinstance(data, Sequence):
            raise ConfigError(
                f"A data set needs a list of items, not {type(data).__name__}; use medresnet3d.data.items."
            )
        if repeats < 1:
            raise ConfigError(f"repeats is {repeats}; it must be 1 or more.")
        self.data = data
        self.transform = (transform if isinstance(transform, Compose) else Compose(transform)).flatten()
        self.seed = seed
        self.repeats = repeats
        self.epoch = 0
        self._chosen: list[int] | None = None
        if all_items and (cache == "smart" or (isinstance(cache, Mapping) and cache.get("name") == "smart")):
            cache = "memory"
        self._cache = build_prefix_cache(cache, data, self.transform, cache_dir)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose random streams the next samples are drawn from."""
        self.epoch = epoch
        self._cache.set_epoch(epoch)

    def only(self, cases: Sequence[int]) -> SeededDataset:
        """Give a data set of some of the cases, with as many samples an epoch as this one, and the same cache.

        Args:
            cases: places in ``data``.

        Raises:
            ConfigError: if there are none, or not all cases are at hand in every epoch (the cache ``smart``).
        """
        if not cases or len(self._cache) < len(self.data):
            reason = "no cases are named" if not cases else "the cache `smart` changes them; use another cache"
            raise ConfigError(f"A part of the cases cannot be chosen: {reason}.")
        part = copy.copy(self)
        part._chosen = list(cases)
        return part

    def __len__(self) -> int:
        """Return the number of samples of one epoch."""
        return self.repeats * len(self._cache)

    def fill_cache(self) -> None:
        """Run the deterministic transforms of all items that are to be kept and are not yet."""
        self._cache.fill()

    @property
    def is_cached_in_process(self) -> bool:
        """Whether what is kept is lost with a worker process, so that it has to be there before workers start."""
        return self._cache.in_process

    def __getitem__(self, index: int | tuple[int, int]) -> Any:
        """Return sample ``index`` of the current epoch; ``(index, n)`` is its n-th variation, drawn anew."""
        index, *variation = index if isinstance(index, tuple) else (index,)
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(index)
        i = index % len(self._cache) if self._chosen is None else self._chosen[index % len(self._chosen)]
        prepared = self._cache.prepare(i)
        seed = derive_seed(self.seed, self.epoch, index, *variation)
        with seeded(seed):
            reseed(self.transform, seed)
            return self._cache.finish(i, prepared)


class SeededSampler(Sampler[int]):
    """The order of samples from ``(seed, epoch)`` alone, from any position on, shared out over the ranks of a run.

    With several processes (``torch.distributed``) each gets every ``world_size``-th sample. A shuffled order is filled
    up from its beginning so that all have equally many, as torch's ``DistributedSampler`` does; an unshuffled one is
    not, so that no case is counted twice in a validation.

    Args:
        data_source: the data set, or anything with a length.
        shuffle: draw a new order in each epoch.
        seed: a non-negative integer.
    """

    def __init__(self, data_source: Any, shuffle: bool = True, seed: int = 0) -> None:
        self.data_source = data_source
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch, and how many of this process's samples to leave out at its beginning (resumed runs)."""
        self.epoch = epoch
        self.start = start

    def _everything(self) -> np.ndarray:
        """The samples of an epoch before they are shuffled; ``i + n * len(data_source)`` is the n-th variation of i."""
        return np.arange(len(self.data_source))

    def _order(self) -> np.ndarray:
        order = self._everything()
        size = len(order)
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(order)
        rank, world_size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        if self.shuffle or size < world_size:
            order = np.resize(order, -(-size // world_size) * world_size)
        return order[rank::world_size]

    def __len__(self) -> int:
        """Return the number of samples of a whole epoch in this process."""
        return len(self._order())

    def __iter__(self) -> Iterator[int | tuple[int, int]]:  # type: ignore[override]
        """Yield the indices of this process's samples; one that comes again in an epoch is another variation."""
        size = len(self.data_source)
        for index in self._order()[self.start :].tolist():
            yield index if index < size else (index % size, index // size)


class SeededDataLoader(DataLoader):
    """MONAI's loader over a :class:`SeededDataset` with a :class:`SeededSampler`; see :func:`data_loader`."""

    def __iter__(self) -> Any:
        """Fill a cache in memory before worker processes start, since what they cache is lost with them."""
        if self.num_workers > 0 and isinstance(self.dataset, SeededDataset) and self.dataset.is_cached_in_process:
            self.dataset.fill_cache()
        return super().__iter__()

    def set_epoch(self, epoch: int, start_batch: int = 0) -> None:
        """Choose the epoch and the first batch to deliver, for the next time the loader is iterated."""
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)
        if isinstance(self.sampler, SeededSampler):
            self.sampler.set_epoch(epoch, start_batch * (self.batch_size or 1))


def _start_worker(worker: int) -> None:
    """Leave Ctrl-C to the main process, which finishes its iteration and saves."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def data_loader(
    dataset: Dataset,
    batch_size: int | Literal["all"] = 1,
    shuffle: bool = False,
    seed: int = 0,
    num_workers: int = 0,
    drop_last: bool | None = None,
    sampler: SeededSampler | None = None,
) -> SeededDataLoader:
    """Make a loader that gives the same batches for any number of workers and from any batch on.

    Args:
        dataset: usually a :class:`SeededDataset`; any data set with a length will do.
        batch_size: samples in a batch; ``"all"`` or 0 puts the whole data set into one (with several processes, the
            whole of each one's share): what gradient descent without "stochastic" or "mini-batch" means.
        shuffle: draw a new order in each epoch.
        seed: a non-negative integer.
        num_workers: worker processes; 0 loads in this process.
        drop_last: leave out the incomplete last batch; ``None`` does so when shuffling more samples than fit in one
            batch (a batch of a single sample breaks batch normalisation, and another epoch sees the ones left out).
        sampler: of this data set, in place of one that goes through all of it; it says itself whether it shuffles.

    Raises:
        DataError: if the data set is empty.
        ConfigError: if ``batch_size`` is neither a number of samples nor ``"all"``.
    """
    size = len(dataset)  # type: ignore[arg-type]
    if size == 0:
        raise DataError("The data set is empty: there is nothing to load; check the manifest's lists.")
    if batch_size != "all" and (not isinstance(batch_size, int) or batch_size < 0):
        raise ConfigError(f'batch_size is {batch_size!r}; give 1 or more, or "all" (or 0) for the whole data set.')
    sampler = SeededSampler(dataset, shuffle=shuffle, seed=seed) if sampler is None else sampler
    shuffle = sampler.shuffle
    samples: int = len(sampler) if batch_size in ("all", 0) else batch_size  # type: ignore[assignment]
    return SeededDataLoader(
        dataset,
        batch_size=samples,
        sampler=sampler,
        num_workers=num_workers,
        drop_last=(shuffle and len(sampler) > samples) if drop_last is None else drop_last,
        worker_init_fn=_start_worker,
        generator=torch.Generator().manual_seed(seed),
    )
