"""Figures of the page on transforms by modality: synthetic pictures before and after."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from monai.data import MetaTensor
from scipy import ndimage

from medresnet3d.data.phantoms.brain import brain_phantom
from medresnet3d.data.phantoms.ct import chest_phantom
from medresnet3d.data.phantoms.pictures import blood_smear, fundus, hep2_cell, mammogram, skin
from medresnet3d.transforms.colour_augmentation import RandColourJitter, RandRaiseChannel, RandStainJitter
from medresnet3d.transforms.contrast import CLAHE
from medresnet3d.transforms.ct_volume import CropToRegion, HUWindow
from medresnet3d.transforms.dermoscopy import GreyWorld, HairRemoval, ShadesOfGrey
from medresnet3d.transforms.dermoscopy_masking import RandCoverSquares, RandCoverSurroundings
from medresnet3d.transforms.fundus import FieldOfViewCrop, GreenChannelCLAHE, LocalAverageSubtraction
from medresnet3d.transforms.mammography import BreastOrientation, RemoveBackground, RemovePectoral
from medresnet3d.transforms.microscopy import CellMinMax, RotationGrid
from medresnet3d.transforms.mri_intensity import MedicalNetNormalise, N4BiasField, ZScoreInMask
from medresnet3d.transforms.registration import register
from medresnet3d.transforms.template_maps import Placed, warp_image


def row(images: Mapping[str, Any], scale: tuple[float, float] | None = None) -> plt.Figure:
    """Pictures (C, i, j) beside each other, i to the right and j down.

    Args:
        images: title to picture.
        scale: values that are black and white; by default each picture's own.
    """
    figure, axes = plt.subplots(1, len(images), figsize=(1.5 * len(images), 1.8), layout="constrained")
    for ax, (title, image) in zip(axes, images.items(), strict=True):
        values = np.asarray(image, dtype=float)
        values = values.transpose(2, 1, 0)
        if values.shape[2] == 3:
            ax.imshow(np.clip(values / (255 if values.max() > 1 else 1), 0, 1))
        else:
            low, high = (None, None) if scale is None else scale
            ax.imshow(values[..., 0], cmap="gray", vmin=low, vmax=high)
        ax.set_title(title, fontsize=7)
        ax.axis("off")
    return figure


def axial(volume: Any, part: float = 0.5) -> np.ndarray:
    """One slice (1, i, j) of a volume (1, i, j, k), front at the top."""
    values = np.asarray(volume)[:1]
    return values[:, :, ::-1, int(part * values.shape[3])]


def ct_figure() -> plt.Figure:
    """A chest, its lungs, and three windows."""
    phantom = chest_phantom(seed=0)
    scan = MetaTensor(torch.as_tensor(phantom.array, dtype=torch.float32)[None], affine=phantom.affine)
    lungs = CropToRegion("lung")(scan)
    windows = {name: axial(HUWindow(name)(lungs)) for name in ("lung", "mediastinum", "bone")}
    return row({"scan": axial(HUWindow("soft_tissue")(scan)), **windows}, (0, 1))


def mri_figure() -> plt.Figure:
    """A brain with shading, N4, z-scores, and MedicalNet's noise."""
    phantom = brain_phantom(seed=0, size=64)
    ramp = np.exp(0.4 * np.linspace(-1, 1, 64))[:, None, None]
    image = torch.as_tensor(phantom.image * ramp, dtype=torch.float32)[None]
    mask = torch.as_tensor(phantom.labels > 0)[None]
    even = N4BiasField(shrink=2)(image, mask)
    images = {"T1 with shading": image, "N4": even, "z-score in mask": ZScoreInMask()(even, mask)}
    return row({title: axial(each) for title, each in (images | {"MedicalNet": MedicalNetNormalise()(even)}).items()})


def dermoscopy_figure() -> plt.Figure:
    """A mole in warm light below hairs."""
    picture = skin(160, light=(1.0, 0.85, 0.62), seed=1).picture
    bare = HairRemoval()(picture)
    return row(
        {
            "picture": picture,
            "hairs removed": bare,
            "grey-world": GreyWorld()(bare),
            "shades of grey": ShadesOfGrey()(bare),
            "squares": RandCoverSquares(1.0).set_random_state(1)(bare),
            "outside": RandCoverSurroundings(1.0, ["outside"])(bare),
            "cells": RandCoverSurroundings(1.0, ["cells"]).set_random_state(0)(bare),
            "half plane": RandCoverSurroundings(1.0, ["half_plane"]).set_random_state(2)(bare),
        }
    )


