"""Shapes of lung nodules, and of what is mistaken for them: pleural bumps and scars."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from medresnet3d.data.phantoms.canvas import Array, Box, Canvas, Grid, smooth_noise

KINDS = ("solid", "ground_glass")
MARGINS = ("smooth", "spiculated")


@dataclass(frozen=True)
class StarShape:
    """A body that every ray from its centre leaves once: a lumpy blob, with or without spicules.

    Args:
        centre: (3,) in mm.
        radius: mean radius in mm.
        lumps: (n, 3) unit vectors of broad lobes and dents.
        lump_heights: (n,) as fractions of the radius, negative for dents.
        spikes: (m, 3) unit vectors of thin spicules.
        spike_heights: (m,) as fractions of the radius.
        squash: (3,) scale of the axes, for bodies that are not round.
    """

    centre: npt.NDArray[np.float64]
    radius: float
    lumps: npt.NDArray[np.float64]
    lump_heights: npt.NDArray[np.float64]
    spikes: npt.NDArray[np.float64]
    spike_heights: npt.NDArray[np.float64]
    squash: npt.NDArray[np.float64]

    LUMP_SHARPNESS = 3.0
    SPIKE_SHARPNESS = 60.0

    def surface(self, directions: npt.NDArray) -> npt.NDArray:
        """Distance from the centre to the surface in mm along unit vectors (..., 3)."""
        factor: npt.NDArray = np.ones(directions.shape[:-1], dtype=directions.dtype)
        for axes, heights, sharpness in (
            (self.lumps, self.lump_heights, self.LUMP_SHARPNESS),
            (self.spikes, self.spike_heights, self.SPIKE_SHARPNESS),
        ):
            for axis, height in zip(axes.astype(directions.dtype), heights, strict=True):
                factor += directions.dtype.type(height) * np.exp(sharpness * (directions @ axis - 1))
        shell = 1 / np.linalg.norm(directions / self.squash.astype(directions.dtype), axis=-1)
        return self.radius * factor * shell

    def reach(self) -> float:
        """Radius in mm of a ball around the centre that holds the whole body."""
        return float(1.02 * self.surface(sphere_directions(4000)).max())

    def volume(self) -> float:
        """Volume in cubic mm, by integrating the surface over all directions."""
        return float(4 / 3 * np.pi * np.mean(self.surface(sphere_directions(20000)) ** 3))

    def distance(self, grid: Grid) -> Array:
        """Signed distance in mm along the ray through the centre; negative inside."""
        offset = np.stack(np.broadcast_arrays(*grid), axis=-1) - self.centre.astype(np.float32)
        length = np.linalg.norm(offset, axis=-1)
        unit = offset / np.maximum(length, np.float32(1e-4))[..., None]
        unit[length < np.float32(1e-4)] = (1, 0, 0)
        return (length - self.surface(unit)).astype(np.float32)


def sphere_directions(count: int) -> npt.NDArray[np.float64]:
    """Evenly spread unit vectors (count, 3) (Fibonacci lattice)."""
    number = np.arange(count) + 0.5
    z = 1 - 2 * number / count
    angle = np.pi * (1 + 5**0.5) * number
    ring = np.sqrt(1 - z * z)
    return np.stack([ring * np.cos(angle), ring * np.sin(angle), z], axis=-1)


def random_directions(rng: np.random.Generator, *shape: int) -> npt.NDArray[np.float64]:
    """Random unit vectors (*shape, 3)."""
    vectors = rng.standard_normal((*shape, 3))
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def nodule_shape(rng: np.random.Generator, centre: npt.ArrayLike, diameter_mm: float, margin: str) -> StarShape:
    """Make a random nodule body whose volume is that of a ball of ``diameter_mm``.

    Args:
        rng: where the randomness comes from.
        centre: (3,) in mm.
        diameter_mm: diameter of the ball of equal volume.
        margin: ``"smooth"`` (broad lobes only) or ``"spiculated"`` (thin spicules as well).
    """
    lumps = int(rng.integers(3, 8))
    spikes = int(rng.integers(14, 26)) if margin == "spiculated" else 0
    body = StarShape(
        centre=np.asarray(centre, dtype=float),
        radius=1.0,
        lumps=random_directions(rng, lumps),
        lump_heights=rng.uniform(-0.18, 0.3, lumps),
        spikes=random_directions(rng, spikes),
        spike_heights=rng.uniform(0.35, 1.1, spikes),
        squash=rng.uniform(0.8, 1.25, 3),
    )
    ball = np.pi / 6 * diameter_mm**3
    return replace(body, radius=(ball / body.volume()) ** (1 / 3))


def paint_nodule(canvas: Canvas, rng: np.random.Generator, shape: StarShape, kind: str, hu: float) -> tuple[Box, Array]:
    """Paint a nodule and give the box around it with the signed distance in mm inside that box.

    A solid nodule hides what lies behind it; through ground glass the vessels stay visible.
    """
    box = canvas.box_around(shape.centre, np.full(3, shape.reach()))
    distance = shape.distance(canvas.grid(box))
    if kind == "solid":
        canvas.fill(distance, hu, box)
        return box, distance
    view = canvas.hu[box]
    patchy = hu + np.float32(45) * smooth_noise(rng, distance.shape, canvas.spacing, 4.0)
    soft_edge = np.clip(np.float32(0.5) - distance / np.float32(2 * canvas.edge_mm), 0, 1)
    view += soft_edge * np.maximum(patchy - view, 0)
    return box, distance


def nodule_hu(rng: np.random.Generator, kind: str) -> float:
    """A plausible mean value in HU: soft tissue for a solid nodule, between lung and tissue for ground glass."""
    return float(rng.uniform(-20, 80) if kind == "solid" else rng.uniform(-600, -350))


def paint_bump(
    canvas: Canvas, rng: np.random.Generator, surface: npt.ArrayLike, inward: npt.ArrayLike, height_mm: float
) -> None:
    """Paint a broad-based bump of the pleura or chest wall.

    Args:
        canvas: what to paint on.
        rng: where the randomness comes from.
        surface: (3,) point on the pleura in mm.
        inward: (3,) unit vector from the wall into the lung.
        height_mm: how far the bump reaches into the lung.
    """
    widths = height_mm * rng.uniform(1.1, 2.4, 2)
    centre = np.asarray(surface) - 0.2 * height_mm * np.asarray(inward)
    canvas.ellipsoid(centre, [1.2 * height_mm, *widths], float(rng.uniform(-10, 70)), turn=frame(rng, inward))


def paint_scar(canvas: Canvas, rng: np.random.Generator, centre: npt.ArrayLike, size_mm: float) -> None:
    """Paint a scar: a thin, bent plate of tissue with a thicker middle, ``size_mm`` across."""
    normal = random_directions(rng)
    turn = frame(rng, normal)
    hu = float(rng.uniform(-150, 50))
    thickness = rng.uniform(0.9, 1.5)
    canvas.ellipsoid(centre, [thickness, size_mm / 2, size_mm / 2 * rng.uniform(0.45, 1.0)], hu, turn=turn)
    for side in (-1, 1):
        start = np.asarray(centre) + side * 0.35 * size_mm * turn[1]
        bend = turn[1] * side + 0.8 * normal * rng.uniform(-1, 1)
        canvas.tube(start, start + 0.5 * size_mm * bend, (thickness, 0.5), hu)


def frame(rng: np.random.Generator, first: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """A random right-angled frame (3, 3), axes as rows, that starts with the direction ``first`` (3,)."""
    columns = np.column_stack([np.asarray(first, dtype=float), *random_directions(rng, 2)])
    axes = np.linalg.qr(columns)[0].T
    return axes * np.sign(axes[0] @ np.asarray(first, dtype=float))
