"""Hide parts of a picture of skin in training, so that a network does not lean on one place or on the surroundings.

Hu et al. 2019 cover part of the training images in two ways, one for each of two models. What covers what is not
described; squares, and the surroundings of the lesion, are ours.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils.type_conversion import convert_to_dst_type
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.measure import label, regionprops

from medresnet3d.errors import ConfigError
from medresnet3d.transforms.keyed import RandKeyed
from medresnet3d.transforms.pictures import require_colour, to_numpy

Mask = NDArray[np.bool_]
SURROUNDINGS = ("outside", "cells", "half_plane")


def lesion_mask(picture: NDArray[Any]) -> Mask:
    """A guess at the lesion: what differs most from the colour of the rim, in one part, near the middle.

    Hairs are closed. The distance to the median colour of the rim, smoothed, is cut at Otsu's threshold; of the parts,
    dark corners left out, the one with the largest area over distance to the middle is taken, its holes filled.

    Args:
        picture: (3, i, j) on any scale.

    Returns:
        (i, j); all ``False`` if there is no such part.
    """
    require_colour(picture, "finding a lesion")
    shape = np.array(picture.shape[1:])
    rim = np.ones(shape, dtype=bool)
    edge = np.maximum(1, shape // 16)
    rim[edge[0] : -edge[0], edge[1] : -edge[1]] = False
    without_hairs = ndimage.grey_closing(picture, size=(1, *np.maximum(3, shape // 20)))
    skin = np.median(without_hairs[:, rim], axis=1)
    away = np.sqrt(((without_hairs.astype(np.float64) - skin[:, None, None]) ** 2).sum(0))
    away = ndimage.gaussian_filter(away, shape.min() / 64)
    if away.max() <= 0:
        return np.zeros(shape, dtype=bool)
    parts = label(away > threshold_otsu(away))
    corners = {int(parts[i, j]) for i in (0, -1) for j in (0, -1)}
    middle = (shape - 1) / 2

    def weight(part: Any) -> float:
        distance = np.linalg.norm((np.array(part.centroid) - middle) / shape)
        return float(part.area / (0.1 + distance))

    candidates = [part for part in regionprops(parts) if part.label not in corners]
    if not candidates:
        return np.zeros(shape, dtype=bool)
    return np.asarray(ndimage.binary_fill_holes(parts == max(candidates, key=weight).label))


def skin_colour(picture: NDArray[Any], lesion: Mask) -> NDArray[np.float64]:
    """Mean colour (C,) outside of the lesion, leaving out the dark fifth of the scale (corners, hairs).

    Args:
        picture: (C, i, j), black at 0.
        lesion: (i, j).
    """
    outside = ~lesion & (picture.mean(0) > 0.2 * picture.max())
    chosen = outside if outside.any() else np.ones_like(lesion)
    return np.asarray(picture[:, chosen].mean(1), dtype=np.float64)


class _RandCover(RandomizableTransform):
    """Fill a random part of a picture with the mean colour of the skin."""

    def __init__(self, prob: float) -> None:
        super().__init__(prob)
        self.cover: Mask | None = None

    def _covered(self, img: Any) -> Any:
        if self.cover is None:
            return img
        values = to_numpy(img)
        flat = values[..., 0] if values.ndim > 3 else values
        colour = skin_colour(flat, lesion_mask(flat))
        changed = np.where(self.cover, colour[:, None, None], flat).astype(values.dtype)
        return convert_to_dst_type(changed.reshape(values.shape), img)[0]


class RandCoverSquares(_RandCover):
    """Cover a random share of the picture with squares of skin colour.

    Args:
        prob: how often.
        area: smallest and largest share of the picture that is covered.
        squares: least and greatest number of large squares; smaller ones fill up the share where these overlap.

    Raises:
        ConfigError: if the shares are not increasing numbers between 0 and 1.
    """

    def __init__(
        self, prob: float = 0.5, area: tuple[float, float] = (0.2, 0.4), squares: tuple[int, int] = (1, 4)
    ) -> None:
        super().__init__(prob)
        if not 0 < area[0] <= area[1] < 1:
            raise ConfigError(f"area is {tuple(area)}; give two increasing shares between 0 and 1.")
        self.area, self.squares = area, squares

    def randomize(self, data: Any) -> None:
        """Draw the squares for a picture (C, i, j)."""
        super().randomize(None)
        self.cover = None
        if not self._do_transform:
            return
        shape = to_numpy(data).shape[1:3]
        count = int(self.R.randint(self.squares[0], self.squares[1] + 1))
        wanted = self.R.uniform(*self.area) * np.prod(shape)
        least = self.area[0] * np.prod(shape)
        self.cover = np.zeros(shape, dtype=bool)
        side = min(int(np.sqrt(wanted / count)), *shape)
        while (room := wanted - self.cover.sum()) > 0.01 * wanted or self.cover.sum() < least:
            side = max(1, min(side, int(np.sqrt(max(room, 1)))))
            low = [int(self.R.randint(size - side + 1)) for size in shape]
            self.cover[low[0] : low[0] + side, low[1] : low[1] + side] = True

    def __call__(self, img: Any, randomize: bool = True) -> Any:
        """Give the picture (C, i, j) with its squares covered."""
        if randomize:
            self.randomize(img)
        return self._covered(img)


class RandCoverSquaresd(RandKeyed):
    """Dictionary version of :class:`RandCoverSquares`."""

    array_class = RandCoverSquares


class RandCoverSurroundings(_RandCover):
    """Cover what lies around the lesion with the colour of skin, so that only the lesion can decide.

    ``outside`` covers everything but the lesion and a margin; ``cells`` covers half of the cells of a grid that the
    lesion does not touch; ``half_plane`` covers all beyond a line that touches the lesion in a random direction. The
    lesion itself is never covered.

    Args:
        prob: how often.
        modes: of these, one is drawn each time.
        margin: what is kept around the lesion, as a share of the shorter side.
        cells: along each side, for ``cells``.

    Raises:
        ConfigError: if a mode is unknown.
    """

    def __init__(
        self, prob: float = 0.5, modes: Sequence[str] = SURROUNDINGS, margin: float = 0.05, cells: int = 8
    ) -> None:
        super().__init__(prob)
        unknown = [mode for mode in modes if mode not in SURROUNDINGS]
        if unknown or not modes:
            raise ConfigError(f"There is no way {unknown} to cover surroundings; use {', '.join(SURROUNDINGS)}.")
        self.modes, self.margin, self.cells = tuple(modes), margin, cells

    def randomize(self, data: Any, lesion: Any = None) -> None:
        """Draw what is covered of a picture (3, i, j), given the lesion's mask or a guess at it."""
        super().randomize(None)
        self.cover = None
        if not self._do_transform:
            return
        values = to_numpy(data)
        shape = values.shape[1:3]
        mask = lesion_mask(values.reshape(-1, *shape)) if lesion is None else to_numpy(lesion).reshape(shape) > 0
        if not mask.any():
            return
        kept = ndimage.distance_transform_edt(~mask) <= self.margin * min(shape)
        mode = self.modes[int(self.R.randint(len(self.modes)))]
        self.cover = getattr(self, f"_{mode}")(kept)

    def _outside(self, kept: Mask) -> Mask:
        return ~kept

    def _cells(self, kept: Mask) -> Mask:
        index = [np.arange(size) * self.cells // size for size in kept.shape]
        drawn = self.R.uniform(size=(self.cells, self.cells)) < 0.5
        return np.asarray(drawn[np.ix_(*index)] & ~kept)

    def _half_plane(self, kept: Mask) -> Mask:
        angle = self.R.uniform(0, 2 * np.pi)
        rows, columns = np.indices(kept.shape)
        along = rows * np.cos(angle) + columns * np.sin(angle)
        return np.asarray(along > along[kept].max())

    def __call__(self, img: Any, lesion: Any = None, randomize: bool = True) -> Any:
        """Give the picture with surroundings covered.

        Args:
            img: (3, i, j).
            lesion: its mask (1, i, j); without one it is guessed, see :func:`lesion_mask`.
            randomize: draw anew.
        """
        if randomize:
            self.randomize(img, lesion)
        return self._covered(img)


class RandCoverSurroundingsd(RandomizableTransform, MapTransform):
    """Dictionary version of :class:`RandCoverSurroundings`.

    Args:
        keys: pictures (3, i, j) of one case, covered alike.
        mask_key: the lesion's mask; ``None``, or an item without one: it is guessed from the first picture.
        prob: see :class:`RandCoverSurroundings`.
        modes: see there.
        margin: see there.
        cells: see there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        mask_key: str | None = None,
        prob: float = 0.5,
        modes: Sequence[str] = SURROUNDINGS,
        margin: float = 0.05,
        cells: int = 8,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.mask_key = mask_key
        self.transform = RandCoverSurroundings(prob, modes, margin, cells)

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandCoverSurroundingsd:
        """Seed the array transform."""
        self.transform.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give the item with its pictures covered; the mask stays."""
        item = dict(data)
        self.transform.randomize(item[self.keys[0]], item.get(self.mask_key))
        for key in self.key_iterator(item):
            item[key] = self.transform(item[key], randomize=False)
        return item
