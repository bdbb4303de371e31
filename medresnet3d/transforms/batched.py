"""Augment a whole batch at once: one ``grid_sample`` for all flips, turns and affine maps, then the intensities.

What happens to a sample is drawn by MONAI's own random transforms while the sample is loaded, so the distribution is
theirs, and a sample's change does not depend on its batch, on the number of workers or on where a run was resumed. It
travels as one short row of numbers beside the image and is carried out when the batch is on its device.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.engines import default_prepare_batch
from monai.transforms import Compose, MapTransform, Randomizable
from torch.nn import functional

from medresnet3d.errors import ConfigError
from medresnet3d.reseeding import reseed
from medresnet3d.transforms.batched_steps import steps_of

#: Ways to carry out an augmentation.
MODES = ("per_sample", "batched")
PARAMETER_KEY = "augmentation"


class BatchedAugmentation(Randomizable):
    """A chain of MONAI's random dictionary transforms, drawn sample by sample and carried out on a batch.

    Taken are ``RandFlipd``, ``RandRotate90d`` and ``RandAffined`` (at most one), followed by ``RandScaleIntensityd``,
    ``RandShiftIntensityd``, ``RandAdjustContrastd``, ``RandGaussianNoised``, ``RandCoarseDropoutd`` and our
    ``RandColourMapd``, in any order.
    For equal seeds the result is that of the chain to the rounding of float32, but for the noise, which is
    another draw of the same distribution.

    Args:
        chain: the transforms; all samples have the same shape (C, i, j) or (C, i, j, k).

    Raises:
        ConfigError: if a transform, an option of one or their order has no batched form.

    Example:
        >>> augment = BatchedAugmentation([RandFlipd("image", 0.5), RandAffined("image", prob=0.5, rotate_range=0.2)])
        >>> augment.set_random_state(0)({"image": torch.rand(16, 1, 32, 32, 32)})["image"].shape  # doctest: +SKIP
        torch.Size([16, 1, 32, 32, 32])
    """

    def __init__(self, chain: Sequence[MapTransform]) -> None:
        self.chain = Compose(chain)
        self.geometric, self.intensity = steps_of(chain)
        self.keys: tuple[Hashable, ...] = tuple(self.geometric[0].transform.keys) if self.geometric else ()
        affine = next((step.transform for step in self.geometric if step.interpolates), None)
        self.modes = [str(mode) for mode in affine.mode] if affine else ["bilinear"] * len(self.keys)
        self.padding_modes = [str(mode) for mode in affine.padding_mode] if affine else ["border"] * len(self.keys)

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> BatchedAugmentation:
        """Seed all transforms of the chain, as ``Compose`` does."""
        if seed is None:
            self.chain.set_random_state(state=state)
        else:
            reseed(self.chain, seed)
        return self

    def draw(self, shape: Sequence[int]) -> torch.Tensor:
        """Draw the change of one sample.

        Args:
            shape: its spatial shape.

        Returns:
            A row of float32: matrix (d, d + 1) of centred voxel positions, whether it asks for interpolation, and for
            each change of intensity whether it happens and its numbers.
        """
        matrix, interpolate = np.eye(len(shape) + 1), False
        for step in self.geometric:
            drawn = step.draw(shape)
            if drawn is not None:
                matrix[:-1] = matrix[:-1] @ np.vstack([drawn, matrix[-1:]])
                interpolate |= step.interpolates
        row = [*matrix[:-1].ravel(), float(interpolate)]
        for change in self.intensity:
            size = change.size(len(shape))
            row += [1.0, *change.draw(shape)] if change.happens() else [0.0] * (1 + size)
        return torch.tensor(row, dtype=torch.float32)

    def apply(self, batch: Mapping[Any, Any], rows: torch.Tensor) -> dict[Any, Any]:
        """Carry out what was drawn.

        Args:
            batch: tensors (B, C, ...) under the keys of the chain; other keys are carried along.
            rows: one row of :meth:`draw` for each sample, (B, n).

        Returns:
            The batch with changed tensors, plain ones.
        """
        changed = dict(batch)
        first = changed[self.keys[0] if self.keys else self.intensity[0].keys[0]]
        dims = first.ndim - 2
        cuts = np.cumsum([0, dims * (dims + 1), 1, *(1 + step.size(dims) for step in self.intensity)])
        matrices, interpolate, *changes = (rows[:, low:high] for low, high in pairwise(cuts.tolist()))
        for key, mode, padding_mode in zip(self.keys, self.modes, self.padding_modes, strict=True):
            images = _plain(changed[key])
            maps = matrices.reshape(-1, dims, dims + 1).to(images.device)
            changed[key] = _moved(images, maps, interpolate[:, 0] > 0, mode, padding_mode)
        for key in {key for step in self.intensity for key in step.keys}:
            values = _plain(changed[key]).float()
            changed[key] = values.clone() if values.data_ptr() == _plain(batch[key]).data_ptr() else values
        for step, numbers in zip(self.intensity, changes, strict=True):
            for key in step.keys:
                step.apply_to_all(changed[key], numbers)
        return changed

    def __call__(self, batch: Mapping[Any, Any]) -> dict[Any, Any]:
        """Draw for each sample of a batch, in order, and carry it out."""
        first = batch[self.keys[0] if self.keys else self.intensity[0].keys[0]]
        return self.apply(batch, torch.stack([self.draw(first.shape[2:]) for _ in range(len(first))]))


def _plain(images: torch.Tensor) -> torch.Tensor:
    return images.as_tensor() if isinstance(images, MetaTensor) else images


def _moved(
    images: torch.Tensor, maps: torch.Tensor, interpolate: torch.Tensor, mode: str, padding_mode: str
) -> torch.Tensor:
    """Samples (B, C, ...) seen through their maps (B, d, d + 1); those of flips and right-angle turns exactly."""
    everything = bool(interpolate.all())
    out = images if everything else torch.empty_like(images)
    for index in (~interpolate).nonzero()[:, 0].tolist():
        out[index] = _turned(images[index], maps[index, :, :-1])
    chosen = interpolate.nonzero()[:, 0].to(images.device)
    if len(chosen) == 0:
        return out
    moving = images if everything else images[chosen]
    grid = _grid(maps[chosen], images.shape[2:])
    values = moving if moving.is_floating_point() else moving.float()
    seen = functional.grid_sample(values, grid.to(values.dtype), mode, padding_mode, False).to(images.dtype)
    if everything:
        return seen
    out[chosen] = seen
    return out


def _turned(image: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """An image (C, ...) by a matrix of zeros, ones and minus ones with one entry in each row and column."""
    source = matrix.abs().argmax(0).tolist()  # the axis of the input that runs along each axis of the result
    backward = [axis + 1 for axis, other in enumerate(source) if matrix[other, axis] < 0]
    turned = image.permute(0, *(axis + 1 for axis in source))
    return turned.flip(backward) if backward else turned


def _grid(maps: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Positions (B, ..., d) for ``grid_sample``: axes from the last, in halves of an extent from the middle.

    Each coordinate is a sum of one vector an axis; ``affine_grid`` multiplies matrices voxel by voxel and takes half as
    long as the sampling itself.
    """
    dims = len(shape)
    grid = maps.new_empty(len(maps), *shape, dims)
    centred = [torch.arange(size, dtype=maps.dtype, device=maps.device) - (size - 1) / 2 for size in shape]
    for axis, size in enumerate(shape):
        rows = maps[:, axis] * (2 / max(2, size))
        total = rows[:, -1].reshape(-1, *[1] * dims)
        for other in range(dims):
            along = [-1 if each == other else 1 for each in range(dims)]
            part = (rows[:, other, None] * centred[other]).reshape(len(maps), *along)
            last = other == dims - 1
            total = torch.add(total, part, out=grid[..., dims - 1 - axis]) if last else total + part
    return grid


