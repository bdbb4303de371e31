"""Preparation, augmentation and answers for brain MRI: skull-stripped T1, alone or with other modalities.

Key names follow the package: ``image``, ``label`` (tissue map), ``pred``. Two masks are added: ``brain`` follows the
image through cropping and resampling, ``native_brain`` stays on the grid of the file.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    CropForegroundd,
    Invertd,
    MapTransform,
    MaskIntensityd,
    Orientationd,
    RandAdjustContrastd,
    RandBiasFieldd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandHistogramShiftd,
    RandScaleIntensityd,
    RandShiftIntensityd,
    SelectItemsd,
    Spacingd,
    Transform,
)

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.transforms.brain_mask import brain_mask, head_signs
from medresnet3d.transforms.load import LoadVolumed
from medresnet3d.transforms.mri_augmentation import RandAtrophyd, RandThickSlicesd, RandTissuePatchd, Sometimes
from medresnet3d.transforms.mri_modalities import AppendDetaild, RequireModalitiesd
from medresnet3d.transforms.tissue_model import shading, tissue_borders

FLUID_GREY, GREY_WHITE = 0.5, 0.9  # where the borders between the tissues go
FLOOR, CEILING = 0.02, 2.0  # least and largest value in the brain
DARK = 0.35  # where the 2nd percentile goes before the estimations; the 98th is 1 above it
DARKEST = 0.1  # least value there, since logarithms are taken
ANYWHERE = 0.3  # of the patches of whole heads, so that scalp, eyes and neck are seen too

LATTICE = 8
"""Voxels between the places at which a network with three strides of 2 looks at its lowest resolution.

An image whose sides are multiples of this is seen at the same places in one pass, in windows that start at multiples,
and mirrored; the answers then agree. Otherwise they depend on at which end the network pads.
"""


def _array(volume: torch.Tensor) -> np.ndarray:
    return np.asarray(volume.detach().cpu().numpy(), dtype=np.float32)


class RequireSkullStrippedd(MapTransform):
    """Refuse a scan of a whole head: the networks behind this transform know brains only.

    See :mod:`medresnet3d.transforms.brain_mask` for how it is recognised. The first channel is looked at.

    Args:
        keys: images (C, i, j, k) as MetaTensor.

    Raises:
        DataError: if the scan is a whole head, constant or empty.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give the item back unchanged, or raise."""
        item = dict(data)
        for key in self.keys:
            image: MetaTensor = item[key]
            spacing = tuple(float(value) for value in image.pixdim)
            signs = head_signs(_array(image[0]), spacing)
            if signs.whole_head:
                name = image.meta.get("filename_or_obj", "the scan")
                raise DataError(
                    f"{name}: this looks like a whole head, not a skull-stripped brain ({signs.litres:.1f} litres; "
                    f"intensity below the surface falls to {signs.rim_ratio:.2f} of that above it); run a "
                    "skull-stripping tool such as SynthStrip or HD-BET first and give its result."
                )
        return item


class BrainMaskd(MapTransform):
    """Add the mask of the brain twice: once to be transformed with the image, once to stay on the image's own grid.

    Args:
        keys: the image (C, i, j, k) as MetaTensor; the first channel decides.
        mask_key: mask (1, i, j, k) that later spatial transforms may change.
        native_key: the same mask for the answer in the input's grid.
    """

    def __init__(self, keys: KeysCollection, mask_key: str = "brain", native_key: str = "native_brain") -> None:
        super().__init__(keys)
        self.mask_key, self.native_key = mask_key, native_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give the item with both masks, uint8 MetaTensors with the image's affine."""
        item = dict(data)
        image: MetaTensor = item[self.keys[0]]
        mask = torch.from_numpy(brain_mask(_array(image[0])).astype(np.uint8))[None]
        for key in (self.mask_key, self.native_key):
            item[key] = MetaTensor(mask.clone(), meta=dict(image.meta))
        return item


