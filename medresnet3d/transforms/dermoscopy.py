"""Dermoscopy: the colour of the light and hairs taken out of a picture of skin, and other versions of it by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import sobel
from skimage.measure import block_reduce
from skimage.morphology import dilation, disk
from skimage.restoration import inpaint_biharmonic

from medresnet3d.names import require_name
from medresnet3d.transforms.contrast import CLAHE
from medresnet3d.transforms.keyed import Keyed
from medresnet3d.transforms.pictures import Array, PictureTransform, require_colour

SEARCHED_SIDE = 128  # pixels of the shorter side, up to twice that, at which hairs are looked for
ACROSS = np.arange(4) * np.pi / 4  # of the lines across hairs
ALONG = np.arange(32) * np.pi / 32  # of the lines along hairs


class ShadesOfGrey(PictureTransform):
    r"""Divide by the colour of the light, estimated as the Minkowski mean of each channel.

    The light is :math:`e_c = (\frac{1}{N}\sum_x I_c(x)^p)^{1/p}`, scaled to length 1; a channel becomes
    :math:`I_c / (\sqrt{3} e_c)`. Finlayson and Trezzi, "Shades of gray and colour constancy", CIC 2004, where p = 6 is
    best; for dermoscopy Barata et al., IEEE J. Biomed. Health Inform. 2015.

    Args:
        power: p; 1 is grey-world, infinity would be the brightest pixel of each channel.
    """

    def __init__(self, power: float = 6.0) -> None:
        self.power = power

    def change(self, picture: Array) -> Array:
        """See :class:`medresnet3d.transforms.pictures.PictureTransform`."""
        require_colour(picture, "colour constancy")
        pixels = picture.reshape(len(picture), -1).astype(np.float64)
        light = np.mean(pixels**self.power, axis=1) ** (1 / self.power)
        if (light <= 0).any():  # a channel that is black everywhere says nothing of the light
            return picture
        gain = np.linalg.norm(light) / (np.sqrt(3) * light)
        return (picture * gain.reshape(-1, *[1] * (picture.ndim - 1))).astype(np.float32)


class ShadesOfGreyd(Keyed):
    """Dictionary version of :class:`ShadesOfGrey`."""

    array_class = ShadesOfGrey


class GreyWorld(ShadesOfGrey):
    """:class:`ShadesOfGrey` with p = 1: the mean colour becomes grey.

    Buchsbaum, "A spatial processor model for object colour perception", J. Franklin Inst. 1980.
    """

    def __init__(self) -> None:
        super().__init__(power=1.0)


class GreyWorldd(Keyed):
    """Dictionary version of :class:`GreyWorld`."""

    array_class = GreyWorld


class HairRemoval(PictureTransform):
    """Find dark hairs by a black-hat with lines of four directions, and fill them in from around.

    The black-hat is the closing of the grey picture less the picture: what is darker than its surroundings and narrower
    than the line. Of what lies above the threshold, straight pieces of some length are hairs; dots and the network of a
    lesion stay. They are filled by biharmonic inpainting. The closings and the test of the shape follow Lee et al.,
    "DullRazor", Comput. Biol. Med. 1997, which fills by linear interpolation.

    Args:
        width: widest hair, as a share of the shorter side.
        threshold: how much darker than its surroundings a hair is, on the scale of black 0 to white 1.
        length: shortest straight piece of hair, as a share of the shorter side.
        grow: pixels by which the mask of hairs is widened, for their blurred borders.

    Example:
        >>> HairRemoval()(picture).shape  # doctest: +SKIP
        torch.Size([3, 600, 450])
    """

    def __init__(self, width: float = 0.03, threshold: float = 0.1, length: float = 0.12, grow: int = 1) -> None:
        self.width, self.threshold, self.length, self.grow = width, threshold, length, grow

    def hairs(self, picture: Array) -> NDArray[np.bool_]:
        """The mask of hairs (i, j) of a picture (3, i, j) between 0 and 1."""
        require_colour(picture, "hair removal")
        grey = picture.mean(0)
        step = max(1, min(grey.shape) // SEARCHED_SIDE)
        whole = grey[: grey.shape[0] // step * step, : grey.shape[1] // step * step]
        small = block_reduce(whole, step, np.min)  # the darkest of a block, so that thin hairs stay whole
        width, length = (
            max(least, round(share * min(small.shape))) for least, share in ((3, self.width), (8, self.length))
        )
        dark = np.max([_black_hat(small, angle, 2 * width + 1) for angle in ACROSS], axis=0) > self.threshold
        found = np.any([ndimage.binary_opening(dark, _line(angle, length)) for angle in ALONG], axis=0)
        rest = [(0, size - step * (size // step)) for size in grey.shape]
        mask = np.pad(np.kron(found, np.ones((step, step), dtype=bool)), rest)
        return dilation(mask, disk(self.grow)) if self.grow else mask

    def change(self, picture: Array) -> Array:
        """See :class:`medresnet3d.transforms.pictures.PictureTransform`."""
        mask = self.hairs(picture)
        if not mask.any():
            return picture
        filled = inpaint_biharmonic(np.moveaxis(picture, 0, -1), mask, split_into_regions=True, channel_axis=-1)
        return np.moveaxis(filled, -1, 0).astype(np.float32)


class HairRemovald(Keyed):
    """Dictionary version of :class:`HairRemoval`."""

    array_class = HairRemoval


class EdgeStrength(PictureTransform):
    """Sobel's gradient of each colour: 0 where it is flat, 1 across a step from black to white."""

    def change(self, picture: Array) -> Array:
        """See :class:`medresnet3d.transforms.pictures.PictureTransform`."""
        return np.stack([sobel(colour) for colour in picture]).astype(np.float32)


VERSIONS: dict[str, Callable[[], PictureTransform] | None] = {
    "rgb": None,
    "grey_world": GreyWorld,
    "hair_removed": HairRemoval,
    "clahe": CLAHE,
    "edges": EdgeStrength,
}
"""Versions of a picture by their names; ``None`` is the picture itself."""


def skin_versions(names: Sequence[str]) -> list[PictureTransform | None]:
    """Transforms for :class:`medresnet3d.transforms.channel_packing.PackVersionsd`, by their names.

    Args:
        names: keys of :data:`VERSIONS`, in the order of the channels; a name may come twice.

    Raises:
        ConfigError: for an unknown name.
    """
    makers = [VERSIONS[require_name("Version", name, VERSIONS)] for name in names]
    return [None if maker is None else maker() for maker in makers]


def _line(angle: float, length: int) -> NDArray[np.bool_]:
    """A line through the middle of the smallest rectangle that holds it."""
    steps = np.arange(length) - (length - 1) / 2
    rows, columns = (np.rint(steps * turn).astype(int) for turn in (np.cos(angle), np.sin(angle)))
    line = np.zeros((np.ptp(rows) + 1, np.ptp(columns) + 1), dtype=bool)
    line[rows - rows.min(), columns - columns.min()] = True
    return line


def _black_hat(grey: Array, angle: float, length: int) -> Array:
    """Closing with a line, less the picture; beyond it all is black, so that a dark rim is no narrow structure."""
    padded = np.pad(grey, length)
    return ndimage.grey_closing(padded, footprint=_line(angle, length))[length:-length, length:-length] - grey
