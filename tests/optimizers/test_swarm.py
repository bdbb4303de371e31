from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medresnet3d.errors import ConfigError
from medresnet3d.optimizers.swarm import (
    METHODS,
    PSO,
    Array,
    ImprovedWhale,
    RandomSearch,
    Swarm,
    Whale,
    levy_steps,
    mantegna_sigma,
    pso_velocity,
)

BOX = [(-5.12, 5.12)] * 10
SHIFT = np.linspace(-3, 3.3, 10)
every_method = pytest.mark.parametrize("method", METHODS.values())


def sphere(x: Array) -> Array:
    return np.asarray((x**2).sum(axis=1))


def rastrigin(x: Array) -> Array:
    return np.asarray(10 * x.shape[1] + (x**2 - 10 * np.cos(2 * np.pi * x)).sum(axis=1))


def found(swarm: Swarm, function: Any) -> float:
    for _ in range(swarm.iterations):
        swarm.step(function)
    return swarm.best.fitness


def medians(*methods: type[Swarm], function: Any) -> list[float]:
    """Median over 20 seeds of what each finds with 30 positions in 200 iterations."""
    return [float(np.median([found(method(BOX, 30, 200, seed), function) for seed in range(20)])) for method in methods]


@every_method
def test_the_best_never_gets_worse_and_is_what_was_measured(method: type[Swarm]) -> None:
    swarm, before = method(BOX, 12, 30, seed=1), np.inf
    seen = []
    for _ in range(30):
        seen.append(rastrigin(swarm.ask()).min())
        best = swarm.step(rastrigin)
        assert best.fitness <= before
        assert best.fitness == min(seen) == rastrigin(best.position[None])[0]
        before = best.fitness


@pytest.mark.parametrize("constriction", [False, True])
def test_pso_finds_the_centre_of_a_sphere(constriction: bool) -> None:
    worst = max(found(PSO(BOX, 30, 200, seed, constriction=constriction), sphere) for seed in range(20))
    assert worst < 1e-3


def test_without_attraction_a_particle_drifts_by_its_inertia() -> None:
    rng = np.random.default_rng(0)
    v, x, pbest, gbest = rng.normal(size=(4, 5, 3))
    assert np.array_equal(pso_velocity(v, x, pbest, gbest[0], 0.0, 0.0, 0.7, 2.0), 0.7 * v)
    swarm = PSO([(-100, 100)] * 3, 5, 10, inertia=(0.7, 0.7), acceleration=0.0)
    swarm.velocities = v.copy()
    start = swarm.ask()
    for step in range(1, 4):
        before = swarm.ask()
        swarm.step(sphere)
        assert np.allclose(swarm.ask() - before, 0.7**step * v)
    assert not np.array_equal(start, swarm.ask())


def test_inertia_falls_and_velocity_has_a_limit() -> None:
    swarm = PSO([(-1, 1), (0, 10)], 4, 10, acceleration=0.0, max_velocity=0.1)
    swarm.velocities = np.full((4, 2), 100.0)
    swarm.positions = np.tile([0.0, 5.0], (4, 1))
    swarm.step(sphere)
    assert np.allclose(swarm.velocities, [0.2, 1.0])
    for _ in range(8):
        swarm.velocities = np.full((4, 2), 0.01)
        swarm.step(sphere)
    assert np.allclose(swarm.velocities, 0.01 * (0.9 - 0.5 * 0.8))


def test_a_wall_stops_a_particle() -> None:
    swarm = PSO([(-1, 1)] * 2, 2, 10, acceleration=0.0)
    swarm.positions = np.array([[0.95, 0.0], [-0.95, 0.0]])
    swarm.velocities = np.array([[0.3, 0.1], [-0.3, 0.1]])
    swarm.step(sphere)
    assert np.array_equal(swarm.ask()[:, 0], [1.0, -1.0])
    assert np.array_equal(swarm.velocities[:, 0], [0.0, 0.0])
    assert np.allclose(swarm.velocities[:, 1], 0.09)


