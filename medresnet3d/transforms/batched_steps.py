"""MONAI's random transforms taken apart: what each draws, as a few numbers, and what these numbers do to a batch.

A step draws with MONAI's own code and in MONAI's own order, so that a seeded chain draws the same either way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import (
    MapTransform,
    RandAdjustContrastd,
    RandAffined,
    RandAffineGrid,
    RandCoarseDropoutd,
    RandFlipd,
    RandGaussianNoised,
    RandRotate90d,
    RandScaleIntensityd,
    RandShiftIntensityd,
)
from monai.transforms.utils import create_rotate, create_scale, create_shear, create_translate
from monai.utils.misc import ensure_tuple
from numpy.typing import NDArray

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.transforms.colour_augmentation import RandColourMapd

SEEDS = 2**24  # seeds of noise travel as float32, which holds whole numbers up to here


class GeometricStep(ABC):
    """A random change of place.

    Args:
        transform: the MONAI transform to draw with.
    """

    interpolates = False

    def __init__(self, transform: Any) -> None:
        self.transform = transform

    @abstractmethod
    def draw(self, shape: Sequence[int]) -> NDArray[np.float64] | None:
        """Matrix (d, d + 1) from centred voxel positions of the result to those of the input; ``None``: no change."""


class FlipStep(GeometricStep):
    """``RandFlipd``."""

    def draw(self, shape: Sequence[int]) -> NDArray[np.float64] | None:
        """See :class:`GeometricStep`."""
        self.transform.randomize(None)
        if not self.transform._do_transform:
            return None
        matrix = np.eye(len(shape), len(shape) + 1)
        axes = self.transform.flipper.spatial_axis
        for axis in range(len(shape)) if axes is None else ensure_tuple(axes):
            matrix[axis, axis] *= -1
        return matrix


class Rotate90Step(GeometricStep):
    """``RandRotate90d``."""

    def draw(self, shape: Sequence[int]) -> NDArray[np.float64] | None:
        """See :class:`GeometricStep`.

        Raises:
            DataError: if the sides in the plane differ, so that samples of a batch would differ in shape.
        """
        self.transform.randomize()
        if not self.transform._do_transform:
            return None
        first, second = self.transform.spatial_axes
        if shape[first] != shape[second]:
            raise DataError(
                f"images of {' x '.join(map(str, shape))} cannot be turned by 90 degrees in a batch; "
                "crop them to equal sides or use augmentation_mode per_sample."
            )
        turn = np.eye(len(shape))
        turn[[first, second], [first, second]] = 0
        turn[first, second], turn[second, first] = 1, -1
        matrix = np.linalg.matrix_power(turn, self.transform._rand_k)
        return np.hstack([matrix, np.zeros((len(shape), 1))])


class AffineStep(GeometricStep):
    """``RandAffined``."""

    interpolates = True

    def draw(self, shape: Sequence[int]) -> NDArray[np.float64] | None:
        """See :class:`GeometricStep`."""
        self.transform.randomize(None)
        array_transform = self.transform.rand_affine
        array_transform.randomize()
        if not self.transform._do_transform:
            return None
        array_transform.rand_affine_grid.randomize()
        matrix = _affine_matrix(array_transform.rand_affine_grid, len(shape))[:-1]
        for _ in self.transform.keys:
            array_transform.randomize()  # RandAffined draws once more for each key and makes no use of it
        return matrix


def _affine_matrix(drawn: RandAffineGrid, dims: int) -> NDArray[np.float64]:
    """The matrix (d + 1, d + 1) of what was drawn, as MONAI puts it together, without a tensor for each part."""
    parts = (
        (create_rotate, drawn.rotate_params),
        (create_shear, drawn.shear_params),
        (create_translate, drawn.translate_params),
        (create_scale, drawn.scale_params),
    )
    matrix = np.eye(dims + 1)
    for create, parameters in parts:
        if parameters:
            matrix = matrix @ np.asarray(create(dims, parameters), dtype=np.float64)
    return matrix


class IntensityStep(ABC):
    """A random change of values.

    Args:
        transform: the MONAI transform to draw with.
    """

    def __init__(self, transform: Any) -> None:
        self.transform = transform
        self.keys: tuple[str, ...] = tuple(transform.keys)

    def size(self, spatial_dims: int) -> int:
        """How many numbers :meth:`draw` gives."""
        return 1

    def happens(self) -> bool:
        """Draw whether this sample is changed."""
        self.transform.randomize(None)
        return bool(self.transform._do_transform)

    @abstractmethod
    def draw(self, shape: Sequence[int]) -> list[float]:
        """Draw the numbers of one sample, if it is changed."""

    @abstractmethod
    def apply(self, image: torch.Tensor, numbers: Sequence[float]) -> None:
        """Change a sample (C, ...) in place by its numbers."""

    def apply_to_all(self, images: torch.Tensor, rows: torch.Tensor) -> None:
        """Change samples (B, C, ...) in place, each by its row (B, 1 + n): whether it happens, and the numbers."""
        for image, (happens, *numbers) in zip(images, rows.tolist(), strict=True):
            if happens:
                self.apply(image, numbers)


class ScaleStep(IntensityStep):
    """``RandScaleIntensityd``."""

    def draw(self, shape: Sequence[int]) -> list[float]:
        """See :class:`IntensityStep`."""
        self.transform.scaler.randomize(None)
        return [self.transform.scaler.factor]

    def apply(self, image: torch.Tensor, numbers: Sequence[float]) -> None:
        """See :class:`IntensityStep`."""
        image.mul_(1 + numbers[0])


class ShiftStep(IntensityStep):
    """``RandShiftIntensityd``."""

    def draw(self, shape: Sequence[int]) -> list[float]:
        """See :class:`IntensityStep`."""
        self.transform.shifter.randomize(None)
        return [self.transform.shifter._offset]

    def apply(self, image: torch.Tensor, numbers: Sequence[float]) -> None:
        """See :class:`IntensityStep`."""
        image.add_(numbers[0])


class ContrastStep(IntensityStep):
    """``RandAdjustContrastd``."""

    def draw(self, shape: Sequence[int]) -> list[float]:
        """See :class:`IntensityStep`."""
        self.transform.adjuster.randomize(None)
        return [self.transform.adjuster.gamma_value]

    def apply(self, image: torch.Tensor, numbers: Sequence[float]) -> None:
        """See :class:`IntensityStep`."""
        low, high = image.aminmax()
        extent = high - low
        image.sub_(low).div_(extent + 1e-7).pow_(numbers[0]).mul_(extent).add_(low)


class NoiseStep(IntensityStep):
    """``RandGaussianNoised``; the noise itself is drawn on the batch's device, from a seed of each sample."""

    def size(self, spatial_dims: int) -> int:
        """Standard deviation and seed."""
        return 2

    def draw(self, shape: Sequence[int]) -> list[float]:
        """See :class:`IntensityStep`."""
        noise = self.transform.rand_gaussian_noise
        noise.R.rand()  # MONAI draws here whether to act, and always acts
        deviation = noise.R.uniform(0, noise.std) if noise.sample_std else noise.std
        return [deviation, int(noise.R.randint(SEEDS))]

    def apply(self, image: torch.Tensor, numbers: Sequence[float]) -> None:
        """See :class:`IntensityStep`."""
        deviation, seed = numbers
        generator = torch.Generator(image.device).manual_seed(int(seed))
        noise = torch.empty_like(image).normal_(self.transform.rand_gaussian_noise.mean, deviation, generator=generator)
        image.add_(noise)


