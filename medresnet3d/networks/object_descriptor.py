"""What an expert measures on one object in a picture, a skin lesion or a cell, as numbers: shape, colour, texture.

Asymmetry, border, colour and structures of a lesion: the ABCD rule (F. Nachbar et al., J. Am. Acad. Dermatol. 30 (1994)
551-559). Local binary patterns: T. Ojala, M. Pietikainen, T. Maenpaa, IEEE TPAMI 24 (2002) 971-987. Structure tensor:
W. Foerstner, E. Guelch (1987). Threshold: N. Otsu, IEEE Trans. SMC 9 (1979) 62-66. All of it is computed by tensors,
so that it is exported with a network.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from medresnet3d.weights.normalisation import IMAGENET_DEVIATION, IMAGENET_MEAN

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
#: Of local binary patterns, in pixels.
RADII = (1, 2, 4)
#: Of differences of Gaussians, and of gradients, in pixels.
CONTRAST_SCALES = (1.0, 2.0, 4.0, 8.0)
GRADIENT_SCALES = (0.7, 1.5, 3.0, 6.0)
#: Radii of rings, in radii of the ellipse that has the second moments of the object.
RINGS = (0.0, 0.4, 0.7, 0.9, 1.1, 1.4, 2.0)
MARGIN = (0.8, 1.25)
LEVELS = 64
PATTERNS = 10
_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_WHITE = (0.95047, 1.0, 1.08883)


class ObjectDescriptor(nn.Module):
    """Describe a picture of one object on its surroundings by numbers.

    The colour of the surroundings is the median near the upper and lower rim; what differs from it, in CIE L*a*b*, and
    lies towards the middle is the object (Otsu's threshold). Measured are the colour of the surroundings; area, place,
    axes, outline and mirror asymmetry of the object; in it, around it and along its border the mean, deviation and
    quantiles of L*a*b* against the surroundings and of hue, saturation and value, and local binary patterns; colours in
    six elliptic rings; contrast, gradients, their direction and the skewness of details at four scales each.

    Args:
        mean: that the red, green and blue of the picture were normalised by.
        deviation: likewise.

    Shapes: (B, 3, i, j), of at least 48 pixels along each edge, to (B, :attr:`length`), fp32.
    """

    length = 457
    mean: Tensor
    deviation: Tensor

    def __init__(
        self, mean: tuple[float, ...] = IMAGENET_MEAN, deviation: tuple[float, ...] = IMAGENET_DEVIATION
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Describe each picture."""
        rgb = (x.float() * self.deviation + self.mean).clamp(0, 1)
        lab, hsv = to_lab(rgb), to_hsv(rgb)
        around = rim_colour(lab)
        against = lab - around[:, :, None, None]
        inside = object_of(against)
        radius = elliptic_radius(inside)
        regions = [inside, 1 - inside, border_of(inside)]
        parts = [around, shape_of(inside), asymmetry(rgb), contrast(lab[:, 0] / 100, regions[:2])]
        patterns = [binary_patterns(lab[:, 0], step) for step in RADII]
        for region in regions:
            parts.append(statistics(torch.cat([against, hsv], 1), region))
            parts += [histogram(codes, region, PATTERNS) for codes in patterns]
        parts.append(ring_colours(torch.cat([against, hsv[:, 1:]], 1), radius))
        margin = ((radius > MARGIN[0]) & (radius < MARGIN[1])).to(inside.dtype)
        parts += [gradients(channel, inside, margin) for channel in (lab[:, 0], against[:, 1], against[:, 2])]
        return torch.cat(parts, dim=1)


def to_lab(rgb: Tensor) -> Tensor:
    """CIE L*a*b* (D65) of sRGB from 0 to 1: (B, 3, i, j) to (B, 3, i, j), L* from 0 to 100."""
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = torch.einsum("ck,bkij->bcij", rgb.new_tensor(_TO_XYZ), linear) / rgb.new_tensor(_WHITE)[:, None, None]
    f = torch.where(xyz > 0.008856, xyz.clamp_min(1e-6) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = f.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def to_hsv(rgb: Tensor) -> Tensor:
    """Hue, saturation and value, each from 0 to 1, of RGB from 0 to 1: (B, 3, i, j)."""
    value, least = rgb.amax(1), rgb.amin(1)
    span = value - least
    safe = span.clamp_min(1e-6)
    red, green, blue = rgb.unbind(1)
    from_green = torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    hue = torch.where(value == red, (green - blue) / safe, from_green)
    hue = torch.where(span > 0, (hue / 6) % 1.0, torch.zeros_like(hue))
    return torch.stack([hue, span / value.clamp_min(1e-6), value], dim=1)


def smoothed(values: Tensor, sigma: float) -> Tensor:
    """Gaussian smoothing of (B, i, j), sigma in pixels, with reflected borders."""
    rows, columns = values.shape[1:]
    return _smoothing(values, rows, sigma) @ values @ _smoothing(values, columns, sigma).T


@lru_cache(maxsize=64)
def _smoothing_matrix(length: int, sigma: float) -> NDArray[np.float32]:
    """The matrix (n, n) that smooths a column of n values."""
    reach = min(int(4 * sigma + 0.5), length - 1)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    padded = np.pad(np.eye(length), ((reach, reach), (0, 0)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=0)
    return np.asarray(windows @ (weights / weights.sum()), dtype=np.float32)


def _smoothing(like: Tensor, length: int, sigma: float) -> Tensor:
    matrix = _smoothing_matrix(int(length), float(sigma))  # in a trace sizes are tensors
    return torch.as_tensor(matrix, dtype=like.dtype, device=like.device)


def otsu(values: Tensor) -> Tensor:
    """Otsu's threshold of each picture: (B, i, j) to (B, 1, 1), one of 64 levels between its extremes."""
    low, high = values.amin((1, 2), keepdim=True), values.amax((1, 2), keepdim=True)
    unit = (values - low) / (high - low).clamp_min(1e-6)
    level = (unit * LEVELS).long().clamp_max(LEVELS - 1).flatten(1)
    counts = torch.zeros(values.shape[0], LEVELS, dtype=values.dtype, device=values.device)
    counts = counts.scatter_add(1, level, torch.ones_like(unit).flatten(1))
    centres = (torch.arange(LEVELS, dtype=values.dtype, device=values.device) + 0.5) / LEVELS
    below, sums = counts.cumsum(1), (counts * centres).cumsum(1)
    above = below[:, -1:] - below
    apart = sums / below.clamp_min(1) - (sums[:, -1:] - sums) / above.clamp_min(1)
    best = ((below * above * apart.square()).argmax(1) + 1).to(values.dtype) / LEVELS
    return low + best[:, None, None] * (high - low)


def _share(values: Tensor, region: Tensor) -> Tensor:
    """Mean of (B, ..., i, j) in a region (B, i, j): (B, ...); 0 in an empty one."""
    inside = region if values.ndim == 3 else region[:, None]
    return (values * inside).sum((-2, -1)) / inside.sum((-2, -1)).clamp_min(1)


def rim_colour(lab: Tensor) -> Tensor:
    """Median colour, (B, 3), of strips near the upper and lower rim of (B, 3, i, j)."""
    rows, columns = lab.shape[2:]
    near, far, side = max(1, rows // 32), max(2, rows // 9), columns // 6
    strips = torch.cat([lab[:, :, near:far, side:-side], lab[:, :, -far:-near, side:-side]], dim=2)
    return strips.flatten(2).median(2).values


def object_of(against: Tensor) -> Tensor:
    """The object, 1 in it and 0 elsewhere, (B, i, j), of colours against the surroundings' (B, 3, i, j)."""
    rows, columns = against.shape[2:]
    distance = smoothed(against.square().sum(1).sqrt(), rows / 64)
    down, right = _axes(against, rows, columns)
    weighted = distance * torch.exp(-(down.square() + right.square()) / 0.4)
    return (weighted > otsu(weighted)).to(against.dtype)


def _axes(like: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Places from -1 to 1 down (1, i, 1) and to the right (1, 1, j)."""
    down = torch.linspace(-1, 1, rows, dtype=like.dtype, device=like.device)[None, :, None]
    return down, torch.linspace(-1, 1, columns, dtype=like.dtype, device=like.device)[None, None]


def border_of(inside: Tensor) -> Tensor:
    """The band along the border of an object, (B, i, j); everything where there is hardly any."""
    soft = smoothed(inside, 0.023 * inside.shape[1])
    band = (soft * (1 - soft) > 0.1).to(inside.dtype)
    return torch.where(band.sum((1, 2), keepdim=True) < 20, torch.ones_like(band), band)


def _moments(inside: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Places against the centre, (B, i, j) down and right, and second moments (B,): down, right, mixed."""
    down, right = _axes(inside, *inside.shape[1:])
    down, right = (axis - _share(axis.expand_as(inside), inside)[:, None, None] for axis in (down, right))
    return down, right, _share(down.square(), inside), _share(right.square(), inside), _share(down * right, inside)


def elliptic_radius(inside: Tensor) -> Tensor:
    """Distance to the centre, (B, i, j), 1 on the border of the ellipse with the second moments of an object."""
    down, right, high, wide, mixed = _moments(inside)
    high, wide, mixed = (each[:, None, None] for each in (high + 1e-3, wide + 1e-3, mixed))
    determinant = (high * wide - mixed.square()).clamp_min(1e-6)
    square = wide * down.square() - 2 * mixed * down * right + high * right.square()
    return (square / determinant).clamp_min(0).sqrt() / 2


def shape_of(inside: Tensor) -> Tensor:
    """Area, place, length, width, elongation, outline and how filled its box is: (B, i, j) to (B, 8)."""
    rows, columns = inside.shape[1:]
    centre = [_share(axis.expand_as(inside), inside) for axis in _axes(inside, rows, columns)]
    _, _, high, wide, mixed = _moments(inside)
    half, middle = ((high - wide).square() / 4 + mixed.square()).sqrt(), (high + wide) / 2
    length, width = (each.clamp_min(1e-6).sqrt() for each in (middle + half, middle - half))
    count = inside.sum((1, 2)).clamp_min(1)
    edges = inside.diff(dim=1).abs().sum((1, 2)) + inside.diff(dim=2).abs().sum((1, 2))
    box = inside.amax(1).sum(1) * inside.amax(2).sum(1)
    numbers = [count / (rows * columns), *centre, length, width, width / length]
    return torch.stack([*numbers, edges / count.sqrt(), count / box.clamp_min(1)], dim=1)


def asymmetry(rgb: Tensor) -> Tensor:
    """How far each colour differs from its mirror images: (B, 3, i, j) to (B, 6)."""
    return torch.cat([(rgb - rgb.flip(axis)).abs().mean((2, 3)) for axis in (2, 3)], dim=1)


def contrast(grey: Tensor, regions: list[Tensor]) -> Tensor:
    """Mean size of differences of Gaussians at four scales in each region: (B, i, j) to (B, 4 n)."""
    details = [(smoothed(grey, scale) - smoothed(grey, 2 * scale)).abs() for scale in CONTRAST_SCALES]
    return torch.stack([_share(each, region) for each in details for region in regions], dim=1)


def statistics(colours: Tensor, region: Tensor) -> Tensor:
    """Mean, deviation and five quantiles of each channel in a region: (B, C, i, j), (B, i, j) to (B, 7 C)."""
    values, inside = colours.flatten(2), region.flatten(1)[:, None]
    mean = _share(colours, region)
    deviation = _share((colours - mean[:, :, None, None]).square(), region).sqrt()
    ordered = torch.where(inside > 0, values, torch.full_like(values, math.inf)).sort(2).values
    last = (inside.sum(2, keepdim=True) - 1).clamp_min(0).expand(-1, values.shape[1], -1)
    quantiles = [ordered.gather(2, (last * q).round().long())[:, :, 0] for q in QUANTILES]
    return torch.cat([mean, deviation, torch.cat(quantiles, 1).nan_to_num(posinf=0.0)], dim=1)


def histogram(codes: Tensor, region: Tensor, bins: int) -> Tensor:
    """Shares of codes 0 to ``bins`` - 1 in a region: (B, i, j) twice, to (B, bins)."""
    empty = torch.zeros(codes.shape[0], bins, dtype=region.dtype, device=region.device)
    counts = empty.scatter_add(1, codes.flatten(1), region.flatten(1))
    return counts / region.sum((1, 2)).clamp_min(1)[:, None]


def binary_patterns(grey: Tensor, radius: int) -> Tensor:
    """Uniform local binary patterns of eight neighbours, turned alike: (B, i, j) to codes 0 to 9.

    The code is the number of neighbours that are as light as the pixel or lighter, where these lie side by side; 9
    otherwise.
    """
    rows, columns = grey.shape[1:]
    padded = F.pad(grey[:, None], (radius, radius, radius, radius), mode="replicate")[:, 0]
    diagonal = max(1, round(radius / math.sqrt(2)))
    ring = [(0, radius), (diagonal, diagonal), (radius, 0), (diagonal, -diagonal)]
    ring += [(-down, -right) for down, right in ring]
    begins = [(radius + down, radius + right) for down, right in ring]
    bits = torch.stack([padded[:, i : i + rows, j : j + columns] >= grey for i, j in begins], dim=1)
    changes = (bits != bits.roll(1, 1)).sum(1)
    return torch.where(changes <= 2, bits.sum(1), torch.full_like(changes, PATTERNS - 1))


def ring_colours(colours: Tensor, radius: Tensor) -> Tensor:
    """Mean and deviation of each channel in six rings: (B, C, i, j), (B, i, j) to (B, 12 C)."""
    found = []
    for low, high in pairwise(RINGS):
        ring = ((radius >= low) & (radius < high)).to(colours.dtype)
        mean = _share(colours, ring)
        found += [mean, _share((colours - mean[:, :, None, None]).square(), ring).sqrt()]
    return torch.cat(found, dim=1)


def gradients(channel: Tensor, inside: Tensor, margin: Tensor) -> Tensor:
    """Gradients and details of a channel at four scales: (B, i, j) three times, to (B, 52).

    In the object, along its margin and outside of it: mean and root mean square of the gradient, and how much of it has
    one direction (coherence of the structure tensor). In the object: mean of light and of dark details, their
    skewness and kurtosis.
    """
    found = []
    for scale in GRADIENT_SCALES:
        soft = smoothed(channel, scale)
        down, right = soft.diff(dim=1, append=soft[:, -1:]), soft.diff(dim=2, append=soft[:, :, -1:])
        size = (down.square() + right.square()).sqrt()
        tensor = [smoothed(each, 2 * scale) for each in (right.square(), down.square(), right * down)]
        parallel = ((tensor[0] - tensor[1]).square() + 4 * tensor[2].square()).sqrt()
        coherence = parallel / (tensor[0] + tensor[1] + 1e-4)
        for region in (inside, margin, 1 - inside):
            found += [_share(size, region), _share(size.square(), region).sqrt(), _share(coherence, region)]
        details = smoothed(channel, 2 * scale) - soft
        spread = _share(details.square(), inside).sqrt() + 1e-3
        found += [_share(details.clamp_min(0), inside), _share((-details).clamp_min(0), inside)]
        found += [_share(details**3, inside) / spread**3, _share(details**4, inside) / spread**4]
    return torch.stack(found, dim=1)