def whale_by_the_book(x: Array, leader: Array, t: int, iterations: int, rng: np.random.Generator) -> Array:
    """One move of Mirjalili & Lewis's algorithm, whale by whale, with the draws in the order of :class:`Whale`."""
    n = len(x)
    r1, r2, p = rng.random((3, n, 1))
    angles = rng.uniform(-1, 1, (n, 1))
    others = rng.integers(n, size=n)
    a = 2 - 2 * t / iterations
    moved = np.empty_like(x)
    for i in range(n):
        big_a, big_c, angle = 2 * a * r1[i, 0] - a, 2 * r2[i, 0], angles[i, 0]
        if p[i, 0] >= 0.5:
            moved[i] = np.abs(leader - x[i]) * np.exp(angle) * np.cos(2 * np.pi * angle) + leader
        else:
            goal = leader if abs(big_a) < 1 else x[others[i]]
            moved[i] = goal - big_a * np.abs(big_c * goal - x[i])
    return moved


def test_whales_move_by_the_book() -> None:
    swarm = Whale([(-1e6, 1e6)] * 3, 40, 20, seed=3)
    for t in range(6):
        x, values = swarm.ask(), sphere(swarm.ask())
        leader = min((swarm.best, (x[values.argmin()], values.min())), key=lambda best: best[1])[0]
        swarm.tell(values)
        expected = whale_by_the_book(x, leader, t, 20, np.random.default_rng((3, t + 1)))
        assert np.allclose(swarm.ask(), expected.clip(-1e6, 1e6))


def test_improved_whale_adds_a_flight_to_the_whales_move() -> None:
    plain, improved = Whale(BOX, 8, 20, seed=5), ImprovedWhale(BOX, 8, 20, seed=5, step=1e-3)
    x, values = plain.ask(), sphere(plain.ask())
    plain.tell(values)
    improved.tell(values)
    rng = np.random.default_rng((5, 1))
    for draw in (lambda: rng.random((3, 8, 1)), lambda: rng.uniform(-1, 1, (8, 1)), lambda: rng.integers(8, size=8)):
        draw()
    flight = 1e-3 * levy_steps(rng, (8, 10)) * (x - x[values.argmin()])
    inside = np.abs(improved.ask()) < 5.12
    assert inside.mean() > 0.5
    assert np.allclose((improved.ask() - plain.ask())[inside], flight[inside])
    assert improved.variant == "levy (inferred)"


def test_improved_whales_do_no_worse_on_rastrigin_and_better_off_the_origin() -> None:
    """Both find the origin exactly, since whales are drawn to it; elsewhere the flights help."""
    plain, improved = medians(Whale, ImprovedWhale, function=rastrigin)
    assert improved <= plain
    plain, improved = medians(Whale, ImprovedWhale, function=lambda x: rastrigin(x - SHIFT))
    assert improved < 0.8 * plain


def test_mantegna() -> None:
    assert mantegna_sigma(1.5) == pytest.approx(0.696575, abs=5e-7)
    steps = np.abs(levy_steps(np.random.default_rng(0), (200_000,)))
    # the tail of a Lévy distribution falls with the power beta
    share = [(steps > edge).mean() for edge in (10, 40)]
    assert np.log(share[0] / share[1]) / np.log(4) == pytest.approx(1.5, abs=0.15)


def test_opposition_and_chaos_keep_the_number_of_positions() -> None:
    swarm = ImprovedWhale([(0, 4), (-1, 0)], 9, opposition=True, chaotic=True)
    first = swarm.ask()
    assert first.shape == (9, 2)
    assert np.allclose(first[5:] + first[:4], [4, -1])
    z = (ImprovedWhale([(0, 4), (-1, 0)], 9, chaotic=True).ask() - [0, -1]) / [4, 1]
    assert np.allclose(z[1:], 4 * z[:-1] * (1 - z[:-1]))
    assert len(np.unique(z.round(6))) == z.size


@every_method
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_positions_stay_within_the_bounds(method: type[Swarm], data: st.DataObject) -> None:
    edges = st.tuples(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6)).map(lambda pair: (pair[0], pair[0] + pair[1]))
    bounds = np.array(data.draw(st.lists(edges, min_size=1, max_size=4)))
    population = data.draw(st.integers(1, 6))
    swarm = method(bounds, population, data.draw(st.integers(1, 5)), data.draw(st.integers(0, 99)))
    values = st.floats(allow_nan=True, allow_infinity=True)
    for _ in range(7):
        positions = swarm.ask()
        assert positions.shape == (population, len(bounds))
        assert (positions >= bounds[:, 0]).all() and (positions <= bounds[:, 1]).all()
        swarm.tell(data.draw(st.lists(values, min_size=population, max_size=population)))