class NormalizeBraind(MapTransform):
    """Even out the shading, put the borders between the tissues at fixed values, and everything outside the brain at 0.

    Fluid gives way to grey matter at 0.5, and grey to white matter at 0.9, channel by channel, as
    :func:`medresnet3d.transforms.tissue_model.tissue_borders` finds them. Percentiles, mean and deviation move with
    the share of fluid, which grows with age; these borders do not. A factor or an offset of the input changes nothing.
    In other contrasts than T1 the tissues follow in another order; there, and in whole heads, the 2nd percentile is put
    at 0.35 and the 98th at 1.35.

    Args:
        keys: images (C, i, j, k); the voxel size is taken from a MetaTensor and is 1 mm otherwise.
        mask_key: brain mask (1, i, j, k).
        by_tissue: how many of the first channels are T1 scans of a brain, whose borders are estimated; the others get
            percentiles. ``None``: all.

    Raises:
        DataError: if the brain has one value only.
    """

    def __init__(self, keys: KeysCollection, mask_key: str = "brain", by_tissue: int | None = None) -> None:
        super().__init__(keys)
        self.mask_key, self.by_tissue = mask_key, by_tissue

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give the item with normalised images."""
        item = dict(data)
        mask = item[self.mask_key][0].as_subclass(torch.Tensor).numpy() > 0
        for key in self.keys:
            image = item[key].float().clone()
            spacing = [float(size) for size in image.pixdim] if isinstance(image, MetaTensor) else [1.0] * 3
            for number, channel in enumerate(image):
                by_tissue = self.by_tissue is None or number < self.by_tissue
                channel.copy_(torch.from_numpy(_normalised(_array(channel), mask, spacing, by_tissue)))
            item[key] = image
        return item


def _normalised(volume: np.ndarray, mask: np.ndarray, spacing: Sequence[float], by_tissue: bool) -> np.ndarray:
    """One channel (i, j, k) on the scale of :class:`NormalizeBraind`, float32."""
    signal = _signal(volume, mask)
    even = _signal(signal / shading(signal, mask, spacing), mask)
    scaled = even
    if by_tissue:
        fluid_grey, grey_white = tissue_borders(even, mask, spacing)
        scaled = FLUID_GREY + (even - fluid_grey) * ((GREY_WHITE - FLUID_GREY) / (grey_white - fluid_grey))
    return np.where(mask, scaled.clip(FLOOR, CEILING), 0).astype(np.float32)


def _signal(volume: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The volume on a scale of positive values that no factor or offset of the input changes, float32."""
    low, high = np.percentile(volume[mask], [2, 98])
    if high <= low:
        raise DataError("the brain has one intensity only; give a T1 scan with tissue contrast.")
    return np.maximum(DARK + (volume - low) / (high - low), DARKEST).astype(np.float32)


