"""The chest around the lungs: body wall, ribs, spine, sternum, mediastinum, diaphragm, trachea and fissures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medresnet3d.data.phantoms.canvas import Array, Canvas, smooth_noise

LEFT_LUNG, RIGHT_LUNG, TRACHEA = 3, 4, 5
"""Codes of LUNA16's lung segmentations."""

FAT_HU, MUSCLE_HU, BLOOD_HU, CORTEX_HU, MARROW_HU, AIR_HU = -95.0, 50.0, 42.0, 650.0, 180.0, -985.0


@dataclass(frozen=True)
class Thorax:
    """Sizes of one patient's chest in mm (x right, y anterior, z superior, origin in the middle of the volume).

    Args:
        half: half sizes of the volume.
        body: half axes of the body's cross-section.
        wall: thickness of the chest wall.
        fat: thickness of the fat under the skin.
        middle: half width of the mediastinum.
        heart: reach of the heart into the left lung.
        dome: height of the diaphragm's domes, (right, left), above the bottom of the lungs.
        phase: shift of the ribs and vertebrae.
    """

    half: tuple[float, float, float]
    body: tuple[float, float]
    wall: float
    fat: float
    middle: float
    heart: float
    dome: tuple[float, float]
    phase: float

    POWER = 2.4

    def _polar(self, x: npt.NDArray, y: npt.NDArray, shrink: float) -> tuple[npt.NDArray, npt.NDArray]:
        """Distance from the axis, and the radius of the body less ``shrink`` in that direction, both in mm."""
        a, b = self.body[0] - shrink, self.body[1] - shrink
        radius = np.hypot(x, y) + np.float32(1e-3)
        scaled = (np.abs(x / np.float32(a)) ** self.POWER + np.abs(y / np.float32(b)) ** self.POWER) ** (1 / self.POWER)
        return radius, radius / np.maximum(scaled, np.float32(1e-5))

    def body_depth(self, x: npt.NDArray, y: npt.NDArray, shrink: float = 0.0) -> npt.NDArray:
        """Depth in mm below the skin, or below a surface ``shrink`` mm under it."""
        radius, limit = self._polar(x, y, shrink)
        return limit - radius

    def lung_depth(self, x: npt.NDArray, y: npt.NDArray, z: npt.NDArray) -> npt.NDArray:
        """Depth in mm inside the lungs (negative outside); the arrays broadcast."""
        radius, limit = self._polar(x, y, self.wall)
        top = self.half[2] * 0.92
        shoulder = np.clip((z - np.float32(0.05 * top)) / np.float32(0.95 * top), 0, 1)
        taper = np.sqrt(np.clip(1 - shoulder**3, 0, 1)).astype(np.float32)
        wall = limit * taper - radius
        return np.minimum(np.minimum(wall, self._beside_middle(x, y, z)), self._above_diaphragm(x, y, z))

    def _beside_middle(self, x: npt.NDArray, y: npt.NDArray, z: npt.NDArray) -> npt.NDArray:
        """Distance in mm from the mediastinum into the lung of the nearer side."""
        narrow = 1 - 0.45 * np.clip(y / np.float32(self.body[1]), 0, 1)
        right = self.middle * narrow + 6 * _bell(y, z, (-5, 0), (16, 14))
        left = right + self.heart * _bell(y, z, (12, -0.35 * self.half[2]), (24, 0.5 * self.half[2]))
        return np.maximum(x - right, -x - left)

    def _above_diaphragm(self, x: npt.NDArray, y: npt.NDArray, z: npt.NDArray) -> npt.NDArray:
        """Height in mm above the domes of the diaphragm."""
        height = np.where(x > 0, np.float32(self.dome[0]), np.float32(self.dome[1]))
        across = (np.abs(x) - np.float32(0.5 * self.body[0])) / np.float32(0.42 * self.body[0])
        along = (y - np.float32(8)) / np.float32(0.8 * self.body[1])
        return z + np.float32(self.half[2] * 0.95) - height * np.clip(1 - across**2 - along**2, -0.3, 1)

    @property
    def spine_y(self) -> float:
        """Where the vertebral bodies stand, mm anterior of the middle (negative: behind)."""
        return -(self.body[1] - self.wall) + 12

    def hilum(self, side: int) -> npt.NDArray[np.float64]:
        """Point (3,) where the vessels of the right (+1) or left (-1) lung enter it."""
        return np.array([side * (self.middle + 5.0), -5.0, 0.02 * self.half[2]])


