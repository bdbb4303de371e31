"""Population methods: particle swarm, whale, improved whale and random search behind one ask/tell interface.

Each looks for the smallest value of a function in a box without its gradient. ``ask`` gives the positions to measure,
``tell`` takes what was found there, lower being better::

    swarm = PSO([(-5, 5)] * 10, population=30, iterations=200, seed=0)
    for _ in range(200):
        swarm.tell(sphere(swarm.ask()))
    print(swarm.best.fitness)

All arithmetic is on arrays (population, dims), so that the weights of a layer (thousands of dimensions) can be searched
as well as three hyper-parameters. The random numbers of iteration *t* are drawn from a generator seeded by (seed, *t*):
the state consists of plain numbers, and a run that was broken off goes on bit by bit as if it had not been.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medresnet3d.errors import ConfigError

Array = NDArray[np.float64]


class Best(NamedTuple):
    """The best position so far.

    Attributes:
        position: shape (dims,).
        fitness: its value; infinite while nothing could be measured.
    """

    position: Array
    fitness: float


class Swarm(ABC):
    """What all population methods share: the box, the positions, the best so far and the state.

    Args:
        bounds: lowest and highest value of each dimension, shape (dims, 2).
        population: number of positions of one iteration.
        iterations: number of iterations that the method's own schedules are spread over; more may be asked for, with
            the schedules at their ends.
        seed: seed of all random numbers.

    Raises:
        ConfigError: if the bounds are no box, or a number is too small.
    """

    #: Arrays that :meth:`state_dict` keeps besides positions and best.
    _memory: tuple[str, ...] = ()

    def __init__(self, bounds: ArrayLike, population: int = 30, iterations: int = 200, seed: int = 0) -> None:
        box = np.asarray(bounds, dtype=float)
        if box.ndim != 2 or box.shape[1] != 2 or not len(box):
            raise ConfigError(f"bounds have the shape {box.shape}; give one (low, high) pair for each dimension.")
        wrong = np.flatnonzero(~(np.isfinite(box).all(axis=1) & (box[:, 0] < box[:, 1])))
        if wrong.size:
            low, high = box[wrong[0]]
            raise ConfigError(f"The bounds of dimension {wrong[0]} are {low:g} and {high:g}; give finite low < high.")
        for name, value in (("population", population), ("iterations", iterations)):
            if value < 1:
                raise ConfigError(f"{name} is {value}; it must be 1 or more.")
        self.low, self.high = box[:, 0].copy(), box[:, 1].copy()
        self.population, self.iterations, self.seed = population, iterations, seed
        self.iteration = 0
        self._best = Best(np.full(len(box), np.nan), math.inf)
        self.positions = self._first_positions(np.random.default_rng((seed, 0)))

    @property
    def dims(self) -> int:
        """Number of dimensions."""
        return len(self.low)

    @property
    def best(self) -> Best:
        """The best position so far, as a copy; NaN with infinite fitness before anything was measured."""
        return Best(self._best.position.copy(), self._best.fitness)

    def ask(self) -> Array:
        """Give the positions to measure, shape (population, dims), within the bounds; the same until they are told."""
        return self.positions.copy()

    def tell(self, fitness: ArrayLike) -> None:
        """Take what was measured at the positions that were asked for, and move on.

        Args:
            fitness: shape (population,), lower is better; NaN (a trial that failed) counts as infinite.

        Raises:
            ConfigError: if there is not one value for each position.
        """
        values = np.asarray(fitness, dtype=float)
        if values.shape != (self.population,):
            raise ConfigError(f"fitness has the shape {values.shape}; give one value for each of {self.population}.")
        values = np.where(np.isnan(values), np.inf, values)
        leader = int(values.argmin())
        if values[leader] < self._best.fitness:
            self._best = Best(self.positions[leader].copy(), float(values[leader]))
        generator = np.random.default_rng((self.seed, self.iteration + 1))
        # where nothing could be measured, there is nothing to be drawn to
        moved = self._move(values, generator) if np.isfinite(self._best.fitness) else self._uniform(generator)
        self.positions = np.clip(moved, self.low, self.high)
        self.iteration += 1

    def step(self, fitness: Callable[[Array], ArrayLike]) -> Best:
        """Ask, measure, tell: one iteration with a function of positions (population, dims) to values (population,)."""
        self.tell(fitness(self.ask()))
        return self.best

    def state_dict(self) -> dict[str, Any]:
        """Give everything the next iteration depends on, as plain numbers and lists that JSON keeps exactly."""
        arrays = {name: getattr(self, name).tolist() for name in ("positions", *self._memory)}
        best = {"position": self._best.position.tolist(), "fitness": self._best.fitness}
        return {"iteration": self.iteration, "seed": self.seed, "best": best, **arrays}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave.

        Raises:
            ConfigError: if the state is of another method, population or number of dimensions.
        """
        arrays = {}
        for name in ("positions", *self._memory):
            arrays[name] = np.asarray(state.get(name), dtype=float)
            if arrays[name].shape != getattr(self, name).shape:
                raise ConfigError(
                    f"{name} of the saved state has the shape {arrays[name].shape}, this {type(self).__name__} wants "
                    f"{getattr(self, name).shape}; build it as it was built when the state was saved."
                )
        for name, array in arrays.items():
            setattr(self, name, array)
        self.iteration, self.seed = int(state["iteration"]), int(state["seed"])
        self._best = Best(np.asarray(state["best"]["position"], dtype=float), float(state["best"]["fitness"]))

    @property
    def progress(self) -> float:
        """How much of the planned iterations is done, 0 to 1."""
        return min(1.0, self.iteration / self.iterations)

    def _uniform(self, generator: np.random.Generator) -> Array:
        return generator.uniform(self.low, self.high, (self.population, self.dims))

    def _first_positions(self, generator: np.random.Generator) -> Array:
        return self._uniform(generator)

    @abstractmethod
    def _move(self, fitness: Array, generator: np.random.Generator) -> Array:
        """Give the next positions, from the values at the present ones; they are clipped to the bounds afterwards."""


