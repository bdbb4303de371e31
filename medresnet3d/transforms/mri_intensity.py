"""Intensities of brain MRI: bias field, z-scores in a mask, and the normalisation that MedicalNet's weights expect.

Reorientation is MONAI's ``Orientationd(keys, axcodes="RAS", labels=None)``; :func:`brain_mri` puts all together.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform, Orientationd, Spacingd, Transform
from monai.utils.misc import ensure_tuple
from monai.utils.type_conversion import convert_to_dst_type
from numpy.typing import NDArray

from medresnet3d.errors import DataError
from medresnet3d.transforms.brain_mask import brain_mask
from medresnet3d.transforms.keyed import Keyed
from medresnet3d.transforms.load import LoadVolumed
from medresnet3d.transforms.pictures import to_numpy

MIN_SIDE = 4  # voxels of the shrunk image along each axis


class N4BiasField(Transform):
    """Remove the slow shading of an MRI, channel by channel, by SimpleITK's N4.

    Tustison et al., "N4ITK: improved N3 bias correction", IEEE TMI 2010. The field is fitted to a shrunk image within
    the mask and divided out at full resolution.

    Args:
        shrink: factor by which each axis is shrunk for the fit.
        iterations: most iterations at each of the fitting levels.

    Raises:
        DataError: while running, if the image has negative values or the mask is empty.
    """

    def __init__(self, shrink: int = 4, iterations: tuple[int, ...] = (50, 50, 30, 20)) -> None:
        self.shrink, self.iterations = shrink, tuple(iterations)

    def __call__(self, img: Any, mask: Any = None) -> Any:
        """Give float32 (C, i, j, k).

        Args:
            img: intensities of at least 0, (C, i, j, k); a MetaTensor's voxel size is used.
            mask: (1, i, j, k), of what is fitted; by default what is above 0.
        """
        values = to_numpy(img).astype(np.float32)
        if values.min() < 0:
            raise DataError(
                "the image has negative intensities, of which N4 cannot take logarithms; correct it before."
            )
        inside = values[0] > 0 if mask is None else to_numpy(mask)[0] > 0
        if not inside.any():
            raise DataError("the mask for the bias field is empty; give one that marks the head or the brain.")
        spacing = [float(size) for size in img.pixdim] if isinstance(img, MetaTensor) else [1.0] * (values.ndim - 1)
        corrected = np.stack([self._corrected(channel, inside, spacing) for channel in values])
        return convert_to_dst_type(corrected, img, dtype=np.float32)[0]

    def _corrected(
        self, volume: NDArray[np.float32], inside: NDArray[Any], spacing: list[float]
    ) -> NDArray[np.float32]:
        image, mask = sitk.GetImageFromArray(volume), sitk.GetImageFromArray(inside.astype(np.uint8))
        for each in (image, mask):
            each.SetSpacing(spacing[::-1])
        factors = [max(1, min(self.shrink, size // MIN_SIDE)) for size in image.GetSize()]
        n4 = sitk.N4BiasFieldCorrectionImageFilter()
        n4.SetMaximumNumberOfIterations(list(self.iterations))
        n4.Execute(sitk.Shrink(image, factors), sitk.Shrink(mask, factors))
        field = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image))
        return (volume / np.exp(field)).astype(np.float32)


class N4BiasFieldd(MapTransform):
    """Dictionary version of :class:`N4BiasField`.

    Args:
        keys: images (C, i, j, k).
        mask_key: what is fitted, (1, i, j, k); an item without it: what is above 0.
        shrink: see :class:`N4BiasField`.
        iterations: see there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        mask_key: str = "brain",
        shrink: int = 4,
        iterations: tuple[int, ...] = (50, 50, 30, 20),
    ) -> None:
        super().__init__(keys)
        self.mask_key = mask_key
        self.transform = N4BiasField(shrink, iterations)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give the item with corrected images."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self.transform(item[key], item.get(self.mask_key))
        return item


class ZScoreInMask(Transform):
    """Mean 0 and standard deviation 1 inside a mask, channel by channel; 0 outside."""

    def __call__(self, img: Any, mask: Any = None) -> Any:
        """Give float32 (C, ...) for an image (C, ...) and a mask (1, ...); without one, what is not 0 in channel 0.

        Raises:
            DataError: if the mask is empty or a channel has one value in it.
        """
        values = to_numpy(img).astype(np.float32)
        inside = values[0] != 0 if mask is None else to_numpy(mask)[0] > 0
        out = np.zeros_like(values)
        for channel, result in zip(values, out, strict=True):
            deviation = channel[inside].std(dtype=np.float64) if inside.any() else 0.0
            if deviation == 0:
                raise DataError("the mask is empty or the image has one value in it; check the mask and the image.")
            result[inside] = (channel[inside] - channel[inside].mean(dtype=np.float64)) / deviation
        return convert_to_dst_type(out, img, dtype=np.float32)[0]


