"""A cascade of two networks: a dense one finds the most suspicious point, a classifier looks at the crop around it.

Paper: J. Mo, L. Zhang, Y. Feng. Exudate-based diabetic macular edema recognition in retinal images using cascaded deep
residual networks. Neurocomputing 290 (2018) 161-171.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from medresnet3d.errors import ConfigError


def peak_position(score: Tensor, shape: Sequence[int]) -> Tensor:
    """Where a map is largest, as the index of a voxel of an image of another resolution.

    Of several largest values the first in the order of memory counts.

    Args:
        score: (B, ...) of two or three dimensions in space.
        shape: the image's shape in space.

    Returns:
        int64, (B, dimensions): index of the image's voxel under the middle of the map's.
    """
    flat = score.flatten(1).argmax(1)
    places: list[Tensor] = []
    for axis in range(score.ndim - 1, 0, -1):
        size = score.shape[axis]
        index = flat % size
        flat = torch.div(flat, size, rounding_mode="floor")
        places.insert(0, torch.div((2 * index + 1) * shape[axis - 1], 2 * size, rounding_mode="floor"))
    return torch.stack(places, 1)


def crop_around(image: Tensor, position: Tensor, size: Sequence[int]) -> Tensor:
    """Cut a box around a voxel out of each image; what lies outside of the image is zero.

    Args:
        image: (B, C, ...) of two or three dimensions in space.
        position: index of the voxel that becomes number ``size // 2`` of the box along each axis, int64, (B, axes).
        size: the box's shape in space.

    Returns:
        (B, C, *size), voxels as they are, without interpolation.
    """
    dimensions = len(size)
    batch = torch.arange(image.shape[0], device=image.device).view(-1, *[1] * dimensions)
    inside = torch.ones_like(batch, dtype=torch.bool)
    index = []
    for axis in range(dimensions):
        steps = torch.arange(size[axis], device=image.device) - size[axis] // 2
        place = position[:, axis, None] + steps
        place = place.view(-1, *[size[axis] if other == axis else 1 for other in range(dimensions)])
        inside = inside & (place >= 0) & (place < image.shape[2 + axis])
        index.append(place.clamp(0, image.shape[2 + axis] - 1))
    channels_last = image.movedim(1, -1)
    box = channels_last[(batch, *index)] * inside[..., None].to(image.dtype)
    return box.movedim(-1, 1)


class PeakCascade(nn.Module):
    """Find the voxel of the highest probability, crop around it, classify the crop.

    Args:
        finder: from (B, C, ...) to dense logits (B, 1 or K, ...) of the same or a smaller shape.
        classifier: from crops (B, C, *size) to logits.
        size: shape of the crop.
        channel: channel of the dense logits that is looked for; with several channels, after a softmax over them.

    Shapes: (B, C, ...) to (B, K) logits. In training mode a list: those, and the dense logits. The crop's place is no
    differentiable function of the dense logits, so the classification does not train the finder.

    Raises:
        ConfigError: if the crop has not two or three dimensions.
    """

    def __init__(self, finder: nn.Module, classifier: nn.Module, size: Sequence[int], channel: int = 0) -> None:
        super().__init__()
        if len(size) not in (2, 3):
            raise ConfigError(f"The crop's size is {list(size)}; give two or three numbers.")
        self.finder, self.second = finder, classifier
        self.size, self.channel = list(size), channel

    @torch.jit.unused
    def pretrained_part(self, names: Iterable[str]) -> nn.Module:
        """The finder, for weights of it alone; else the whole."""
        return self if any(name.startswith(("finder.", "second.")) for name in names) else self.finder

    def evidence(self, x: Tensor) -> Tensor:
        """Probability of what is looked for at each place, (B, ...) of the image's size."""
        dense = self.finder(x)
        score = dense.softmax(1) if dense.shape[1] > 1 else dense.sigmoid()
        return score[:, self.channel]

    def crop(self, x: Tensor, dense: Tensor) -> Tensor:
        """The crops that the second network sees, (B, C, *size)."""
        score = (dense.softmax(1) if dense.shape[1] > 1 else dense)[:, self.channel]
        return crop_around(x, peak_position(score, x.shape[2:]), self.size)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (B, K); in training mode a list, see the class."""
        dense = self.finder(x)
        if isinstance(dense, list):
            return [self.second(self.crop(x, dense[0])), *dense]  # type: ignore[return-value]
        logits = self.second(self.crop(x, dense))
        return [logits, dense] if self.training else logits  # type: ignore[return-value]