class RandomSearch(Swarm):
    """Positions drawn uniformly and independently: what the other methods have to beat.

    Bergstra & Bengio 2012. Arguments as in :class:`Swarm`.
    """

    def _move(self, fitness: Array, generator: np.random.Generator) -> Array:
        return self._uniform(generator)


def pso_velocity(
    velocity: Array, position: Array, pbest: Array, gbest: Array, r1: ArrayLike, r2: ArrayLike, w: float, c: float
) -> Array:
    """Velocity update of particle swarm optimisation, ``w v + c r1 (pbest - x) + c r2 (gbest - x)``.

    Args:
        velocity: shape (population, dims).
        position: shape (population, dims).
        pbest: best position of each particle, shape (population, dims).
        gbest: best position of all, shape (dims,).
        r1: random numbers in [0, 1], shape (population, dims).
        r2: the same, of their own.
        w: inertia.
        c: acceleration towards both.
    """
    return w * velocity + c * np.asarray(r1) * (pbest - position) + c * np.asarray(r2) * (gbest - position)


class PSO(Swarm):
    """Particle swarm optimisation (Kennedy & Eberhart 1995; as used by Liang 2018).

    Each particle keeps its velocity and is drawn to the best position it has seen and to the best that any has seen.
    At a wall it stops. Liang 2018 does not print its constants: those here are the usual ones and are inferred.

    Args:
        bounds: see :class:`Swarm`.
        population: see :class:`Swarm`.
        iterations: the inertia falls linearly over them.
        seed: see :class:`Swarm`.
        constriction: use Clerc & Kennedy's constants (inertia 0.7298, acceleration 1.49618) instead of a falling
            inertia; ``inertia`` and ``acceleration`` are then not used.
        inertia: inertia at the first and at the last iteration (Shi & Eberhart 1998).
        acceleration: towards the particle's own and towards the common best.
        max_velocity: largest step in a dimension, as a share of its width.
        start: first positions, shape (population, dims), clipped to the bounds; by default drawn uniformly.

    Raises:
        ConfigError: as :class:`Swarm`, if the largest step is not positive, or the first positions have another shape.
    """

    _memory = ("velocities", "pbest", "pbest_fitness")

    def __init__(
        self,
        bounds: ArrayLike,
        population: int = 30,
        iterations: int = 200,
        seed: int = 0,
        *,
        constriction: bool = False,
        inertia: Sequence[float] = (0.9, 0.4),
        acceleration: float = 2.0,
        max_velocity: float = 0.2,
        start: ArrayLike | None = None,
    ) -> None:
        super().__init__(bounds, population, iterations, seed)
        if not max_velocity > 0:
            raise ConfigError(f"max_velocity is {max_velocity}; it must be larger than 0.")
        self.inertia = (0.7298, 0.7298) if constriction else (float(inertia[0]), float(inertia[1]))
        self.acceleration = 1.49618 if constriction else acceleration
        self.max_velocity = max_velocity * (self.high - self.low)
        if start is not None:
            self.positions = self._given(start)
        # without a velocity the first leader would stay where it is, and be measured again
        push = np.random.default_rng((seed, 0, 1)).uniform(-1, 1, self.positions.shape)
        self.velocities = push * self.max_velocity
        self.pbest = self.positions.copy()
        self.pbest_fitness = np.full(population, np.inf)

    def _given(self, start: ArrayLike) -> Array:
        positions = np.array(start, dtype=float)
        if positions.shape != self.positions.shape:
            raise ConfigError(f"start has the shape {positions.shape}; give positions of shape {self.positions.shape}.")
        return np.clip(positions, self.low, self.high)

    def _move(self, fitness: Array, generator: np.random.Generator) -> Array:
        better = fitness < self.pbest_fitness
        self.pbest = np.where(better[:, None], self.positions, self.pbest)
        self.pbest_fitness = np.where(better, fitness, self.pbest_fitness)
        r1, r2 = generator.random((2, self.population, self.dims))
        w = self.inertia[0] + (self.inertia[1] - self.inertia[0]) * self.progress
        velocity = pso_velocity(
            self.velocities, self.positions, self.pbest, self._best.position, r1, r2, w, self.acceleration
        )
        velocity = np.clip(velocity, -self.max_velocity, self.max_velocity)
        moved = self.positions + velocity
        outside = (moved < self.low) | (moved > self.high)
        self.velocities = np.where(outside, 0.0, velocity)
        return moved


