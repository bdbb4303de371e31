"""Random changes of a labelled brain MRI that make a segmentation network bear other scanners and other ages.

All of them draw from MONAI's ``Randomizable.R``, work on channel-first tensors (C, i, j, k) with tissue labels
0 background, 1 cerebrospinal fluid, 2 grey matter, 3 white matter, and cost some milliseconds for a patch of 64^3: the
patch is sampled from the volume in one step, so that nothing is ever computed for voxels that are then cut away.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, MapTransform, Randomizable, Transform
from torch.nn import functional

CSF, GREY, WHITE = 1, 2, 3


def _plain(volume: torch.Tensor) -> torch.Tensor:
    """The tensor without its metadata, as float."""
    return torch.Tensor(volume.as_subclass(torch.Tensor)).float()


def _soft_edges(volume: torch.Tensor) -> torch.Tensor:
    """Blur (1, i, j, k) by about half a voxel, as the partial volume effect does."""
    return functional.avg_pool3d(functional.pad(volume[None], (1,) * 6, mode="replicate"), 3, stride=1)[0]


def random_linear_map(
    random: np.random.RandomState, rotation: float, scale: tuple[float, float], shear: float
) -> torch.Tensor:
    """A linear map (3, 3) from offsets in what is drawn to offsets in the volume it is drawn from, float32.

    Args:
        random: where chance comes from.
        rotation: largest rotation about each axis in radians.
        scale: smallest and largest factor by which structures grow; each axis differs from it by up to a twentieth.
        shear: largest shear.
    """
    matrix = np.eye(3)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        angle = random.uniform(-rotation, rotation)
        turn = np.eye(3)
        turn[[first, second], [first, second]] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    sheared = np.eye(3) + random.uniform(-shear, shear, (3, 3)) * (1 - np.eye(3))
    common = random.uniform(*scale)
    scaled = np.diag(1 / (common * random.uniform(0.95, 1.05, 3)))
    return torch.as_tensor(matrix @ sheared @ scaled, dtype=torch.float32)


def random_bending(random: np.random.RandomState, size: tuple[int, ...], elastic: float) -> torch.Tensor:
    """A smooth random displacement (3, *size) in voxels, at most ``elastic`` of them, less where it is finer."""
    nodes = int(random.randint(4, 9))
    strength = random.uniform(0, elastic) * 4 / nodes
    coarse = torch.as_tensor(random.uniform(-1, 1, (1, 3, nodes, nodes, nodes)) * strength, dtype=torch.float32)
    return functional.interpolate(coarse, size=size, mode="trilinear", align_corners=True)[0]


class RandTissuePatchd(Randomizable, MapTransform):
    """Sample one randomly placed, rotated, scaled, sheared, bent and mirrored patch of image and label map.

    A magnification around a point inside the ventricles widens them, as age does. Intensities are interpolated
    linearly; labels by the largest of the linearly interpolated class maps.

    Args:
        image_key: image (C, i, j, k), background 0.
        label_key: label map (1, i, j, k).
        size: side of the patch in voxels.
        warp: probability of any geometric change; otherwise the patch is cut out as it is, with its own noise.
        rotation: largest rotation about each axis in radians.
        scale: smallest and largest factor by which structures grow, drawn for each axis.
        shear: largest shear.
        elastic: largest displacement of the smooth random field in voxels.
        ventricles: probability, given a warp, that the ventricles are widened.
        flip: probability of mirroring left and right (the first axis of a RAS volume).
        anywhere: share of the patches that lie anywhere in the volume; the others have a labelled voxel in the middle.
    """

    def __init__(
        self,
        image_key: str = "image",
        label_key: str = "label",
        size: int = 64,
        warp: float = 0.8,
        rotation: float = 0.25,
        scale: tuple[float, float] = (0.85, 1.2),
        shear: float = 0.08,
        elastic: float = 4.0,
        ventricles: float = 0.4,
        flip: float = 0.5,
        anywhere: float = 0.0,
    ) -> None:
        super().__init__([image_key, label_key])
        self.image_key, self.label_key = image_key, label_key
        self.size, self.warp, self.rotation, self.scale, self.shear = size, warp, rotation, scale, shear
        self.elastic, self.ventricles, self.flip, self.anywhere = elastic, ventricles, flip, anywhere
        axis = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
        self.offsets = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))  # (3, n, n, n) voxels

    def _matrix(self) -> torch.Tensor:
        """A random linear map from patch offsets to volume offsets."""
        return random_linear_map(self.R, self.rotation, self.scale, self.shear)

    def _field(self) -> torch.Tensor:
        """A smooth random displacement (3, n, n, n) in voxels."""
        return random_bending(self.R, (self.size,) * 3, self.elastic)

    def _widen(self, points: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Pull the sampling points toward points in the ventricles: what lies there is magnified."""
        inner = _ventricle_points(label)
        if len(inner) == 0:
            return points
        for _ in range(int(self.R.randint(1, 4))):
            centre = torch.as_tensor(inner[self.R.randint(len(inner))], dtype=torch.float32)[:, None, None, None]
            radius, strength = self.R.uniform(8, 22), self.R.uniform(0.15, 0.6)
            away = points - centre
            reach = torch.exp(-(away**2).sum(0, keepdim=True) / (2 * radius**2))
            points = centre + away * (1 - strength * reach)
        return points

    def _centre(self, label: torch.Tensor) -> np.ndarray:
        """A labelled voxel, found by trial so that no list of all of them is made; or any voxel, now and then."""
        shape = np.asarray(label.shape[1:])
        if self.anywhere and self.R.uniform() < self.anywhere:
            return (self.R.uniform(0, 1, 3) * shape).astype(int)
        for _ in range(100):
            point = (self.R.uniform(0, 1, 3) * shape).astype(int)
            if label[0, point[0], point[1], point[2]] > 0:
                return point
        return shape // 2

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace image and label map by their patches, plain tensors (C, n, n, n); other keys stay."""
        item = dict(data)
        image, label = _plain(item[self.image_key]), _plain(item[self.label_key])
        centre = self._centre(label)
        mirrored, warped = self.R.uniform() < self.flip, self.R.uniform() < self.warp
        patch = self._bend(image, label, centre) if warped else _cut(image, label, centre, self.size)
        item[self.image_key], item[self.label_key] = (each.flip(1) if mirrored else each for each in patch)
        return item

    def _bend(self, image: torch.Tensor, label: torch.Tensor, centre: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Sample the patch with affine, elastic and ventricle warp."""
        points = torch.einsum("ab,bijk->aijk", self._matrix(), self.offsets) + self._field()
        points = torch.as_tensor(centre, dtype=torch.float32)[:, None, None, None] + points
        if self.R.uniform() < self.ventricles:
            points = self._widen(points, label)
        return sample_at(image, label, points, classes=4)