def _bell(y: npt.NDArray, z: npt.NDArray, centre: tuple[float, float], width: tuple[float, float]) -> npt.NDArray:
    """A bell-shaped bulge over y and z."""
    return np.exp(
        -(((y - np.float32(centre[0])) / np.float32(width[0])) ** 2)
        - ((z - np.float32(centre[1])) / np.float32(width[1])) ** 2
    )


def make_thorax(rng: np.random.Generator, half_mm: npt.NDArray) -> Thorax:
    """Choose a chest that fills a volume of half sizes ``half_mm`` (3,)."""
    fit = rng.uniform(0.92, 0.98)
    wall = float(rng.uniform(0.11, 0.15) * half_mm[1] + 5)
    return Thorax(
        half=(float(half_mm[0]), float(half_mm[1]), float(half_mm[2])),
        body=(float(half_mm[0] * fit), float(half_mm[1] * fit * rng.uniform(0.92, 1.0))),
        wall=wall,
        fat=float(wall * rng.uniform(0.25, 0.45)),
        middle=float(0.19 * half_mm[0] + rng.uniform(-2, 2)),
        heart=float(rng.uniform(0.16, 0.24) * half_mm[0]),
        dome=(float(rng.uniform(0.5, 0.65) * half_mm[2]), float(rng.uniform(0.4, 0.55) * half_mm[2])),
        phase=float(rng.uniform(0, 24)),
    )


def paint_body(canvas: Canvas, rng: np.random.Generator, thorax: Thorax) -> None:
    """Paint skin, fat, muscle, bones and mediastinum; the lungs are cut out of it afterwards."""
    x, y, _ = canvas.grid()
    skin = np.broadcast_to(-thorax.body_depth(x, y), (*canvas.shape[:2], 1))
    canvas.fill(skin, FAT_HU)
    canvas.fill(-thorax.body_depth(x, y, thorax.fat), MUSCLE_HU)
    marbling = smooth_noise(rng, canvas.shape, canvas.spacing, 7.0)
    inside = thorax.body_depth(x, y, thorax.fat) > 2
    canvas.blend(np.clip(marbling - 1.2, 0, 0.8) * inside, FAT_HU)
    _paint_ribs(canvas, thorax)
    _paint_spine(canvas, thorax)
    canvas.ellipsoid([0, thorax.body[1] - 0.6 * thorax.wall, 0], [13, 4, 0.7 * thorax.half[2]], CORTEX_HU * 0.5)
    canvas.ellipsoid([0, thorax.body[1] - 0.6 * thorax.wall, 0], [11.5, 2.6, 0.69 * thorax.half[2]], MARROW_HU * 0.6)
    canvas.ellipsoid(
        [-0.6 * thorax.heart, 14, -0.4 * thorax.half[2]],
        [thorax.middle + 0.5 * thorax.heart, 24, 0.5 * thorax.half[2]],
        BLOOD_HU,
    )
    aorta = [-0.5 * thorax.middle, thorax.spine_y + 17]
    canvas.tube([*aorta, -2 * thorax.half[2]], [*aorta, 0.45 * thorax.half[2]], (7.5, 7.5), BLOOD_HU)


def _paint_ribs(canvas: Canvas, thorax: Thorax) -> None:
    """Paint slanting ribs in the chest wall: a shell of cortex around marrow."""
    x, y, z = canvas.grid()
    across = thorax.body_depth(x, y) - np.float32(0.72 * thorax.wall)
    slanted = z - np.float32(0.35) * y + np.float32(thorax.phase)
    along = np.abs((slanted % np.float32(24)) - np.float32(12)) - np.float32(1)
    gap = np.where(np.abs(x) < 16, np.float32(8), np.float32(0))
    for half_thickness, hu in ((3.6, CORTEX_HU), (2.2, MARROW_HU)):
        tall = np.float32(1.5)
        distance = np.sqrt((across) ** 2 + (np.maximum(along, 0) / tall) ** 2) - np.float32(half_thickness) + gap
        canvas.fill(distance, hu)