class Whale(Swarm):
    r"""Whale optimisation algorithm (Mirjalili & Lewis 2016).

    With :math:`a` falling linearly from 2 to 0, :math:`A = 2 a r_1 - a`, :math:`C = 2 r_2` and :math:`p` uniform in
    [0, 1], a whale at :math:`X` goes to

    * :math:`X^* - A\,|C X^* - X|` where :math:`p < 0.5` and :math:`|A| < 1` (it encircles the best),
    * :math:`X_r - A\,|C X_r - X|` where :math:`p < 0.5` and :math:`|A| \ge 1` (it follows a random whale),
    * :math:`|X^* - X|\,e^{b l} \cos 2 \pi l + X^*` where :math:`p \ge 0.5`, :math:`l` uniform in [-1, 1] (a spiral).

    As in the authors' program, :math:`A, C, p, l` are one number for each whale. :math:`C X^*` scales positions about
    the origin, so the method favours optima there: choose bounds with the origin where no answer is expected more than
    elsewhere, for example symmetric ones.

    Args:
        bounds: see :class:`Swarm`.
        population: see :class:`Swarm`.
        iterations: :math:`a` falls to 0 over them.
        seed: see :class:`Swarm`.
        spiral: :math:`b`, the shape of the spiral.
    """

    def __init__(
        self, bounds: ArrayLike, population: int = 30, iterations: int = 200, seed: int = 0, *, spiral: float = 1.0
    ) -> None:
        super().__init__(bounds, population, iterations, seed)
        self.spiral = spiral

    def _move(self, fitness: Array, generator: np.random.Generator) -> Array:
        x, leader, n = self.positions, self._best.position, self.population
        r1, r2, p = generator.random((3, n, 1))
        angle = generator.uniform(-1, 1, (n, 1))
        a = 2 * (1 - self.progress)
        big_a, big_c = 2 * a * r1 - a, 2 * r2
        goal = np.where(np.abs(big_a) < 1, leader, x[generator.integers(n, size=n)])
        circle = goal - big_a * np.abs(big_c * goal - x)
        spiral = np.abs(leader - x) * np.exp(self.spiral * angle) * np.cos(2 * np.pi * angle) + leader
        return np.where(p < 0.5, circle, spiral)


