"""A volume in HU that shapes are painted on, with partial-volume edges."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Array = npt.NDArray[np.float32]
Grid = tuple[Array, Array, Array]
Box = tuple[slice, slice, slice]
Shape3 = tuple[int, int, int]
Spacing3 = tuple[float, float, float]

BLUR_MM = 0.9
"""Width of the scanner's blur, which softens edges even where voxels are small."""


class Canvas:
    """A volume in HU on a regular grid whose middle is the origin.

    The axes are right, anterior, superior (x, y, z in mm). A shape is a signed distance in mm (negative inside); it is
    blended in by the fraction of each voxel that it covers, so that edges look like those of a scanner.

    Args:
        shape: voxels along x, y, z.
        spacing: voxel size along x, y, z in mm.
        hu: value everywhere at the start.
    """

    def __init__(self, shape: Shape3, spacing: Spacing3, hu: float = -1000.0) -> None:
        self.shape = shape
        self.spacing = spacing
        self.hu: Array = np.full(shape, hu, dtype=np.float32)
        self.axes = [
            ((np.arange(count) - (count - 1) / 2) * step).astype(np.float32)
            for count, step in zip(shape, spacing, strict=True)
        ]
        self.edge_mm = float(np.hypot(np.mean(spacing), BLUR_MM))

    @property
    def half_mm(self) -> npt.NDArray[np.float64]:
        """Half the size of the volume in mm, outer voxel edges included."""
        return np.multiply(self.shape, self.spacing) / 2

    @property
    def everywhere(self) -> Box:
        """The box of all voxels."""
        return (slice(None), slice(None), slice(None))

    def to_index(self, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Turn points (..., 3) in mm into voxel coordinates."""
        return np.asarray(points, dtype=float) / self.spacing + (np.array(self.shape) - 1) / 2

    def box(self, low: npt.ArrayLike, high: npt.ArrayLike) -> Box:
        """The box of voxels whose centres lie between two corners (3,) in mm, one voxel wider; maybe empty."""
        first = np.floor(self.to_index(low)).astype(int).clip(0, self.shape)
        last = (np.ceil(self.to_index(high)).astype(int) + 1).clip(0, self.shape)
        return (slice(first[0], last[0]), slice(first[1], last[1]), slice(first[2], last[2]))

    def box_around(self, centre: npt.ArrayLike, radius: npt.ArrayLike) -> Box:
        """The box around ``centre`` (3,) with half sizes ``radius`` in mm, with room for the blurred edge."""
        middle, reach = np.asarray(centre, dtype=float), np.asarray(radius, dtype=float) + self.edge_mm
        return self.box(middle - reach, middle + reach)

    def grid(self, box: Box | None = None) -> Grid:
        """Coordinates in mm of the voxels of a box, as three arrays that broadcast against each other."""
        x, y, z = (axis[part] for axis, part in zip(self.axes, box or self.everywhere, strict=True))
        return x[:, None, None], y[None, :, None], z[None, None, :]

    def coverage(self, distance: Array) -> Array:
        """Fraction of each voxel inside a shape, from the signed distance in mm."""
        return np.clip(np.float32(0.5) - distance * np.float32(1 / self.edge_mm), 0, 1)

    def blend(self, coverage: Array, hu: float | Array, box: Box | None = None) -> None:
        """Blend ``hu`` into a box by ``coverage`` (0 to 1)."""
        view = self.hu[box or self.everywhere]
        view += coverage * (np.asarray(hu, dtype=np.float32) - view)

    def fill(self, distance: Array, hu: float | Array, box: Box | None = None) -> None:
        """Blend a shape into a box; ``distance`` is its signed distance in mm on the voxels of the box."""
        self.blend(self.coverage(distance), hu, box)

    def tube(self, start: npt.ArrayLike, end: npt.ArrayLike, radii: tuple[float, float], hu: float) -> None:
        """Paint a tube that tapers from ``radii[0]`` at ``start`` to ``radii[1]`` at ``end`` (3,), all in mm.

        One that is thinner than a voxel fades with its cross-section, as it does in a scanner.
        """
        a, b = np.asarray(start, dtype=np.float32), np.asarray(end, dtype=np.float32)
        reach = max(radii) + self.edge_mm
        box = self.box(np.minimum(a, b) - reach, np.maximum(a, b) + reach)
        x, y, z = self.grid(box)
        if x.size and y.size and z.size:
            thickness = (radii[0] + radii[1]) / 2
            relative = min(1.0, 2 * thickness / self.edge_mm)
            fade = np.float32(8 * relative**2 / (1 + relative) ** 3)
            self.blend(fade * self.coverage(tube_distance((x, y, z), a, b, radii)), hu, box)

    def ellipsoid(
        self, centre: npt.ArrayLike, radii: npt.ArrayLike, hu: float, turn: npt.NDArray | None = None
    ) -> None:
        """Paint an ellipsoid with half axes ``radii`` (3,) in mm; ``turn`` (3, 3) holds the axes as rows."""
        centre, radii = np.asarray(centre, dtype=np.float32), np.asarray(radii, dtype=np.float32)
        box = self.box_around(centre, np.full(3, radii.max()) if turn is not None else radii)
        offset = [axis - middle for axis, middle in zip(self.grid(box), centre, strict=True)]
        if turn is not None:
            offset = [sum(row[n] * offset[n] for n in range(3)) for row in turn.astype(np.float32)]
        scaled = np.sqrt(sum((part / radius) ** 2 for part, radius in zip(offset, radii, strict=True)))
        gradient = np.sqrt(sum((part / radius**2) ** 2 for part, radius in zip(offset, radii, strict=True)))
        self.fill(scaled * (scaled - 1) / np.maximum(gradient, np.float32(1e-3)), hu, box)


def tube_distance(grid: Grid, start: Array, end: Array, radii: tuple[float, float]) -> Array:
    """Signed distance in mm to a tapering tube from ``start`` to ``end`` (3,)."""
    along = end - start
    length2 = max(float(along @ along), 1e-6)
    dx, dy, dz = (axis - origin for axis, origin in zip(grid, start, strict=True))
    t = np.clip((dx * along[0] + dy * along[1] + dz * along[2]) / np.float32(length2), 0, 1)
    off2 = (dx - t * along[0]) ** 2 + (dy - t * along[1]) ** 2 + (dz - t * along[2]) ** 2
    return np.sqrt(off2) - (np.float32(radii[0]) + t * np.float32(radii[1] - radii[0]))


def smooth_noise(rng: np.random.Generator, shape: Shape3, spacing: Spacing3, scale_mm: float) -> Array:
    """Correlated noise with mean 0, standard deviation about 1 and structures of about ``scale_mm``."""
    coarse = [max(2, round(count * step / scale_mm) + 1) for count, step in zip(shape, spacing, strict=True)]
    values = rng.standard_normal(coarse, dtype=np.float32)
    for axis, (count, small) in enumerate(zip(shape, coarse, strict=True)):
        place = np.linspace(0, small - 1, count, dtype=np.float32)
        low = np.minimum(place.astype(int), small - 2)
        weight = (place - low).reshape([-1 if n == axis else 1 for n in range(3)])
        below, above = np.take(values, low, axis=axis), np.take(values, low + 1, axis=axis)
        values = below + weight * (above - below)
    values -= values.mean()
    return values / np.float32(max(float(values.std()), 1e-6))


def scanner_noise(rng: np.random.Generator, shape: Shape3, sigma_voxels: float) -> Array:
    """Noise with standard deviation 1 and the short correlation of a reconstruction kernel."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, sigma_voxels, truncate=2.0, mode="nearest")
    return noise / np.float32(max(float(noise.std()), 1e-6))