class DropoutStep(IntensityStep):
    """``RandCoarseDropoutd`` with a fixed fill value."""

    @property
    def _holes(self) -> int:
        return int(self.transform.dropper.max_holes or self.transform.dropper.holes)

    def size(self, spatial_dims: int) -> int:
        """Begin and end of each hole on each axis; empty ones for holes that are not made."""
        return 2 * self._holes * spatial_dims

    def draw(self, shape: Sequence[int]) -> list[float]:
        """See :class:`IntensityStep`."""
        dropper = self.transform.dropper
        dropper.randomize(shape)
        edges = [float(edge) for hole in dropper.hole_coords for cut in hole[1:] for edge in (cut.start, cut.stop)]
        return edges + [0.0] * (self.size(len(shape)) - len(edges))

    def apply(self, image: torch.Tensor, numbers: Sequence[float]) -> None:
        """See :class:`IntensityStep`."""
        for hole in np.asarray(numbers, dtype=int).reshape(self._holes, -1, 2).tolist():
            image[(slice(None), *(slice(*edges) for edges in hole))] = self.transform.dropper.fill_value


class ColourStep(IntensityStep):
    """:class:`~medresnet3d.transforms.colour_augmentation.RandColourMapd`."""

    def size(self, spatial_dims: int) -> int:
        """A factor for each of its changes."""
        return len(self.transform.transform.ranges)

    def happens(self) -> bool:
        """See :class:`IntensityStep`."""
        self.transform.transform.randomize()
        return bool(self.transform.transform._do_transform)

    def draw(self, shape: Sequence[int]) -> list[float]:
        """See :class:`IntensityStep`."""
        return list(self.transform.transform.drawn)

    def apply(self, image: torch.Tensor, numbers: Sequence[float]) -> None:
        """See :class:`IntensityStep`."""
        self.transform.transform.carry_out(image[None], image.new_tensor([numbers]))

    def apply_to_all(self, images: torch.Tensor, rows: torch.Tensor) -> None:
        """See :class:`IntensityStep`; a GPU does it in one pass, a CPU sample by sample, which fits into its cache."""
        if images.device.type == "cpu":
            super().apply_to_all(images, rows)
            return
        chosen = (rows[:, 0] > 0).nonzero()[:, 0].to(images.device)
        if len(chosen):
            changed = images[chosen]
            self.transform.transform.carry_out(changed, rows[:, 1:].to(images)[chosen])
            images[chosen] = changed


