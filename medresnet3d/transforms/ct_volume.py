"""Whole CT scans: windows of Hounsfield units, and crops to the body or the lungs.

Isotropic resampling is MONAI's ``Spacingd(keys, pixdim=1.0)``; :func:`ct_volume` puts it together with these.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Compose, CropForeground, CropForegroundd, ScaleIntensityRange, Spacingd, Transform
from monai.utils.misc import ensure_tuple
from numpy.typing import NDArray
from scipy import ndimage

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.transforms.keyed import Keyed
from medresnet3d.transforms.load import LoadVolumed
from medresnet3d.transforms.pictures import to_numpy

#: Centre and width in HU of windows as radiologists set them; ``nodule`` is the range of the nodule bundles.
HU_WINDOWS = {
    "lung": (-600.0, 1500.0),
    "nodule": (-300.0, 1400.0),
    "mediastinum": (50.0, 350.0),
    "soft_tissue": (50.0, 400.0),
    "liver": (30.0, 150.0),
    "bone": (400.0, 1800.0),
    "brain": (40.0, 80.0),
    "subdural": (75.0, 215.0),
    "stroke": (40.0, 40.0),
}
BODY_HU = -500.0
LUNG_HU = -400.0
COARSE_MM = 3.0  # voxels at which body and lungs are looked for: enough for a box
REGIONS = ("body", "lung")
Mask = NDArray[np.bool_]


class HUWindow(Transform):
    """Scale windows of Hounsfield units to 0 to 1, one channel a window, and cut off what lies beyond.

    Args:
        windows: names from :data:`HU_WINDOWS` or (centre, width) pairs; several give several channels, all of the first
            window before all of the second.

    Raises:
        ConfigError: if a name is unknown or a width is not above 0.

    Example:
        >>> HUWindow(["lung", "mediastinum", (300, 900)])(scan).shape  # doctest: +SKIP
        torch.Size([3, 512, 512, 300])
    """

    def __init__(self, windows: str | Sequence[str | Sequence[float]] = "lung") -> None:
        chosen = [windows] if isinstance(windows, str) else list(windows)
        self.windows = [_window(each) for each in chosen]
        if not self.windows:
            raise ConfigError(f"windows is empty; give {', '.join(HU_WINDOWS)} or (centre, width) pairs in HU.")
        self.scalers = [
            ScaleIntensityRange(centre - width / 2, centre + width / 2, 0.0, 1.0, clip=True)
            for centre, width in self.windows
        ]

    def __call__(self, img: Any) -> torch.Tensor:
        """Give (C * windows, ...), float32, with the metadata of ``img`` (C, ...)."""
        channels = torch.cat([torch.as_tensor(scale(img)) for scale in self.scalers]).as_subclass(torch.Tensor)
        return MetaTensor(channels).copy_meta_from(img) if isinstance(img, MetaTensor) else channels


class HUWindowd(Keyed):
    """Dictionary version of :class:`HUWindow`."""

    array_class = HUWindow


def _window(given: str | Sequence[float]) -> tuple[float, float]:
    if isinstance(given, str):
        if given not in HU_WINDOWS:
            raise ConfigError(f"There is no window {given!r}; use {', '.join(HU_WINDOWS)} or (centre, width) in HU.")
        return HU_WINDOWS[given]
    if len(given) != 2 or given[1] <= 0:
        raise ConfigError(f"a window is {given!r}; give (centre, width) in HU, the width above 0.")
    return float(given[0]), float(given[1])


def body_mask(volume: NDArray[Any]) -> Mask:
    """The patient: the largest part denser than air, lungs and bowel filled slice by slice.

    Bridges of up to three voxels, e.g. to the table, are cut.

    Args:
        volume: HU (i, j, k).

    Raises:
        DataError: if nothing is denser than air.
    """
    dense = ndimage.binary_opening(np.pad(volume > BODY_HU, 2, mode="edge"), iterations=2)[2:-2, 2:-2, 2:-2]
    parts, count = ndimage.label(dense)
    if count == 0:
        raise DataError("there is no body in the scan: nothing is denser than -500 HU; are these Hounsfield units?")
    largest = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    return np.stack([ndimage.binary_fill_holes(largest[:, :, k]) for k in range(volume.shape[2])], axis=2)


def lung_mask(volume: NDArray[Any]) -> Mask:
    """The lungs: air inside the body, without what is small beside the largest part (bowel, the trachea alone).

    The two-dimensional filling of :func:`body_mask` makes air of the lungs part of the body; with the largest part go
    those of at least a tenth of its volume, and vessels and nodules inside are closed.

    Args:
        volume: HU (i, j, k).

    Raises:
        DataError: if there is no body, or no air in it.
    """
    air = body_mask(volume) & (volume < LUNG_HU)
    parts, count = ndimage.label(ndimage.binary_opening(air))
    if count == 0:
        raise DataError("there are no lungs in the scan: the body holds no air; crop to the body instead.")
    sizes = np.bincount(parts.ravel())[1:]
    lungs = np.isin(parts, 1 + np.flatnonzero(sizes >= 0.1 * sizes.max()))
    padded = np.pad(lungs, 3)
    return np.asarray(ndimage.binary_closing(padded, iterations=2)[3:-3, 3:-3, 3:-3])


class CropToRegion(CropForeground):
    """Crop a CT scan to the box of the body or the lungs; MONAI's ``CropForeground``, so it can be inverted.

    The region is looked for on every n-th voxel, about 3 mm apart, and the box widened by as much.

    Args:
        region: ``body`` or ``lung``.
        margin_mm: what is kept beyond the region.

    Raises:
        ConfigError: if the region is neither.
        DataError: from :func:`body_mask` or :func:`lung_mask`.
    """

    def __init__(self, region: str = "body", margin_mm: float = 10.0) -> None:
        if region not in REGIONS:
            raise ConfigError(f"There is no region {region!r} to crop to; use {', '.join(REGIONS)}.")
        super().__init__(allow_smaller=True)
        self.find = body_mask if region == "body" else lung_mask
        self.margin_mm = margin_mm

    def compute_bounding_box(self, img: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Begin and end of the box on each axis in voxels of a scan (C, i, j, k), whose first channel decides."""
        spacing = img.pixdim.numpy() if isinstance(img, MetaTensor) else np.ones(3)
        steps = np.maximum(1, np.floor(COARSE_MM / spacing)).astype(int)
        region = self.find(to_numpy(img[0])[tuple(slice(None, None, int(step)) for step in steps)])
        margin = np.ceil(self.margin_mm / spacing).astype(int)
        where = np.array(
            [[np.flatnonzero(region.any(others))[end] for end in (0, -1)] for others in ((1, 2), (0, 2), (0, 1))]
        )
        low = np.maximum(0, (where[:, 0] - 1) * steps + 1 - margin)
        high = np.minimum(img.shape[1:], (where[:, 1] + 1) * steps + margin)
        return low, high


