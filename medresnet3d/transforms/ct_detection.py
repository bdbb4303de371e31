"""The pipelines of nodule detectors: whole chest CT at isotropic voxels, and patches of it for training."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.transforms import (
    Compose,
    ConcatItemsd,
    EnsureTyped,
    MapTransform,
    Orientationd,
    RandAffined,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandGaussianNoised,
    RandRotate90d,
    RandScaleIntensityd,
    ScaleIntensityRanged,
    SelectItemsd,
    Spacingd,
    SpatialPadd,
    Transform,
)

from medresnet3d.names import require_name
from medresnet3d.transforms.ct import AIR_HU, CARRIED_ITEMS, TRAINING_ITEMS
from medresnet3d.transforms.ct_volume import CropToRegiond
from medresnet3d.transforms.detection_targets import BoxesToMapd, FindingsFromBoxesd
from medresnet3d.transforms.load import LoadVolumed

STRENGTHS = ("none", "light", "medium", "strong")
LEARNED = ("image", "label")


class FindingPatchd(RandCropByPosNegLabeld):
    """One random patch of a scan, around a voxel of a finding or around any other.

    MONAI's ``RandCropByPosNegLabeld`` gives a list of patches; here it is one item. Scans smaller than the patch have
    to be padded before.

    Args:
        patch_size: voxels along each axis.
        finding_share: how often the patch's middle lies in a finding, where the scan has any.
        source_key: map that is above 0 in findings.
    """

    def __init__(self, patch_size: Sequence[int], finding_share: float = 0.5, source_key: str = "label") -> None:
        super().__init__(LEARNED, source_key, list(patch_size), pos=finding_share, neg=1 - finding_share, num_samples=1)

    def __call__(  # type: ignore[override]
        self, data: Mapping[Hashable, torch.Tensor], lazy: bool | None = None
    ) -> dict[Hashable, torch.Tensor]:
        """Give a copy of ``data`` with image and truth cropped."""
        return super().__call__(data, lazy)[0]


def nodule_detection_augmentation(strength: str) -> list[MapTransform]:
    """Random transforms of a patch and its truth, in four strengths.

    =========  ==================================================================================================
    strength   what varies
    =========  ==================================================================================================
    none       nothing
    light      flips along the three axes, a factor on the intensity, noise
    medium     and turns by right angles in the axial plane
    strong     and, in half of the patches, a turn by up to 15 degrees with up to a tenth of scaling
    =========  ==================================================================================================

    Raises:
        ConfigError: if the strength is unknown.
    """
    level = STRENGTHS.index(require_name("Augmentation", strength, STRENGTHS))
    if level == 0:
        return []
    chain: list[MapTransform] = [RandFlipd(LEARNED, prob=0.5, spatial_axis=axis) for axis in range(3)]
    if level > 1:
        chain.append(RandRotate90d(LEARNED, prob=0.5, max_k=3, spatial_axes=(0, 1)))
    if level > 2:
        turn: dict[str, Any] = {
            "rotate_range": (0.0, 0.0, 0.26),
            "scale_range": (0.1,) * 3,
            "padding_mode": "border",
        }
        chain.append(RandAffined(LEARNED, prob=0.5, mode=("bilinear", "nearest"), **turn))
    return [
        *chain,
        RandScaleIntensityd("image", factors=0.1, prob=0.5),
        RandGaussianNoised("image", prob=0.5, std=0.02),
    ]


def _prepare(spacing: float, region: str | None, intensity_range: Sequence[float]) -> list[Transform]:
    """Read, turn to RAS, crop to the lungs, resample, window."""
    low, high = (float(value) for value in intensity_range)
    crop = [] if region is None else [CropToRegiond("image", "image", region)]
    return [
        LoadVolumed("image"),
        Orientationd("image", axcodes="RAS", labels=None),
        *crop,
        Spacingd("image", pixdim=spacing, mode="bilinear", padding_mode="border"),
        ScaleIntensityRanged("image", low, high, 0.0, 1.0, clip=True),
    ]


def nodule_detection_training(
    patch_size: Sequence[int] = (64, 64, 64),
    spacing: float = 1.0,
    truth: Sequence[str] = ("heat", "sphere"),
    finding_share: float = 0.5,
    region: str | None = "lung",
    intensity_range: Sequence[float] = (AIR_HU, 400.0),
    augmentation: str = "light",
) -> Compose:
    """Patches for training a dense detector: read, crop, resample, window, draw the truth, cut a patch, vary.

    Args:
        patch_size: voxels along each axis.
        spacing: edge of a voxel in mm.
        truth: kinds of :class:`~medresnet3d.transforms.detection_targets.BoxesToMapd`, one channel of ``label`` each.
        finding_share: see :class:`FindingPatchd`.
        region: what a scan is cropped to, ``lung`` or ``body``; ``None`` leaves it whole.
        intensity_range: HU that become 0 and 1, beyond which is cut off.
        augmentation: see :func:`nodule_detection_augmentation`.

    Returns:
        a transform of items with ``image`` (path) and ``boxes`` to ``image`` (1, i, j, k) and ``label``
        (len(truth), i, j, k).
    """
    drawn = [BoxesToMapd(target_key=f"truth_{kind}", kind=kind) for kind in truth]
    return Compose(
        [
            *_prepare(spacing, region, intensity_range),
            *drawn,
            ConcatItemsd([f"truth_{kind}" for kind in truth], "label"),
            SpatialPadd(LEARNED, list(patch_size)),
            SelectItemsd(TRAINING_ITEMS, allow_missing_keys=True),
            FindingPatchd(patch_size, finding_share),
            *nodule_detection_augmentation(augmentation),
            EnsureTyped(LEARNED, track_meta=False),
        ],
        log_stats=False,
    )


def nodule_detection_validation(
    spacing: float = 1.0, region: str | None = "lung", intensity_range: Sequence[float] = (AIR_HU, 400.0)
) -> Compose:
    """Whole scans with their findings.

    These are as :class:`~medresnet3d.transforms.detection_targets.FindingsFromBoxesd` leaves them.
    """
    return Compose(
        [
            *_prepare(spacing, region, intensity_range),
            FindingsFromBoxesd(),
            SelectItemsd([*CARRIED_ITEMS, "patient"], allow_missing_keys=True),
        ],
        log_stats=False,
    )


def nodule_detection_inference(
    spacing: float = 1.0, region: str | None = "lung", intensity_range: Sequence[float] = (AIR_HU, 400.0)
) -> Compose:
    """Whole scans as in :func:`nodule_detection_validation`, without truth; the affine says where the voxels are."""
    return Compose(
        [*_prepare(spacing, region, intensity_range), SelectItemsd(CARRIED_ITEMS, allow_missing_keys=True)],
        log_stats=False,
    )
