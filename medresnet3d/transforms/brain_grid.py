"""Whole brains on one grid, for networks that answer a question about the whole brain (age, diagnosis).

One resampling takes a skull-stripped T1 scan from its own grid to that of the reference's frame
(:mod:`medresnet3d.transforms.rigid`): rigidly aligned, or only centred. The affine of the result says where its voxels
lie in the scan.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    EnsureTyped,
    MapTransform,
    NormalizeIntensityd,
    RandAdjustContrastd,
    RandBiasFieldd,
    RandFlipd,
    RandGaussianNoised,
    RandSpatialCropd,
    RandZoomd,
    SelectItemsd,
    SpatialResample,
    Transform,
)
from monai.utils.enums import SpaceKeys
from scipy import ndimage

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.names import require_name
from medresnet3d.transforms.load import LoadVolumed
from medresnet3d.transforms.mri import BrainMaskd, RequireSkullStrippedd
from medresnet3d.transforms.mri_intensity import MedicalNetNormalised
from medresnet3d.transforms.rigid import align_rigidly, centre_on_brain

INTENSITIES = ("zscore", "medicalnet")
STRENGTHS = ("none", "light", "medium", "strong")
TRAINING_ITEMS = ("image", "label", "case")
CARRIED_ITEMS = ("image", "label", "case", "path", "warnings")


class BrainGridd(MapTransform):
    """Resample a brain to a grid of cubic voxels in the reference's frame; outside the brain there is zero.

    Where the grid's voxels are larger than the scan's, the scan is smoothed before.

    Args:
        keys: images (C, i, j, k) as MetaTensor, skull-stripped; the first channel decides the alignment.
        shape: voxels of the grid along right, anterior and superior.
        spacing: edge of a voxel in mm.
        align: turn and shift the brain onto the reference; otherwise its middle is the middle of the grid.
        template: path of a skull-stripped reference; by default a drawn one.
        centre_mm: where in the reference's frame, whose origin is the middle of the brain, the grid has its middle.
        mask_key: brain mask (1, i, j, k) of the scan.

    Raises:
        DataError: if the brain cannot be aligned.
    """

    def __init__(
        self,
        keys: KeysCollection,
        shape: Sequence[int],
        spacing: float,
        align: bool = True,
        template: str | None = None,
        centre_mm: Sequence[float] = (0.0, 0.0, 0.0),
        mask_key: str = "brain",
    ) -> None:
        super().__init__(keys)
        self.shape = tuple(int(size) for size in shape)
        self.spacing = float(spacing)
        self.align = align
        self.template = template
        self.centre_mm = np.asarray(centre_mm, dtype=np.float64)
        self.mask_key = mask_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of ``data`` with each image on the grid."""
        item = dict(data)
        mask = item[self.mask_key].as_tensor().numpy() > 0
        for key in self.key_iterator(item):
            item[key] = self._on_grid(item[key], mask)
        return item

    def _on_grid(self, image: MetaTensor, mask: np.ndarray) -> MetaTensor:
        affine = np.asarray(image.affine, dtype=np.float64)
        brain = image.as_tensor().float().numpy()
        brain = np.where(mask, brain - min(0.0, float(brain[:, mask[0]].min())), 0.0).astype(np.float32)
        name = str(image.meta.get("filename_or_obj", "image"))
        try:
            frame = align_rigidly(brain[0], affine, self.template) if self.align else centre_on_brain(brain[0], affine)
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
        grid = np.diag([self.spacing] * 3 + [1.0])
        grid[:3, 3] = self.centre_mm - self.spacing * (np.array(self.shape) - 1) / 2
        target = torch.from_numpy(frame @ grid)
        blur = np.maximum(self.spacing / np.linalg.norm(affine[:3, :3], axis=0) - 1, 0) / 2
        smooth = ndimage.gaussian_filter(brain, (0, *blur), mode="constant") if blur.any() else brain
        resample = SpatialResample(mode="bilinear", padding_mode="zeros", align_corners=True)
        source = MetaTensor(torch.from_numpy(smooth), affine=torch.from_numpy(affine))
        moved = resample(source, dst_affine=target, spatial_size=self.shape)
        meta = {
            "filename_or_obj": name,
            "spatial_shape": np.array(self.shape),
            "original_affine": target.numpy().copy(),
            "original_channel_dim": float("nan"),
            "space": SpaceKeys.RAS,
        }
        return MetaTensor(torch.as_tensor(moved).as_subclass(torch.Tensor).float(), affine=target.clone(), meta=meta)