def _cut(image: torch.Tensor, label: torch.Tensor, centre: np.ndarray, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut the cube of side ``size`` around a voxel out of image and label map, zeros beyond the volume."""
    low = centre - size // 2
    high = low + size
    shape = np.asarray(image.shape[1:])
    window = (slice(None), *(slice(max(0, a), min(b, n)) for a, b, n in zip(low, high, shape, strict=True)))
    before, after = np.maximum(0, -low), np.maximum(0, high - shape)
    padding = [int(n) for axis in (2, 1, 0) for n in (before[axis], after[axis])]
    return functional.pad(image[window], padding), functional.pad(label[window], padding)


def _ventricle_points(label: torch.Tensor) -> np.ndarray:
    """Voxels (n, 3) that are fluid in a neighbourhood of 9 mm without background: ventricles, some deep fissures."""
    coarse = functional.max_pool3d((label == 0).float()[None], 9, stride=3, padding=4)[0, 0]
    fluid = functional.avg_pool3d((label == CSF).float()[None], 3, stride=3)[0, 0]
    size = tuple(min(a, b) for a, b in zip(coarse.shape, fluid.shape, strict=True))
    cut = tuple(slice(0, n) for n in size)
    return ((coarse[cut] == 0) & (fluid[cut] > 0.9)).nonzero().numpy() * 3 + 1


def sample_at(
    image: torch.Tensor, label: torch.Tensor, points: torch.Tensor, classes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Image and labels at given places of a volume, of which only the part that they touch is looked at.

    Args:
        image: (1, i, j, k), interpolated linearly; zero beyond its borders.
        label: label map of its shape; the largest of the linearly interpolated class maps wins.
        points: voxel positions (3, ...).
        classes: number of classes, background included.
    """
    shape = torch.tensor(image.shape[1:])
    low = torch.minimum(points.flatten(1).amin(1).floor().long().clamp(min=0), shape - 2)
    high = torch.minimum(torch.maximum(points.flatten(1).amax(1).ceil().long() + 1, low + 2), shape)
    cut = (slice(None), *(slice(int(a), int(b)) for a, b in zip(low, high, strict=True)))
    image, label = image[cut], label[cut]
    maps = torch.cat([image, *[(label == number).float() for number in range(1, classes)]])[None]
    extent = (high - low - 1).float()[:, None, None, None]
    grid = 2 * (points - low[:, None, None, None]) / extent - 1
    grid = grid.flip(0).permute(1, 2, 3, 0)[None]  # grid_sample counts axes from the last one
    sampled = functional.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=True)[0]
    channels = len(image)
    background = 1 - sampled[channels:].sum(0, keepdim=True)
    return sampled[:channels], torch.cat([background, sampled[channels:]]).argmax(0, keepdim=True).float()