class DrawAugmentationd(Randomizable, MapTransform):
    """Draw a sample's augmentation and leave carrying it out to :class:`AugmentedBatch`.

    Args:
        chain: random transforms, see :class:`BatchedAugmentation`.
        parameter_key: where the row of numbers goes.
    """

    def __init__(self, chain: Sequence[MapTransform], parameter_key: str = PARAMETER_KEY) -> None:
        self.augmentation = BatchedAugmentation(chain)
        super().__init__(chain[0].keys)
        self.parameter_key = parameter_key

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> DrawAugmentationd:
        """Seed all transforms of the chain."""
        self.augmentation.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give the item, its images unchanged, with a row (n,) of float32 under ``parameter_key``."""
        return dict(data) | {self.parameter_key: self.augmentation.draw(data[self.keys[0]].shape[1:])}


def carried_out(chain: Sequence[MapTransform], mode: str = "per_sample") -> list[MapTransform]:
    """The chain itself, or the drawing of it for :class:`AugmentedBatch`.

    Args:
        chain: random dictionary transforms; may be empty.
        mode: ``per_sample`` or ``batched``.

    Raises:
        ConfigError: if the mode is unknown, or the chain has no batched form.
    """
    if mode not in MODES:
        raise ConfigError(f"There is no augmentation_mode {mode!r}; use {', '.join(MODES)}.")
    return [DrawAugmentationd(chain)] if mode == "batched" and chain else list(chain)


class AugmentedBatch:
    """A trainer's ``prepare_batch`` that carries out on the device what :class:`DrawAugmentationd` has drawn.

    Args:
        preprocessing: the training transforms; without a :class:`DrawAugmentationd` among them, batches stay as they
            are.
        prepare_batch: what makes (image, label) of the batch; ``None``: MONAI's ``default_prepare_batch``.
    """

    def __init__(self, preprocessing: Compose, prepare_batch: Callable[..., Any] | None = None) -> None:
        transforms = preprocessing.flatten().transforms
        self.draws = [each for each in transforms if isinstance(each, DrawAugmentationd)]
        self.prepare_batch = default_prepare_batch if prepare_batch is None else prepare_batch

    def __call__(
        self,
        batchdata: dict[Any, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Give what ``prepare_batch`` gives for the augmented batch."""
        for draw in self.draws:
            keys = {*draw.augmentation.keys, *(key for step in draw.augmentation.intensity for key in step.keys)}
            moved = {key: batchdata[key].to(device, non_blocking=non_blocking) for key in keys}
            rows = _plain(batchdata[draw.parameter_key])
            batchdata = batchdata | draw.augmentation.apply(moved, rows)
        return self.prepare_batch(batchdata, device, non_blocking, **kwargs)