def _paint_spine(canvas: Canvas, thorax: Thorax) -> None:
    """Paint vertebral bodies with discs between them, the canal, and the processes behind it."""
    box = canvas.box([-34, -thorax.half[1], -thorax.half[2]], [34, thorax.spine_y + 18, thorax.half[2]])
    x, y, z = canvas.grid(box)
    level = np.abs(((z + np.float32(thorax.phase)) % np.float32(24)) - np.float32(12)) - np.float32(9.5)
    bean = np.sqrt((x / np.float32(1.25)) ** 2 + (y - np.float32(thorax.spine_y)) ** 2) - np.float32(11)
    body = np.maximum(bean, level)
    canvas.fill(body, CORTEX_HU * 0.7, box)
    canvas.fill(body + np.float32(1.6), MARROW_HU, box)
    canal_y = np.float32(thorax.spine_y - 17)
    arch = np.hypot(x, y - canal_y) - np.float32(9)
    wings = np.maximum(np.hypot((y - canal_y) + np.float32(2), level + np.float32(6)) - np.float32(4), np.abs(x) - 26)
    canvas.fill(np.minimum(arch, wings), CORTEX_HU * 0.7, box)
    canvas.fill(np.minimum(arch, wings) + np.float32(2), MARROW_HU, box)
    canvas.fill(np.hypot(x, y - canal_y) - np.float32(6), 25.0, box)


def paint_lungs(canvas: Canvas, rng: np.random.Generator, thorax: Thorax) -> Array:
    """Cut out the lungs, with texture, gravity and fissures; gives the depth in mm inside them."""
    x, y, z = canvas.grid()
    depth = thorax.lung_depth(x, y, z).astype(np.float32)
    depth += np.float32(0.6) * smooth_noise(rng, canvas.shape, canvas.spacing, 14.0)
    canvas.blend(canvas.coverage(-depth), lung_texture(canvas, rng))
    for side in (-1, 1):
        tilt = np.array([0.1 * side, rng.uniform(0.55, 0.75), rng.uniform(0.6, 0.8)])
        tilt /= np.linalg.norm(tilt)
        shift = rng.uniform(-6, 4)
        sheet = np.abs(x * np.float32(tilt[0]) + y * np.float32(tilt[1]) + z * np.float32(tilt[2]) - np.float32(shift))
        fissure = np.clip(np.float32(0.4) - (sheet - np.float32(0.3)) / np.float32(canvas.edge_mm), 0, 0.5)
        canvas.blend(fissure * ((depth > 0) & (np.sign(x) == side)), -640.0)
    return depth


def lung_texture(canvas: Canvas, rng: np.random.Generator) -> Array:
    """Values in HU of lung tissue: patchy at several scales, denser behind (the patient lies on the back)."""
    _, y, _ = canvas.grid()
    base = rng.uniform(-885, -830)
    gravity = -rng.uniform(15, 45) * y / np.float32(canvas.half_mm[1])
    texture = np.full(canvas.shape, base, dtype=np.float32) + gravity.astype(np.float32)
    for scale_mm, sd in ((14.0, 14.0), (5.0, 14.0), (2.6, 18.0)):
        texture += np.float32(sd) * smooth_noise(rng, canvas.shape, canvas.spacing, scale_mm)
    return texture


def lung_labels(canvas: Canvas, depth: Array) -> npt.NDArray[np.uint8]:
    """Label map of the lungs with LUNA16's codes (3 left, 4 right), from the depth inside them."""
    side = np.where(canvas.grid()[0] > 0, np.uint8(RIGHT_LUNG), np.uint8(LEFT_LUNG))
    return np.where(depth > 0, side, np.uint8(0)).astype(np.uint8)
