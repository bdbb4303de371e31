"""Phantom fundus photographs with the lesions of diabetic retinopathy, in the official layouts of EyePACS and APTOS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medresnet3d.data.preparation.mimics import write_picture, write_table
from medresnet3d.data.preparation.prepare import prepare
from medresnet3d.errors import ConfigError

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

GRADES = 5
SEVERITY = {
    "microaneurysms": (0, 5, 12, 16, 14),
    "haemorrhages": (0, 0, 5, 16, 12),
    "exudates": (0, 0, 8, 12, 10),
    "cotton wool spots": (0, 0, 1, 4, 3),
    "new vessels": (0, 0, 0, 0, 4),
}
"""How many lesions of each kind an eye of grade 0, 1, 2, 3 and 4 has on average."""
KINDS = (*SEVERITY, "drusen")
BLOOD, EXUDATE, COTTON, DRUSEN, NERVE = (
    np.array(colour)
    for colour in ((0.38, 0.06, 0.03), (0.98, 0.9, 0.42), (0.9, 0.82, 0.66), (0.9, 0.72, 0.36), (1.0, 0.86, 0.6))
)
OUTLOOK = 0.5  # distance between optic disc and fovea, in radii of the field


@dataclass(frozen=True, eq=False)
class Eye:
    """A fundus photograph and the truth about it; all masks are (rows, columns).

    Attributes:
        picture: (rows, columns, 3), uint8 RGB.
        field: what the camera sees.
        vessels: arteries and veins.
        nerve: the optic nerve head.
        fovea: row and column.
        lesions: a mask a kind, of :data:`KINDS`.
    """

    picture: npt.NDArray[np.uint8]
    field: Mask
    vessels: Mask
    nerve: Mask
    fovea: tuple[float, float]
    lesions: dict[str, Mask]


def findings_of_grade(seed: int | Sequence[int], grade: int, difficulty: float = 0.5) -> dict[str, int]:
    """How many lesions of each kind an eye of a grade has.

    Microaneurysms alone are grade 1; haemorrhages, exudates and cotton wool spots grade 2; many of them grade 3; new
    vessels grade 4, as in the international scale. Drusen are drawn alike for all grades, and say nothing.

    Args:
        seed: the same seed gives the same numbers.
        grade: 0 to 4.
        difficulty: standard deviation of what lies between the grade and the severity that the lesions show; at 0 the
            numbers follow the grade exactly, at 1 neighbouring grades are alike in a third of the eyes.

    Raises:
        ConfigError: if there is no such grade.
    """
    if grade not in range(GRADES):
        raise ConfigError(f"findings_of_grade: the grade is {grade}; give 0 to {GRADES - 1}.")
    rng = np.random.default_rng(seed)
    severity = float(np.clip(grade + difficulty * rng.normal(), 0, GRADES - 1))
    counts = {kind: round(float(np.interp(severity, range(GRADES), means))) for kind, means in SEVERITY.items()}
    return {**counts, "drusen": int(rng.integers(3, 12)) if rng.random() < 0.3 else 0}


def eye(
    seed: int | Sequence[int],
    lesions: Mapping[str, int],
    size: tuple[int, int] = (96, 128),
    *,
    right: bool = True,
    person: int | Sequence[int] | None = None,
) -> Eye:
    """Draw a fundus photograph.

    Exudates lie in clusters near the fovea, drusen alone and scattered; both are bright. Microaneurysms are red dots,
    haemorrhages red blots, cotton wool spots pale and blurred, new vessels fine tangles near the nerve head.

    Args:
        seed: of the lesions, the light and the noise.
        lesions: how many of each kind, of :data:`KINDS`.
        size: rows and columns.
        right: a right eye, whose nerve head is at the right; a left eye is its mirror image.
        person: seed of pigment and vessels, which both eyes of a person share; by default ``seed``.

    Raises:
        ConfigError: if a kind of lesion is unknown.
    """
    unknown = sorted(set(lesions) - set(KINDS))
    if unknown:
        raise ConfigError(f"eye: there are no lesions {', '.join(unknown)}; known are {', '.join(KINDS)}.")
    own = np.random.default_rng(seed)
    shared = np.random.default_rng(seed if person is None else person)
    retina = _Retina(size, right, own, shared)
    masks = {kind: retina.add(kind, lesions.get(kind, 0)) for kind in KINDS}
    return Eye(retina.photograph(), retina.field, retina.vessels, retina.nerve, retina.place(0.0, 0.0), masks)


class _Retina:
    """A retina in coordinates whose origin is the fovea and whose unit is the radius of the field."""

    def __init__(
        self, size: tuple[int, int], right: bool, own: np.random.Generator, shared: np.random.Generator
    ) -> None:
        self.rng, self.side = own, 1.0 if right else -1.0
        self.radius = min(size[0] * own.uniform(0.48, 0.56), size[1] * 0.49)
        middle = np.array(size) / 2 + own.uniform(-0.02, 0.02, 2) * self.radius
        self.origin = middle + self.radius * np.array([own.uniform(-0.08, 0.08), own.uniform(-0.15, 0.0) * self.side])
        rows, columns = np.indices(size)
        self.from_middle = np.hypot(rows - middle[0], columns - middle[1]) / self.radius
        self.y = (rows - self.origin[0]) / self.radius
        self.x = (columns - self.origin[1]) / self.radius * self.side
        self.field: Mask = self.from_middle < 1
        self.pixel = 1 / self.radius
        pigment = np.array([0.75, 0.38, 0.16]) * shared.uniform(0.75, 1.15) * shared.uniform(0.92, 1.08, 3)
        self.colour: Array = np.broadcast_to(pigment, (*size, 3)) * (1 + 0.06 * self._noise(0.15))[..., None]
        self._blend(np.exp(-((np.hypot(self.x, self.y) / 0.18) ** 2)) * 0.45, pigment * 0.45)
        self.vessels = self._draw_vessels(shared)
        self.nerve = self._draw_nerve(shared)

    def place(self, y: float, x: float) -> tuple[float, float]:
        """Row and column of a point."""
        row, column = self.origin + self.radius * np.array([y, x * self.side])
        return float(row), float(column)

    def _noise(self, scale: float) -> Array:
        values = ndimage.gaussian_filter(self.rng.normal(size=self.x.shape), scale * self.radius, mode="reflect")
        return np.asarray(values / (values.std() + 1e-12))

    def _blend(self, weight: Array, colour: Array) -> None:
        self.colour = self.colour + weight[..., None] * (colour - self.colour)

    def _cover(self, distance: Array, soft: float = 0.0) -> Array:
        """Share of each pixel that lies within a signed distance; ``soft`` is the width of the edge beyond a pixel."""
        return np.asarray(np.clip(0.5 - distance / (self.pixel + soft), 0, 1))

    def _draw_vessels(self, rng: np.random.Generator) -> Mask:
        """Arcades from the nerve head around the fovea, and smaller branches inside of them."""
        along = np.linspace(0, 1, 4 * max(self.x.shape))
        mask = np.zeros(self.x.shape, dtype=bool)
        for up in (-1, 1):
            for reach, width in ((0.75, 0.022), (0.5, 0.016), (1.1, 0.018)):
                bend, end = reach * rng.uniform(0.85, 1.15), rng.uniform(0.9, 1.5)
                xs = OUTLOOK - end * along
                ys = up * bend * np.sin(np.pi * along * rng.uniform(0.7, 0.97)) ** 0.8
                mask |= self._draw_line(ys, xs, width * (1.0 - 0.6 * along), rng.uniform(0.5, 0.75))
            ys, xs = up * along * rng.uniform(0.6, 1.0), OUTLOOK + along * rng.uniform(0.2, 0.6)
            mask |= self._draw_line(ys, xs, 0.016 * (1.0 - 0.6 * along), rng.uniform(0.5, 0.75))
        return mask & self.field

    def _draw_line(self, ys: Array, xs: Array, widths: Array, strength: float) -> Mask:
        """Paint a line of blood through points that lie close together, as wide as ``widths`` along it."""
        points = np.stack([ys, xs * self.side]) * self.radius + self.origin[:, None]
        rows, columns = np.rint(points).astype(int)
        inside = (rows >= 0) & (rows < self.x.shape[0]) & (columns >= 0) & (columns < self.x.shape[1])
        if not inside.any():
            return np.zeros(self.x.shape, dtype=bool)
        point = np.full(self.x.shape, -1)
        point[rows[inside], columns[inside]] = np.flatnonzero(inside)
        nearest = ndimage.distance_transform_edt(point < 0, return_distances=False, return_indices=True)
        point = point[tuple(nearest)]
        distance = np.hypot(self.y - ys[point], self.x - xs[point]) - widths[point]
        self._blend(strength * self._cover(distance), BLOOD)
        return np.asarray(distance < self.pixel / 2)

    def _draw_nerve(self, rng: np.random.Generator) -> Mask:
        distance = np.hypot((self.x - OUTLOOK) / 0.9, self.y) - rng.uniform(0.11, 0.14)
        self._blend(0.85 * self._cover(distance, 0.05), NERVE)
        return np.asarray(distance < 0) & self.field

    def add(self, kind: str, count: int) -> Mask:
        """Paint ``count`` lesions of a kind, and give their mask."""
        mask = np.zeros(self.x.shape, dtype=bool)
        for centre in self._centres(kind, count):
            mask |= self._tangle(centre) if kind == "new vessels" else self._spot(kind, centre)
        return mask & self.field

    def _centres(self, kind: str, count: int) -> Array:
        """Points (count, 2) as (y, x), in the field and off the nerve head."""
        if kind == "exudates":
            angle, far = self.rng.uniform(0, 2 * np.pi), self.rng.uniform(0.15, 0.35)
            heart = far * np.array([np.sin(angle), np.cos(angle)])
            return np.asarray(heart + self.rng.normal(0, 0.1, (count, 2)))
        if kind == "new vessels":
            return self.rng.uniform(-0.3, 0.3, (count, 2)) + np.array([0.0, OUTLOOK])
        angles, away = self.rng.uniform(0, 2 * np.pi, count), 0.8 * np.sqrt(self.rng.uniform(0, 1, count))
        points = np.stack([away * np.sin(angles), away * np.cos(angles)], axis=1)
        blind = np.hypot(points[:, 0], points[:, 1] - OUTLOOK) < 0.2
        points[blind, 1] *= -1
        return points

    def _spot(self, kind: str, centre: Array) -> Mask:
        radius, soft, colour, strength = {
            "microaneurysms": (0.016, 0.0, BLOOD, 0.8),
            "haemorrhages": (0.045, 0.01, BLOOD, 0.85),
            "exudates": (0.025, 0.0, EXUDATE, 0.9),
            "cotton wool spots": (0.06, 0.06, COTTON, 0.75),
            "drusen": (0.022, 0.015, DRUSEN, 0.75),
        }[kind]
        radius *= self.rng.uniform(0.8, 1.4)
        angle, stretch = self.rng.uniform(0, np.pi), self.rng.uniform(1.0, 1.6 if kind != "microaneurysms" else 1.1)
        y, x = self.y - centre[0], self.x - centre[1]
        along, across = y * np.sin(angle) + x * np.cos(angle), y * np.cos(angle) - x * np.sin(angle)
        distance = np.hypot(along / stretch, across * stretch) - max(radius, 0.7 * self.pixel)
        self._blend(strength * self._cover(distance, soft), colour)
        return np.asarray(distance < 0)

    def _tangle(self, centre: Array) -> Mask:
        """Loops of fine vessels."""
        along, phase = np.linspace(0, 2 * np.pi, 2 * max(self.x.shape)), self.rng.uniform(0, 2 * np.pi, 2)
        size = self.rng.uniform(0.06, 0.12)
        ys = centre[0] + size * np.sin(3 * along + phase[0])
        xs = centre[1] + size * np.cos(2 * along + phase[1])
        return self._draw_line(ys, xs, np.full(len(along), 0.004), 0.75)

    def photograph(self) -> npt.NDArray[np.uint8]:
        """What the camera makes of it: uneven light, a dim rim, noise, black around."""
        light = self.rng.uniform(0.8, 1.1) * (
            1 + self.rng.uniform(-0.2, 0.2) * self.x + self.rng.uniform(-0.2, 0.2) * self.y
        )
        rim = 1 - 0.35 * np.clip(self.from_middle, 0, 1) ** 4
        lit = self.colour * (light * rim * self._cover(self.from_middle - 1))[..., None]
        noisy = 255 * lit + self.rng.normal(0, self.rng.uniform(1, 3), lit.shape) * self.field[..., None]
        return np.rint(noisy.clip(0, 255)).astype(np.uint8)


def write_eyepacs(
    folder: str | Path,
    training: int = 30,
    test: int = 20,
    seed: int = 0,
    *,
    size: tuple[int, int] = (96, 128),
    difficulty: float = 0.5,
    task: str = "retinopathy",
) -> Path:
    """Write phantom photographs as the official unpacking of EyePACS holds them, and prepare the manifest from it.

    Each patient has a left and a right eye that share pigment and vessels; their grades are equal in four patients of
    five, and neighbours otherwise.

    Args:
        folder: created if absent.
        training: photographs of the training part; an even number, all five grades among them alike.
        test: photographs of the test part, likewise; 0 for none.
        seed: the same seed writes the same files.
        size: rows and columns of each photograph.
        difficulty: see :func:`findings_of_grade`.
        task: of the manifest: ``retinopathy`` (five grades) or ``referable``.

    Returns:
        the manifest, as ``medresnet3d data prepare eyepacs`` writes it: five folds of the training patients.

    Raises:
        ConfigError: if a part has an odd number of photographs, or too few patients for five grades.
    """
    folder = Path(folder)
    for part, table, first, number in (
        ("train", "trainLabels", 10, training),
        ("test", "retinopathy_solution", 10_001, test),
    ):
        if number and (number % 2 or number < 2 * GRADES):
            raise ConfigError(
                f"write_eyepacs: {number} {part} photographs; give an even number, at least {2 * GRADES}."
            )
        usage = () if part == "train" else ("Usage",)
        rows: list[tuple[object, ...]] = [("image", "level", *usage)]
        for patient, grades in enumerate(_patients(seed, first, number // 2), start=first):
            for right, grade in enumerate(grades):
                name, own = f"{patient}_{('left', 'right')[right]}", [seed, patient, right]
                findings = findings_of_grade(own, grade, difficulty)
                drawn = eye(own, findings, size, right=bool(right), person=[seed, patient])
                write_picture(folder / part / f"{name}.jpeg", drawn.picture, quality=92)
                rows.append((name, grade, *(["Private"] if usage else [])))
        if number:
            write_table(folder / f"{table}.csv", rows)
    return prepare("eyepacs", folder, folder / "manifest.json", task=task, seed=seed).path


def _patients(seed: int, first: int, number: int) -> list[tuple[int, int]]:
    """Grades of the left and the right eye of each patient."""
    rng = np.random.default_rng([seed, first])
    left = rng.permutation(np.arange(number) % GRADES)
    step = np.where(rng.random(number) < 0.2, rng.choice([-1, 1], number), 0)
    return list(zip(left.tolist(), np.clip(left + step, 0, GRADES - 1).tolist(), strict=True))


def write_aptos(
    folder: str | Path,
    training: int = 30,
    seed: int = 0,
    *,
    size: tuple[int, int] = (96, 128),
    difficulty: float = 0.5,
    task: str = "retinopathy",
) -> Path:
    """Write phantom photographs as the official unpacking of APTOS 2019 holds them, and prepare the manifest from it.

    Args:
        folder: created if absent.
        training: photographs, all five grades alike; one photograph a patient.
        seed: the same seed writes the same files.
        size: rows and columns of each photograph.
        difficulty: see :func:`findings_of_grade`.
        task: of the manifest: ``retinopathy`` (five grades) or ``referable``.

    Returns:
        the manifest, as ``medresnet3d data prepare aptos`` writes it; photographs are not compared with each other,
        since all phantoms look alike to that comparison.

    Raises:
        ConfigError: if there are too few photographs for five grades.
    """
    if training < GRADES:
        raise ConfigError(f"write_aptos: {training} photographs cannot have {GRADES} grades.")
    folder = Path(folder)
    rows: list[tuple[object, ...]] = [("id_code", "diagnosis")]
    for index, grade in enumerate(np.random.default_rng(seed).permutation(np.arange(training) % GRADES).tolist()):
        name = f"{index:012x}"
        drawn = eye([seed, index], findings_of_grade([seed, index], grade, difficulty), size, right=bool(index % 2))
        write_picture(folder / "train_images" / f"{name}.png", drawn.picture)
        rows.append((name, grade))
    write_table(folder / "train.csv", rows)
    options = {"near_duplicates": "false"}
    return prepare("aptos", folder, folder / "manifest.json", task=task, seed=seed, options=options).path