GEOMETRIC: dict[type, type[GeometricStep]] = {
    RandFlipd: FlipStep,
    RandRotate90d: Rotate90Step,
    RandAffined: AffineStep,
}
INTENSITY: dict[type, type[IntensityStep]] = {
    RandScaleIntensityd: ScaleStep,
    RandShiftIntensityd: ShiftStep,
    RandAdjustContrastd: ContrastStep,
    RandGaussianNoised: NoiseStep,
    RandCoarseDropoutd: DropoutStep,
    RandColourMapd: ColourStep,
}


def steps_of(chain: Sequence[MapTransform]) -> tuple[list[GeometricStep], list[IntensityStep]]:
    """Take a chain of MONAI's random dictionary transforms apart.

    Args:
        chain: changes of place first, then changes of values.

    Raises:
        ConfigError: if a transform, an option of one or their order has no batched form.
    """
    geometric: list[GeometricStep] = []
    intensity: list[IntensityStep] = []
    for transform in chain:
        name = type(transform).__name__
        _require_batchable(transform)
        if type(transform) in INTENSITY:
            intensity.append(INTENSITY[type(transform)](transform))
            continue
        if intensity:
            raise ConfigError(f"{name} follows a change of intensity; put it before, or use augmentation per sample.")
        geometric.append(GEOMETRIC[type(transform)](transform))
    if sum(step.interpolates for step in geometric) > 1:
        raise ConfigError("the chain has several RandAffined; give their ranges to a single one.")
    if len({tuple(step.transform.keys) for step in geometric}) > 1:
        raise ConfigError("the flips, turns and affine maps of a batch must have the same keys.")
    return geometric, intensity


def _require_batchable(transform: MapTransform) -> None:
    """Refuse transforms, and settings of them, that the steps do not reproduce."""
    name = type(transform).__name__
    if type(transform) not in GEOMETRIC | INTENSITY:
        known = ", ".join(kind.__name__ for kind in GEOMETRIC | INTENSITY)
        raise ConfigError(f"{name} has no batched form; use {known}, or augmentation per sample.")
    unsupported = {
        RandScaleIntensityd: lambda t: t.scaler.channel_wise,
        RandShiftIntensityd: lambda t: t.shifter.channel_wise or any(t.factor_key),
        RandAdjustContrastd: lambda t: t.adjuster.retain_stats or t.adjuster.invert_image,
        RandCoarseDropoutd: lambda t: not t.dropper.dropout_holes or not isinstance(t.dropper.fill_value, (int, float)),
        RandAffined: lambda t: any((size or 0) > 0 for size in ensure_tuple(t.rand_affine.spatial_size)),
    }
    check = unsupported.get(type(transform))
    if check is not None and check(transform):
        raise ConfigError(f"{name} has an option without a batched form; use augmentation per sample.")