class CropToRegiond(CropForegroundd):
    """Dictionary version of :class:`CropToRegion`; the box of one scan crops all keys.

    Args:
        keys: scans and masks on one grid.
        source_key: the scan in HU that the box is found in.
        region: see :class:`CropToRegion`.
        margin_mm: see there.
        start_coord_key: where the begin of the box goes, in voxels.
        end_coord_key: where its end goes.
        allow_missing_keys: skip keys that an item does not have.
    """

    def __init__(
        self,
        keys: KeysCollection,
        source_key: Hashable = "image",
        region: str = "body",
        margin_mm: float = 10.0,
        start_coord_key: str | None = "foreground_start_coord",
        end_coord_key: str | None = "foreground_end_coord",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(
            keys,
            str(source_key),
            start_coord_key=start_coord_key,
            end_coord_key=end_coord_key,
            allow_missing_keys=allow_missing_keys,
        )
        self.cropper = CropToRegion(region, margin_mm)


def ct_volume(
    keys: KeysCollection = "image",
    label_keys: KeysCollection = (),
    spacing: float = 1.0,
    region: str | None = "body",
    windows: str | Sequence[str | Sequence[float]] = "lung",
) -> Compose:
    """Read whole CT scans, crop them to a region, resample them to isotropic voxels and window them.

    Args:
        keys: scans; a single key where ``region`` is given.
        label_keys: label maps on the same grid.
        spacing: edge of a voxel in mm.
        region: ``body``, ``lung`` or ``None`` for the whole scan.
        windows: see :class:`HUWindow`.

    Returns:
        a transform of items with paths; ``Invertd`` brings a prediction back to the grid of the file.
    """
    images, labels = list(ensure_tuple(keys)), list(ensure_tuple(label_keys))
    crop = [] if region is None else [CropToRegiond([*images, *labels], images[0], region)]
    modes = ["bilinear"] * len(images) + ["nearest"] * len(labels)
    padding = ["border"] * len(modes)
    return Compose(
        [
            LoadVolumed(images, label_keys=labels),
            *crop,
            Spacingd([*images, *labels], pixdim=spacing, mode=modes, padding_mode=padding),
            HUWindowd(images, windows),
        ]
    )
