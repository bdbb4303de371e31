"""Several modalities of one brain as channels, and what of them a network may be shown besides."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from scipy import ndimage

from medresnet3d.errors import DataError
from medresnet3d.transforms.contrast import CLAHE

DETAIL_MM = 5.0
"""Standard deviation of the Gaussian whose result is subtracted; that of the paper is not known to us."""


class RequireModalitiesd(MapTransform):
    """Refuse a case with another number of images than the network was made for.

    Args:
        keys: images (C, i, j, k).
        modalities: names of the channels, in their order.

    Raises:
        DataError: while running, if the numbers differ.
    """

    def __init__(self, keys: KeysCollection, modalities: Sequence[str]) -> None:
        super().__init__(keys)
        self.modalities = list(modalities)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give the item back unchanged, or raise."""
        item = dict(data)
        for key in self.keys:
            found, wanted = item[key].shape[0], len(self.modalities)
            if found != wanted:
                name = item[key].meta.get("filename_or_obj", "the case") if isinstance(item[key], MetaTensor) else key
                raise DataError(
                    f"{name}: the case has {found} image(s), but the network takes {wanted}: "
                    f"{', '.join(self.modalities)}; give them in this order (`image` of a manifest as a list, or "
                    "--modalities), or choose a bundle that was trained for what you have."
                )
        return item


class AppendDetaild(MapTransform):
    """Append a copy of each channel without what changes slowly, its contrast equalised: C channels become 2 C.

    Chen et al. (VoxResNet, 2018) give each modality twice: as it is, and after subtraction of its Gaussian-smoothed
    copy and contrast-limited adaptive histogram equalisation.

    Args:
        keys: images (C, i, j, k), 0 outside the brain; the voxel size is taken from a MetaTensor and is 1 mm otherwise.
        mask_key: brain mask (1, i, j, k); the copies are 0 outside it and from 0 to 1 inside.
        sigma_mm: standard deviation of the Gaussian.
    """

    def __init__(self, keys: KeysCollection, mask_key: str = "brain", sigma_mm: float = DETAIL_MM) -> None:
        super().__init__(keys)
        self.mask_key, self.sigma_mm = mask_key, sigma_mm

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give the item with (2 C, i, j, k) in place of each image; metadata are the image's."""
        item = dict(data)
        mask = np.asarray(torch.as_tensor(item[self.mask_key])[0].cpu()) > 0
        for key in self.keys:
            image = item[key]
            spacing = [float(size) for size in image.pixdim] if isinstance(image, MetaTensor) else [1.0] * 3
            plain = image.as_tensor() if isinstance(image, MetaTensor) else image
            sigma = [self.sigma_mm / size for size in spacing]
            details = np.stack([_detail(channel.cpu().numpy(), mask, sigma) for channel in plain])
            both = torch.cat([plain, torch.from_numpy(details).to(plain)])
            item[key] = (
                MetaTensor(both, meta=image.meta, applied_operations=image.applied_operations)
                if isinstance(image, MetaTensor)
                else both
            )
        return item


def _detail(volume: np.ndarray, mask: np.ndarray, sigma: Sequence[float]) -> np.ndarray:
    """One channel (i, j, k) without its smooth part, equalised; float32."""
    inside = mask.astype(np.float32)
    # divided by the share of brain under the Gaussian, so that the surface does not look like an edge
    share = np.maximum(ndimage.gaussian_filter(inside, sigma), 1e-3)
    detail = np.where(mask, volume - ndimage.gaussian_filter(volume * inside, sigma) / share, 0).astype(np.float32)
    low, high = float(detail.min()), float(detail.max())
    if low == high:
        return np.zeros_like(detail)
    equalised: np.ndarray = CLAHE()((detail - low)[None] / np.float32(high - low))[0]
    return np.asarray(equalised * inside, dtype=np.float32)