class NumberLabeld(MapTransform):
    """Make the label of a regression a tensor of one number, (1,), as the network's output has it."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of ``data`` with its labels as float32 tensors."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = torch.tensor([float(item[key])])
        return item


def prepare_brain(
    shape: Sequence[int],
    spacing: float,
    align: bool = True,
    template: str | None = None,
    check: bool = True,
    margin: int = 0,
    centre_mm: Sequence[float] = (0.0, 0.0, 0.0),
    intensity: str = "zscore",
) -> list[Transform]:
    """The steps that are the same in every epoch: read, refuse whole heads, align, resample, normalise.

    Args:
        shape: voxels of the grid along right, anterior and superior.
        spacing: edge of a voxel in mm.
        align: see :class:`BrainGridd`.
        template: see :class:`BrainGridd`.
        check: refuse scans of whole heads.
        margin: voxels to keep beyond each face, for shifts that follow.
        centre_mm: see :class:`BrainGridd`.
        intensity: ``zscore`` (mean 0 and deviation 1 in the brain, 0 outside), or ``medicalnet``, what MedicalNet's
            weights were trained on (:class:`~medresnet3d.transforms.mri_intensity.MedicalNetNormalise`: noise outside).

    Raises:
        ConfigError: for another intensity.
    """
    require_name("Intensity", intensity, INTENSITIES)
    zscore = NormalizeIntensityd("image", nonzero=True, channel_wise=True)
    normalise = zscore if intensity == "zscore" else MedicalNetNormalised("image")
    return [
        LoadVolumed("image"),
        *([RequireSkullStrippedd("image")] if check else []),
        BrainMaskd("image"),
        BrainGridd("image", [size + 2 * margin for size in shape], spacing, align, template, centre_mm),
        normalise,
    ]


def brain_augmentation(strength: str, spatial_dims: int = 3) -> list[Transform]:
    """Random changes of a brain on the grid, (1, i, j, k), or of a slice of it, (1, i, j), in four strengths.

    =========  ========================================================================
    strength   what varies
    =========  ========================================================================
    none       nothing
    light      left and right, noise
    medium     and a smooth field of intensity, contrast
    strong     and the size, by up to a twentieth; more of the others
    =========  ========================================================================

    Args:
        strength: a name of the table.
        spatial_dims: 3, or 2 for slices.

    Raises:
        ConfigError: if it is none.
    """
    if strength not in STRENGTHS:
        raise ConfigError(f"There is no augmentation {strength!r}; use {', '.join(STRENGTHS)}.")
    level = STRENGTHS.index(strength)
    chain: list[Transform] = []
    if level > 0:
        chain += [RandFlipd("image", prob=0.5, spatial_axis=0), RandGaussianNoised("image", prob=0.5, std=0.1)]
    if level > 1:
        chain += [
            RandBiasFieldd("image", degree=3, coeff_range=(-0.1 * level, 0.1 * level), prob=0.3),
            RandAdjustContrastd("image", prob=0.3, gamma=(0.8, 1.25)),
        ]
    if level == len(STRENGTHS) - 1:
        linear = "trilinear" if spatial_dims == 3 else "bilinear"
        chain.append(RandZoomd("image", prob=0.3, min_zoom=0.95, max_zoom=1.05, mode=linear, align_corners=True))
    return chain


def brain_age_training(
    shape: Sequence[int],
    spacing: float = 2.0,
    align: bool = True,
    template: str | None = None,
    check: bool = True,
    shift: int = 3,
    augmentation: str = "light",
    intensity: str = "zscore",
) -> Compose:
    """Brains for training a network that estimates a number: prepared, then varied.

    Args:
        shape: see :func:`prepare_brain`.
        spacing: see :func:`prepare_brain`.
        align: see :class:`BrainGridd`.
        template: see :class:`BrainGridd`.
        check: refuse scans of whole heads.
        shift: largest shift along each axis, in voxels.
        augmentation: see :func:`brain_augmentation`; ``none`` leaves out the shift too.
        intensity: see :func:`prepare_brain`.

    Returns:
        a transform of items with ``image`` (path) and ``label`` (number) to tensors (1, i, j, k) and (1,).
    """
    changes = brain_augmentation(augmentation)
    margin = shift if changes else 0
    return Compose(
        [
            *prepare_brain(shape, spacing, align, template, check, margin, intensity=intensity),
            NumberLabeld("label"),
            SelectItemsd(TRAINING_ITEMS, allow_missing_keys=True),
            RandSpatialCropd("image", roi_size=list(shape), random_size=False),
            *changes,
            EnsureTyped("image", track_meta=False),
        ],
        log_stats=False,
    )


def brain_age_inference(
    shape: Sequence[int],
    spacing: float = 2.0,
    align: bool = True,
    template: str | None = None,
    check: bool = True,
    intensity: str = "zscore",
) -> Compose:
    """Brains for validation and inference, as in :func:`brain_age_training` with no variation.

    Args:
        shape: see :func:`prepare_brain`.
        spacing: see :func:`prepare_brain`.
        align: see :class:`BrainGridd`.
        template: see :class:`BrainGridd`.
        check: refuse scans of whole heads.
        intensity: see :func:`prepare_brain`.
    """
    return Compose(
        [
            *prepare_brain(shape, spacing, align, template, check, intensity=intensity),
            NumberLabeld("label", allow_missing_keys=True),
            SelectItemsd(CARRIED_ITEMS, allow_missing_keys=True),
        ],
        log_stats=False,
    )
