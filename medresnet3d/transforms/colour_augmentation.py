"""Random changes of colour: of the light, of stains, of single channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.apps.pathology.transforms.stain import ExtractHEStains
from monai.transforms import RandomizableTransform
from monai.utils.type_conversion import convert_to_dst_type
from numpy.typing import NDArray
from skimage.color import hsv2rgb, rgb2hsv, rgb_from_hed

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.transforms.keyed import RandKeyed
from medresnet3d.transforms.pictures import COLOURS, Array, PictureTransform, require_colour

STAIN_SPACES = ("hed", "macenko")
COLLINEAR = 0.97  # cosine beyond which two colours are one stain


class _RandColour(PictureTransform, RandomizableTransform):
    """Base of random changes of colour; a picture that is not changed is given back as it is."""

    def __init__(self, prob: float) -> None:
        RandomizableTransform.__init__(self, prob)

    def __call__(self, img: Any, randomize: bool = True) -> Any:
        """Give the picture (3, i, j) with its colours changed, in its own type."""
        if randomize:
            self.randomize(img)
        return super().__call__(img) if self._do_transform else img


class RandColourJitter(_RandColour):
    """Brightness, contrast, saturation and hue, in this order, by factors around 1 (hue: a shift around 0).

    The same four as torchvision's ``ColorJitter``, with contrast about the mean grey. Several pictures that are packed
    as channels (3 n, i, j) are changed alike, each about its own mean.

    Args:
        prob: how often.
        brightness: largest change of the factor from 1.
        contrast: the same.
        saturation: the same.
        hue: largest shift, as a share of the circle of hues.
    """

    def __init__(
        self,
        prob: float = 0.5,
        brightness: float = 0.1,
        contrast: float = 0.1,
        saturation: float = 0.1,
        hue: float = 0.02,
    ) -> None:
        super().__init__(prob)
        self.ranges = (brightness, contrast, saturation, hue)
        self.drawn = (1.0, 1.0, 1.0, 0.0)

    def randomize(self, data: Any = None) -> None:
        """Draw the factors and the shift."""
        super().randomize(None)
        if self._do_transform:
            brightness, contrast, saturation, hue = (float(self.R.uniform(-size, size)) for size in self.ranges)
            self.drawn = (1 + brightness, 1 + contrast, 1 + saturation, hue)

    def change(self, picture: Array) -> Array:
        """See :class:`medresnet3d.transforms.pictures.PictureTransform`."""
        count = len(picture) // COLOURS
        if count > 1 and len(picture) == count * COLOURS:
            return np.concatenate([self.change(each) for each in np.split(picture, count)])
        require_colour(picture, "colour jitter")
        brightness, contrast, saturation, hue = self.drawn
        bright = np.clip(picture * brightness, 0, 1)
        mean = bright.mean()
        contrasted = np.clip(mean + contrast * (bright - mean), 0, 1)
        grey = contrasted.mean(0, keepdims=True)
        coloured = np.clip(grey + saturation * (contrasted - grey), 0, 1)
        if hue == 0:
            return np.asarray(coloured)
        hsv = rgb2hsv(coloured, channel_axis=0)
        hsv[0] = (hsv[0] + hue) % 1
        return np.asarray(hsv2rgb(hsv, channel_axis=0), dtype=np.float32)


class RandColourJitterd(RandKeyed):
    """Dictionary version of :class:`RandColourJitter`."""

    array_class = RandColourJitter


class RandColourMap(RandomizableTransform):
    """Brightness, colour of the light, contrast and saturation of a picture that is normalised already, in one pass.

    The changes of :class:`RandColourJitter`, but nothing is cut off and hues stay; ``tint`` gives red, green and blue a
    factor each, as another lamp or camera does (the diagonal model of von Kries). Since each of them is linear, it goes
    into :mod:`medresnet3d.transforms.batched`. Several pictures packed as channels are changed alike.

    Args:
        prob: how often.
        brightness: largest change of the factor of all channels from 1.
        contrast: of that about the mean grey.
        saturation: of that of the difference from grey.
        tint: of that of each channel by itself.
        mean: what was taken from each channel, on the scale of black 0 to white 1.
        deviation: what each channel was divided by then.
    """

    def __init__(
        self,
        prob: float = 0.5,
        brightness: float = 0.1,
        contrast: float = 0.1,
        saturation: float = 0.1,
        tint: float = 0.0,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        deviation: Sequence[float] = (1.0, 1.0, 1.0),
    ) -> None:
        RandomizableTransform.__init__(self, prob)
        self.ranges = (brightness, contrast, saturation, tint, tint, tint)
        self.mean = torch.tensor(mean, dtype=torch.float32)[:, None, None]
        self.deviation = torch.tensor(deviation, dtype=torch.float32)[:, None, None]
        self.drawn = [1.0] * len(self.ranges)

    def randomize(self, data: Any = None) -> None:
        """Draw the factors: brightness, contrast, saturation, and of red, green and blue."""
        super().randomize(None)
        if self._do_transform:
            self.drawn = [1 + float(self.R.uniform(-size, size)) for size in self.ranges]

    def carry_out(self, images: torch.Tensor, factors: torch.Tensor) -> None:
        """Change pictures (B, 3n, i, j) of floats in place by the factors (B, 6) of :meth:`randomize`."""
        mean, deviation = self.mean.to(images.device), self.deviation.to(images.device)
        brightness, contrast, saturation = (factors[:, index, None, None, None, None] for index in range(3))
        pictures = images.unflatten(1, (-1, COLOURS))
        pictures.mul_(deviation).add_(mean).mul_(factors[:, None, 3:, None, None] * brightness)
        level = pictures.mean((2, 3, 4), keepdim=True)
        pictures.sub_(level).mul_(contrast).add_(level)
        pictures.copy_(torch.lerp(pictures.mean(2, keepdim=True), pictures, saturation))
        pictures.sub_(mean).div_(deviation)

    def __call__(self, img: Any, randomize: bool = True) -> Any:
        """Give the picture (3, i, j), or n of them packed as (3n, i, j), with its colours changed, as float32."""
        if randomize:
            self.randomize()
        if not self._do_transform:
            return img
        if len(img) % COLOURS:
            raise DataError(f"a colour map needs red, green and blue, but this picture has {len(img)} channel(s).")
        image = torch.as_tensor(img).float().clone()
        self.carry_out(image[None], image.new_tensor([self.drawn]))
        return convert_to_dst_type(image, img, dtype=torch.float32)[0]


class RandColourMapd(RandKeyed):
    """Dictionary version of :class:`RandColourMap`."""

    array_class = RandColourMap


class RandRaiseChannel(_RandColour):
    """Raise one of red, green and blue, as in the augmentation of Qin et al. 2018 for leukocytes.

    Args:
        prob: how often.
        amount: smallest and largest share of white that is added.
    """

    def __init__(self, prob: float = 0.5, amount: tuple[float, float] = (0.0, 0.15)) -> None:
        super().__init__(prob)
        self.amount = amount
        self.channel, self.added = 0, 0.0

    def randomize(self, data: Any = None) -> None:
        """Draw the channel and the amount."""
        super().randomize(None)
        if self._do_transform:
            self.channel, self.added = int(self.R.randint(COLOURS)), float(self.R.uniform(*self.amount))

    def change(self, picture: Array) -> Array:
        """See :class:`medresnet3d.transforms.pictures.PictureTransform`."""
        require_colour(picture, "raising a channel")
        raised = picture.copy()
        raised[self.channel] += self.added
        return raised


class RandRaiseChanneld(RandKeyed):
    """Dictionary version of :class:`RandRaiseChannel`."""

    array_class = RandRaiseChannel


class RandStainJitter(_RandColour):
    """Vary how much of each stain a picture has: its optical density, unmixed, scaled, shifted and mixed again.

    ``hed`` unmixes haematoxylin, eosin and DAB with the fixed colours of Ruifrok and Johnston 2001, as Tellez et al.,
    "Whole-slide mitosis detection", IEEE TMI 2018, do; ``macenko`` finds the two stains of the picture itself (Macenko
    et al., ISBI 2009, by MONAI), for other stains than these; a picture in which they cannot be told apart is varied as
    with ``hed``. What the stains do not explain is kept.

    Args:
        prob: how often.
        scale: largest change of the factor of a stain from 1.
        shift: largest amount that is added, in units of optical density.
        space: ``hed`` or ``macenko``.

    Raises:
        ConfigError: if the space is neither.
    """

    def __init__(self, prob: float = 0.5, scale: float = 0.1, shift: float = 0.01, space: str = "hed") -> None:
        super().__init__(prob)
        if space not in STAIN_SPACES:
            raise ConfigError(f"There is no space {space!r} of stains; use {', '.join(STAIN_SPACES)}.")
        self.scale, self.shift, self.space = scale, shift, space
        self.factors, self.offsets = np.ones(3), np.zeros(3)

    def randomize(self, data: Any = None) -> None:
        """Draw a factor and an offset for each stain."""
        super().randomize(None)
        if self._do_transform:
            self.factors = 1 + self.R.uniform(-self.scale, self.scale, 3)
            self.offsets = self.R.uniform(-self.shift, self.shift, 3)

    def change(self, picture: Array) -> Array:
        """See :class:`medresnet3d.transforms.pictures.PictureTransform`."""
        require_colour(picture, "stain jitter")
        stains = self._own_stains(picture) if self.space == "macenko" else None
        if stains is None:
            stains = rgb_from_hed.T
        count = stains.shape[1]
        density = -np.log(np.clip(picture.reshape(COLOURS, -1), 1 / 256, 1)).astype(np.float64)
        amounts, *_ = np.linalg.lstsq(stains, density, rcond=None)
        rest = density - stains @ amounts
        changed = stains @ (amounts * self.factors[:count, None] + self.offsets[:count, None]) + rest
        return np.exp(-changed).reshape(picture.shape).astype(np.float32)

    @staticmethod
    def _own_stains(picture: Array) -> NDArray[np.float64] | None:
        """The two colours of the stains (3, 2), or ``None`` if they cannot be told apart."""
        pixels = np.moveaxis(np.rint(picture * 255), 0, -1).reshape(-1, 1, COLOURS)
        try:
            stains = ExtractHEStains()(pixels)
        except (ValueError, np.linalg.LinAlgError):
            return None
        alike = abs(float(stains[:, 0] @ stains[:, 1])) > COLLINEAR
        return None if alike else np.asarray(stains, dtype=np.float64)


class RandStainJitterd(RandKeyed):
    """Dictionary version of :class:`RandStainJitter`."""

    array_class = RandStainJitter