class ZScoreInMaskd(MapTransform):
    """Dictionary version of :class:`ZScoreInMask`.

    Args:
        keys: images (C, ...).
        mask_key: mask (1, ...).
    """

    def __init__(self, keys: KeysCollection, mask_key: str = "brain") -> None:
        super().__init__(keys)
        self.mask_key = mask_key
        self.transform = ZScoreInMask()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give the item with normalised images."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self.transform(item[key], item[self.mask_key])
        return item


class MedicalNetNormalise(Transform):
    """What MedicalNet's weights were trained on: z-scores by the voxels above 0, noise where the image is 0.

    Chen, Ma and Zheng, "Med3D: transfer learning for 3D medical image analysis", 2019, as in their
    ``datasets/brains18.py``: mean and standard deviation of the voxels above 0 are applied to all, and voxels that were
    exactly 0 become draws of N(0, 1). Their script draws anew each time; here the noise depends on the seed alone, so
    that an image is always prepared alike, in training from a cache as in inference.

    Args:
        seed: of the noise.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def __call__(self, img: Any) -> Any:
        """Give float32 (C, ...); each channel by itself.

        Raises:
            DataError: if no voxel is above 0, or all of those have one value.
        """
        values = to_numpy(img).astype(np.float32)
        out = np.empty_like(values)
        random = np.random.default_rng(self.seed)
        for channel, result in zip(values, out, strict=True):
            body = channel[channel > 0].astype(np.float64)
            if body.size == 0 or body.std() == 0:
                raise DataError("no voxels above 0 that differ; give the image before any other normalisation.")
            result[:] = (channel - body.mean()) / body.std()
            empty = channel == 0
            result[empty] = random.standard_normal(int(empty.sum()), dtype=np.float32)
        return convert_to_dst_type(out, img, dtype=np.float32)[0]


class MedicalNetNormalised(Keyed):
    """Dictionary version of :class:`MedicalNetNormalise`."""

    array_class = MedicalNetNormalise


class BodyMaskd(MapTransform):
    """Add the mask of a skull-stripped brain, or of the head where it was not stripped, of the first key.

    Args:
        keys: images (C, i, j, k).
        mask_key: where the mask (1, i, j, k) goes, uint8.
    """

    def __init__(self, keys: KeysCollection, mask_key: str = "brain") -> None:
        super().__init__(keys)
        self.mask_key = mask_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give the item with the mask."""
        image = data[self.keys[0]]
        mask = brain_mask(to_numpy(image[0]))[None]
        return dict(data) | {self.mask_key: convert_to_dst_type(mask, image, dtype=np.uint8)[0]}


def brain_mri(
    keys: KeysCollection = "image",
    label_keys: KeysCollection = (),
    spacing: float | None = None,
    n4: bool = False,
    medicalnet: bool = False,
) -> Compose:
    """Read brain MRI, turn it to RAS, correct its shading if asked, and normalise it.

    Args:
        keys: images on one grid, all of the same subject.
        label_keys: label maps on the same grid.
        spacing: edge of isotropic voxels in mm; ``None``: as they are.
        n4: remove the bias field; some seconds a scan.
        medicalnet: normalise for MedicalNet's weights instead of z-scores in the mask.

    Returns:
        a transform of items with paths to (1, i, j, k); the mask is under ``brain``.
    """
    images, labels = list(ensure_tuple(keys)), list(ensure_tuple(label_keys))
    everything = [*images, "brain", *labels]
    modes = ["bilinear"] * len(images) + ["nearest"] * (1 + len(labels))
    return Compose(
        [
            LoadVolumed(images, label_keys=labels),
            BodyMaskd(images[0]),
            Orientationd(everything, axcodes="RAS", labels=None),
            *([N4BiasFieldd(images)] if n4 else []),
            *([] if spacing is None else [Spacingd(everything, pixdim=spacing, mode=modes)]),
            MedicalNetNormalised(images) if medicalnet else ZScoreInMaskd(images),
        ]
    )
