"""Fixed, harsh changes of a prepared brain, to ask how well a trained network bears what it was not trained on.

Each takes an image (1, i, j, k), normalised with background 0, and its tissue map, and gives both back, the image
normalised anew as a scan with these looks would be. They are made in other ways than the augmentation of
:mod:`medresnet3d.transforms.mri_augmentation`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from medresnet3d.transforms.mri import NormalizeBraind

Pair = tuple[torch.Tensor, torch.Tensor]
Shift = Callable[[torch.Tensor, torch.Tensor], Pair]


def _normalised(shift: Shift) -> Shift:
    """The shift followed by the normalisation that every scan gets."""

    def both(image: torch.Tensor, label: torch.Tensor) -> Pair:
        changed, truth = shift(image, label)
        return NormalizeBraind("image")({"image": changed, "brain": truth > 0})["image"], truth

    return both


def gamma(image: torch.Tensor, label: torch.Tensor) -> Pair:
    """Raise intensities to the power of 1.5: dark fluid, weak contrast among the dark."""
    return image.clamp(min=0) ** 1.5, label


def field(image: torch.Tensor, label: torch.Tensor) -> Pair:
    """Sensitivity that falls by 30% from front left to back right."""
    axes = [torch.linspace(-1, 1, n) for n in image.shape[1:]]
    slope = axes[0][:, None, None] + axes[1][None, :, None] + axes[2][None, None, :] * 0
    return image * (1 - 0.09 * slope), label


def noise(image: torch.Tensor, label: torch.Tensor) -> Pair:
    """Rician noise of a tenth of white matter's intensity."""
    rng = np.random.default_rng(0)
    real, imaginary = (torch.as_tensor(0.12 * rng.standard_normal(image.shape), dtype=torch.float32) for _ in range(2))
    return torch.hypot(image + real, imaginary) * (image > 0), label


def thick_slices(image: torch.Tensor, label: torch.Tensor) -> Pair:
    """Slices of 2 mm instead of 1 mm, brought back by linear interpolation."""
    shape = image.shape[1:]
    coarse = functional.interpolate(image[None], size=(*shape[:2], shape[2] // 2), mode="area")
    back = functional.interpolate(coarse, size=tuple(shape), mode="trilinear")[0]
    return torch.where(image > 0, back, torch.zeros(())), label


def atrophy(image: torch.Tensor, label: torch.Tensor) -> Pair:
    """Ventricles magnified by about half in every direction, as in old age."""
    truth = label[0].numpy() == 1
    outside = ndimage.distance_transform_edt(label[0].numpy() > 0)
    inner = np.argwhere(truth & (outside > 30))
    centre = torch.as_tensor(inner.mean(0), dtype=torch.float32)[:, None, None, None]
    grid = torch.stack(torch.meshgrid(*[torch.arange(n, dtype=torch.float32) for n in image.shape[1:]], indexing="ij"))
    away = grid - centre
    points = centre + away * (1 - 0.35 * torch.exp(-(away**2).sum(0, keepdim=True) / (2 * 25.0**2)))
    where = points.numpy()
    moved = torch.from_numpy(ndimage.map_coordinates(image[0].numpy(), where, order=1, mode="constant"))[None]
    tissue = torch.from_numpy(ndimage.map_coordinates(label[0].numpy().astype(np.uint8), where, order=0))[None]
    return moved * (tissue > 0), tissue


SHIFTS: dict[str, Shift] = {
    "gamma 1.5": _normalised(gamma),
    "30% field": _normalised(field),
    "10% Rician noise": _normalised(noise),
    "2 mm slices": _normalised(thick_slices),
    "wide ventricles": _normalised(atrophy),
}