def mammography_figure() -> plt.Figure:
    """A film with a marker and a muscle, chest wall at the right."""
    film = torch.as_tensor(mammogram(side="right", seed=1).film.astype(np.float32))
    turned = BreastOrientation()(film)
    breast = RemoveBackground()(turned)
    bare = RemovePectoral()(breast)
    steps = {"film": film, "turned": turned, "background out": breast, "muscle out": bare, "CLAHE": CLAHE(0.02)(bare)}
    return row(steps)


def fundus_figure() -> plt.Figure:
    """A photograph with uneven light."""
    picture = torch.as_tensor(fundus(seed=1).picture)
    cut = FieldOfViewCrop()(picture)
    return row(
        {
            "photograph": picture,
            "cropped": cut,
            "local average subtracted": LocalAverageSubtraction()(cut),
            "green, CLAHE": GreenChannelCLAHE()(cut),
        }
    )


def cells_figure() -> plt.Figure:
    """Two cells in fluorescence, strongly and weakly lit."""
    strong, weak = hep2_cell(strength=1.0), hep2_cell(strength=0.25)
    turned = RotationGrid().turned(torch.as_tensor(CellMinMax()(weak)), 3)
    images = {"strong light": strong / 255, "weak light": weak / 255}
    images |= {"strong, min-max": CellMinMax()(strong), "weak, min-max": CellMinMax()(weak), "turned by 54°": turned}
    return row(images, (0, 1))


def smear_figure() -> plt.Figure:
    """A leukocyte in other stains and colours."""
    smear = blood_smear(128)
    return row(
        {
            "smear": smear,
            "stains, HED": RandStainJitter(1.0, 0.3, 0.02).set_random_state(1)(smear),
            "stains, Macenko": RandStainJitter(1.0, 0.3, 0.02, "macenko").set_random_state(1)(smear),
            "colour jitter": RandColourJitter(1.0, 0.2, 0.2, 0.3, 0.05).set_random_state(3)(smear),
            "a channel raised": RandRaiseChannel(1.0, (0.1, 0.15)).set_random_state(0)(smear),
        }
    )


def template_figure() -> plt.Figure:
    """One phantom brain in the shape of another."""
    one, other = (brain_phantom(seed, size=40, spacing=4.0, ventricles=width) for seed, width in ((0, 0.1), (1, 1.0)))
    bent = ndimage.affine_transform(other.image.astype(np.float32), np.diag([1.12, 0.95, 1.0]), offset=[-2.0, 0.5, 0.0])
    affine, values = one.affine, one.image.astype(np.float32)
    onward, back = register(values, affine, bent, affine, grid_mm=4.0, iterations=60)
    shape = values.shape
    nothing = np.zeros((1, 2), np.float32)
    # the first brain is the template, so that it lies in itself where it is
    still = type(onward)(np.zeros_like(onward.field), onward.affine)
    source, goal = Placed(shape, affine, still, still, nothing), Placed(shape, affine, onward, back, nothing)
    scan = MetaTensor(torch.as_tensor(values)[None], affine=torch.as_tensor(affine))
    warped = warp_image(scan, source, goal)
    return row({"subject": axial(values[None]), "another": axial(bent[None]), "subject in its shape": axial(warped)})


def draw(folder: Path) -> None:
    """Write the page's SVG files into ``folder``."""
    with plt.rc_context({"svg.hashsalt": "transforms", "figure.dpi": 100}):
        figures = {
            "ct": ct_figure(),
            "mri": mri_figure(),
            "dermoscopy": dermoscopy_figure(),
            "mammography": mammography_figure(),
            "fundus": fundus_figure(),
            "cells": cells_figure(),
            "smear": smear_figure(),
            "template": template_figure(),
        }
        for name, figure in figures.items():
            figure.savefig(folder / f"transforms_{name}.svg", metadata={"Date": None})
            plt.close(figure)