def mantegna_sigma(beta: float = 1.5) -> float:
    r"""Standard deviation of the numerator of a Lévy step (Mantegna 1994); 0.696575 for :math:`\beta = 1.5`."""
    top = math.gamma(1 + beta) * math.sin(math.pi * beta / 2)
    return (top / (math.gamma((1 + beta) / 2) * beta * 2 ** ((beta - 1) / 2))) ** (1 / beta)


def levy_steps(generator: np.random.Generator, shape: Sequence[int], beta: float = 1.5) -> Array:
    r"""Lévy-distributed steps by Mantegna's method, :math:`u / |v|^{1/\beta}` with normal :math:`u` and :math:`v`.

    Args:
        generator: source of random numbers.
        shape: shape of the steps.
        beta: exponent of the tail, in (0, 2).
    """
    u = generator.normal(0.0, mantegna_sigma(beta), tuple(shape))
    return u / np.abs(generator.normal(size=tuple(shape))) ** (1 / beta)


class ImprovedWhale(Whale):
    r"""Whale optimisation with Lévy flights, for Zhang N 2020, whose abstract says "improved" and no more.

    So what is improved here is **inferred**: after each move a whale flies on by
    :math:`s\,L(\beta) \circ (X - X^*)`, long jumps that are rare and shrink as the whales gather. Both options below
    keep the number of measurements.

    Args:
        bounds: see :class:`Swarm`.
        population: see :class:`Swarm`.
        iterations: see :class:`Whale`.
        seed: see :class:`Swarm`.
        spiral: see :class:`Whale`.
        beta: exponent of the Lévy distribution, larger than 0 and smaller than 2.
        step: :math:`s`, the size of the flights.
        chaotic: take the first positions from the logistic map :math:`z \to 4 z (1 - z)` instead of a uniform draw.
        opposition: let the second half of the first positions be the opposites (:math:`low + high - x`) of the first.
    """

    #: What stands in a configuration or report beside the method's name.
    variant = "levy (inferred)"

    def __init__(
        self,
        bounds: ArrayLike,
        population: int = 30,
        iterations: int = 200,
        seed: int = 0,
        *,
        spiral: float = 1.0,
        beta: float = 1.5,
        step: float = 0.05,
        chaotic: bool = False,
        opposition: bool = False,
    ) -> None:
        if not 0 < beta < 2:
            raise ConfigError(f"beta is {beta}; the exponent of a Lévy flight lies between 0 and 2.")
        self.beta, self.flight, self.chaotic, self.opposition = beta, step, chaotic, opposition
        super().__init__(bounds, population, iterations, seed, spiral=spiral)

    def _first_positions(self, generator: np.random.Generator) -> Array:
        positions = self._chaotic(generator) if self.chaotic else self._uniform(generator)
        if self.opposition:
            half = self.population // 2
            positions[self.population - half :] = self.low + self.high - positions[:half]
        return positions

    def _chaotic(self, generator: np.random.Generator) -> Array:
        unit = np.empty((self.population, self.dims))
        # multiples of 1/4 soon end in the fixed points of the map
        unit[0] = generator.uniform(0.01, 0.24, self.dims)
        for row in range(1, self.population):
            unit[row] = 4 * unit[row - 1] * (1 - unit[row - 1])
        return self.low + unit * (self.high - self.low)

    def _move(self, fitness: Array, generator: np.random.Generator) -> Array:
        moved = super()._move(fitness, generator)
        flights = levy_steps(generator, moved.shape, self.beta)
        return moved + self.flight * flights * (self.positions - self._best.position)


METHODS: dict[str, type[Swarm]] = {
    "pso": PSO,
    "whale": Whale,
    "improved_whale": ImprovedWhale,
    "random": RandomSearch,
}