class TissueMapd(MapTransform):
    """From logits to a label map: the likeliest tissue inside the brain, background everywhere outside.

    Args:
        keys: logits (K, i, j, k), class 0 background; they become label maps (1, i, j, k), uint8.
        mask_key: brain mask (1, i, j, k) on the same grid.
        stripped: whether all in the mask is tissue; in a whole head background is one of the answers there.
    """

    def __init__(self, keys: KeysCollection, mask_key: str = "brain", stripped: bool = True) -> None:
        super().__init__(keys)
        self.mask_key, self.stripped = mask_key, stripped

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give the item with label maps."""
        item = dict(data)
        mask = item[self.mask_key].as_subclass(torch.Tensor) > 0
        for key in self.keys:
            logits = item[key]
            plain = logits.as_subclass(torch.Tensor)
            labels = (_likeliest(plain[1:]) if self.stripped else _likeliest(plain) - 1) * mask.to(logits.device)
            item[key] = MetaTensor(labels, meta=dict(logits.meta)) if isinstance(logits, MetaTensor) else labels
        return item


def _likeliest(logits: torch.Tensor) -> torch.Tensor:
    """Number, from 1, of the largest of a few channels (K, i, j, k), (1, i, j, k), uint8; the first of equal ones.

    Comparing whole channels takes a fraction of the time of ``argmax``, which goes through them voxel by voxel.
    """
    best = logits[:1].clone()
    labels = torch.ones(best.shape, dtype=torch.uint8, device=logits.device)
    for number, channel in enumerate(logits[1:, None], 2):
        labels.masked_fill_(channel > best, number)
        torch.maximum(best, channel, out=best)
    return labels


@dataclass(frozen=True)
class _Scans:
    """What the scans are: see :func:`brain_tissue_training`."""

    spacing: float | Sequence[float]
    modalities: Sequence[str]
    detail: bool
    stripped: bool

    @property
    def channels(self) -> int:
        """How many the network sees."""
        return len(self.modalities) * (2 if self.detail else 1)

    def prepare(self, label_keys: Sequence[str], check: bool, multiple: int = 1) -> list[Transform]:
        """Load, check, mask, turn to RAS, normalise, resample where voxels differ by more than a tenth, and crop.

        ``multiple``: of how many voxels each side of the cropped image is a multiple.
        """
        moved = ["image", "brain", *label_keys]
        modes = ["bilinear"] + ["nearest"] * (1 + len(label_keys))
        size = np.broadcast_to(np.asarray(self.spacing, dtype=float), 3)
        return [
            LoadVolumed(["image"], label_keys=list(label_keys)),
            RequireModalitiesd("image", self.modalities),
            *([RequireSkullStrippedd("image")] if check and self.stripped else []),
            BrainMaskd("image"),
            Orientationd(moved, axcodes="RAS", labels=None),
            NormalizeBraind("image", by_tissue=1 if self.stripped else 0),
            Spacingd(
                moved, size.tolist(), min_pixdim=(size * 0.9).tolist(), max_pixdim=(size * 1.1).tolist(), mode=modes
            ),
            CropForegroundd(moved, source_key="brain", margin=2, allow_smaller=True, k_divisible=multiple),
            MaskIntensityd("image", mask_key="brain"),
            *([AppendDetaild("image")] if self.detail else []),
        ]


def brain_tissue_augmentation(
    patch_size: int = 64, strength: float = 1.0, channels: int = 1, stripped: bool = True
) -> Compose:
    """Random patches of a prepared item, with the looks of other scanners and other ages.

    Args:
        patch_size: side of the patch in voxels.
        strength: 1 for the augmentation that the shipped weights were trained with; 0 leaves plain patches, mirrored
            left to right.
        channels: of the image; the brightness of each of several changes by itself.
        stripped: whether there is nothing but brain; otherwise three in ten patches lie anywhere in the head.

    Returns:
        A chain from keys ``image`` and ``label`` to patches (C, n, n, n); it costs some 0.1 s.
    """
    each = channels > 1
    looks: list[Transform] = [
        RandThickSlicesd("image", prob=0.2),
        RandGaussianSmoothd("image", (0.3, 0.8), (0.3, 0.8), (0.3, 0.8), prob=0.15),
        RandBiasFieldd("image", degree=3, coeff_range=(-0.06, 0.06), prob=0.5),
        RandAdjustContrastd("image", prob=0.5, gamma=(0.8, 1.25)),
        RandHistogramShiftd("image", num_control_points=(4, 9), prob=0.2),
        RandScaleIntensityd("image", factors=0.08, prob=0.6, channel_wise=each),
        RandShiftIntensityd("image", offsets=0.05, prob=0.6, channel_wise=each),
        RandGaussianNoised("image", prob=0.4, std=0.08),
    ]
    anywhere = 0.0 if stripped else ANYWHERE
    return Compose(
        [
            RandTissuePatchd(size=patch_size, warp=0.15 * strength, anywhere=anywhere),
            RandAtrophyd(prob=0.15 * strength),
            Sometimes(Compose(looks), prob=0.2 * strength),
            *([MaskIntensityd("image", mask_key="label")] if stripped else []),
        ]
    )


#: Named strengths of :func:`brain_tissue_training`.
STRENGTHS = {"none": 0.0, "light": 0.4, "medium": 1.0, "strong": 1.5}


def _strength(strength: float | str) -> float:
    if isinstance(strength, str) and strength not in STRENGTHS:
        raise ConfigError(f"There is no augmentation {strength!r}; use {', '.join(STRENGTHS)} or a number.")
    return STRENGTHS[strength] if isinstance(strength, str) else strength


def brain_tissue_training(
    patch_size: int = 64,
    strength: float | str = 1.0,
    spacing: float | Sequence[float] = 1.0,
    modalities: Sequence[str] = ("T1",),
    detail: bool = False,
    stripped: bool = True,
    keep_patient: bool = False,
) -> Compose:
    """Training pipeline: paths of a brain's images and its tissue map to one augmented patch.

    Args:
        patch_size: side of the patch in voxels.
        strength: see :func:`brain_tissue_augmentation`; or ``none`` (0), ``light`` (0.4), ``medium`` (1) or ``strong``
            (1.5).
        spacing: voxel size in mm, one for all axes or one each.
        modalities: names of the images of a case, in their order, on one grid. The first is a T1: the brain is found in
            it, and it is normalised by the borders of its tissues, see :class:`NormalizeBraind`.
        detail: append a copy of each without what changes slowly, see
            :class:`~medresnet3d.transforms.mri_modalities.AppendDetaild`.
        stripped: whether scans are skull-stripped; a whole head is refused then. Otherwise the mask is that of the
            head, and intensities are normalised by percentiles.
        keep_patient: leave the name of the patient in the item, for
            :class:`~medresnet3d.engines.auto_context.OutOfFoldMaps`.

    Returns:
        A chain from an item with paths under ``image`` and ``label`` to patches (C, n, n, n).

    Raises:
        ConfigError: if a name of a strength is unknown.
    """
    scans = _Scans(spacing, modalities, detail, stripped)
    kept = ["image", "label", *(["patient"] if keep_patient else [])]
    augment = brain_tissue_augmentation(patch_size, _strength(strength), scans.channels, stripped)
    return Compose([*scans.prepare(["label"], check=True), SelectItemsd(kept), augment]).flatten()


def brain_tissue_validation(
    spacing: float | Sequence[float] = 1.0,
    modalities: Sequence[str] = ("T1",),
    detail: bool = False,
    stripped: bool = True,
) -> Compose:
    """Validation pipeline: the whole cropped brain with its tissue map, nothing random.

    The arguments are those of :func:`brain_tissue_training`.
    """
    return Compose(_Scans(spacing, modalities, detail, stripped).prepare(["label"], check=True, multiple=LATTICE))


def brain_tissue_inference(
    spacing: float | Sequence[float] = 1.0,
    check: bool = True,
    modalities: Sequence[str] = ("T1",),
    detail: bool = False,
    stripped: bool = True,
) -> Compose:
    """Inference pipeline: refuse whole heads, find the brain, normalise, turn to RAS, crop.

    Args:
        spacing: voxel size in mm that the network was trained at.
        check: refuse whole heads, where scans are ``stripped``.
        modalities: see :func:`brain_tissue_training`, as for the next two.
        detail: append copies without what changes slowly.
        stripped: whether scans are skull-stripped.
    """
    return Compose(_Scans(spacing, modalities, detail, stripped).prepare([], check=check, multiple=LATTICE))


def brain_tissue_answer(preprocessing: Compose, keys: KeysCollection = "pred", stripped: bool = True) -> Compose:
    """From the network's logits to a label map on the grid of the input file.

    Args:
        preprocessing: the chain of :func:`brain_tissue_inference` that prepared the item.
        keys: logits.
        stripped: see :class:`TissueMapd`.
    """
    return Compose(
        [
            Invertd(keys, transform=preprocessing, orig_keys="image", nearest_interp=False, to_tensor=True),
            TissueMapd(keys, mask_key="native_brain", stripped=stripped),
        ]
    )