@every_method
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32), killed=st.integers(0, 8))
def test_a_killed_run_goes_on_bit_by_bit(method: type[Swarm], seed: int, killed: int) -> None:
    whole = method(BOX, 6, 9, seed)
    broken = method(BOX, 6, 9, seed)
    for _ in range(killed):
        broken.step(rastrigin)
    state = json.loads(json.dumps(broken.state_dict()))
    again = method(BOX, 6, 9, seed=0)
    again.load_state_dict(state)
    for _ in range(9):
        whole.step(rastrigin)
    for _ in range(9 - killed):
        again.step(rastrigin)
    assert np.array_equal(whole.ask(), again.ask())
    assert whole.best.fitness == again.best.fitness
    assert json.dumps(whole.state_dict()) == json.dumps(again.state_dict())


@every_method
def test_seeds_decide(method: type[Swarm]) -> None:
    def course(seed: int) -> NDArray[Any]:
        swarm = method(BOX, 5, 4, seed)
        for _ in range(4):
            swarm.step(sphere)
        return swarm.ask()

    assert np.array_equal(course(1), course(1))
    assert not np.array_equal(course(1), course(2))


@every_method
def test_failed_trials_never_lead(method: type[Swarm]) -> None:
    swarm = method(BOX, 5, 9)
    swarm.tell([np.nan] * 5)
    assert np.isinf(swarm.best.fitness) and np.isnan(swarm.best.position).all()
    positions = swarm.ask()
    assert len(np.unique(positions[:, 0])) == 5  # drawn anew, not drawn to one that failed
    swarm.tell([np.nan, 3.0, np.inf, np.nan, 4.0])
    assert swarm.best.fitness == 3.0
    assert np.array_equal(swarm.best.position, positions[1])


def test_the_weights_of_a_layer() -> None:
    """Thousands of dimensions: a linear layer of 4,000 weights, from random to better than random search."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(64, 400)).astype(np.float32)
    truth = inputs @ rng.normal(size=(400, 10)).astype(np.float32)

    def error(positions: Array) -> Array:
        weights = positions.reshape(len(positions), 400, 10)
        return np.array([((inputs @ one - truth) ** 2).mean() for one in weights])

    results = {m: found(m([(-3, 3)] * 4000, 20, 40), error) for m in (PSO, RandomSearch)}
    assert results[PSO] < 0.7 * results[RandomSearch]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (([1, 2],), "give one .low, high. pair"),
        (([(0, 1), (2, 2)],), "dimension 1 are 2 and 2"),
        (([(0, np.inf)],), "give finite low < high"),
        ((BOX, 0), "population is 0"),
        ((BOX, 3, 0), "iterations is 0"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        RandomSearch(*arguments)


def test_wrong_options_fitness_and_states_are_refused() -> None:
    with pytest.raises(ConfigError, match="max_velocity is 0"):
        PSO(BOX, max_velocity=0)
    with pytest.raises(ConfigError, match="beta is 2"):
        ImprovedWhale(BOX, beta=2)
    with pytest.raises(ConfigError, match=r"shape \(3,\); give one value for each of 5"):
        PSO(BOX, 5).tell([1, 2, 3])
    with pytest.raises(ConfigError, match=r"positions of the saved state has the shape \(5, 10\), this PSO wants \(6"):
        PSO(BOX, 6).load_state_dict(PSO(BOX, 5).state_dict())
    with pytest.raises(ConfigError, match="velocities of the saved state"):
        PSO(BOX, 5).load_state_dict(Whale(BOX, 5).state_dict())


def test_a_swarm_starts_where_it_is_told_to_and_inside_the_bounds() -> None:
    start = np.linspace(-1.5, 1.5, 12).reshape(4, 3)
    swarm = PSO([(-1, 1)] * 3, 4, 10, start=start)
    np.testing.assert_array_equal(swarm.ask(), np.clip(start, -1, 1))
    np.testing.assert_array_equal(swarm.pbest, swarm.ask())
    with pytest.raises(ConfigError, match=r"start has the shape \(3, 4\)"):
        PSO([(-1, 1)] * 3, 4, 10, start=start.T)