class RandAtrophyd(Randomizable, MapTransform):
    """Let fluid grow into the cortex and cortex into white matter by up to a voxel, where a random smooth field says.

    Labels are eroded in the order fluid < grey < white; the image changes by the difference of the class means, so that
    its own noise stays.

    Args:
        image_key: image patch (C, i, j, k); each channel changes by its own class means.
        label_key: label patch (1, i, j, k).
        prob: probability of a change.
    """

    def __init__(self, image_key: str = "image", label_key: str = "label", prob: float = 0.3) -> None:
        super().__init__([image_key, label_key])
        self.image_key, self.label_key, self.prob = image_key, label_key, prob

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Change image and label map of the item."""
        item = dict(data)
        if self.R.uniform() >= self.prob:
            return item
        image, label = item[self.image_key], item[self.label_key]
        lowest = -functional.max_pool3d(-torch.where(label == 0, torch.tensor(WHITE + 1.0), label)[None], 3, 1, 1)[0]
        coarse = torch.as_tensor(self.R.uniform(-1, 1, (1, 1, 5, 5, 5)), dtype=torch.float32)
        field = functional.interpolate(coarse, size=label.shape[1:], mode="trilinear", align_corners=True)[0]
        shrunk = torch.where((label > 0) & (field > self.R.uniform(-0.6, 0.4)), lowest.clamp(max=WHITE), label)
        changes = torch.cat([_soft_edges(_change(channel[None], label, shrunk)) for channel in image])
        item[self.image_key] = image + changes * (label > 0)
        item[self.label_key] = shrunk
        return item


def _change(image: torch.Tensor, label: torch.Tensor, shrunk: torch.Tensor) -> torch.Tensor:
    """How one channel (1, i, j, k) changes where tissue does: by the difference of the class means."""
    change = torch.zeros_like(image)
    found = [tissue for tissue in (CSF, GREY, WHITE) if bool((label == tissue).any())]
    means = {tissue: image[label == tissue].mean() for tissue in found}
    for before in (GREY, WHITE):
        for after in range(CSF, before):
            moved = (label == before) & (shrunk == after)
            if after in means and bool(moved.any()):
                change[moved] = means[after] - means[before]
    return change


class RandThickSlicesd(Randomizable, MapTransform):
    """Resample along one axis to thicker slices and back.

    Args:
        image_key: image patch (C, i, j, k).
        prob: probability of a change.
        factor: smallest and largest slice thickness in voxels.
    """

    def __init__(self, image_key: str = "image", prob: float = 0.15, factor: tuple[float, float] = (1.3, 3.0)) -> None:
        super().__init__([image_key])
        self.image_key, self.prob, self.factor = image_key, prob, factor

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Change the image of the item."""
        item = dict(data)
        if self.R.uniform() >= self.prob:
            return item
        image = item[self.image_key][None]
        size = list(image.shape[2:])
        thick = list(size)
        axis = int(self.R.randint(3))
        thick[axis] = max(2, round(size[axis] / self.R.uniform(*self.factor)))
        slices = functional.interpolate(image, size=thick, mode="area")
        item[self.image_key] = functional.interpolate(slices, size=size, mode="trilinear")[0]
        return item


class Sometimes(Randomizable, Transform):
    """Apply a chain of random transforms with some probability, so that a share of the patches keeps its looks.

    Args:
        transform: what to apply to the item.
        prob: how often.
    """

    def __init__(self, transform: Compose, prob: float) -> None:
        self.transform, self.prob = transform, prob

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Sometimes:
        """Seed this transform and the chain inside."""
        super().set_random_state(seed, state)
        self.transform.set_random_state(seed=int(self.R.randint(2**31)))
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
        """Give the item, changed or not."""
        return self.transform(data) if self.R.uniform() < self.prob else data  # type: ignore[return-value]
