from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from medresnet3d.data.phantoms.canvas import Canvas
from medresnet3d.data.phantoms.findings import GAP_MM, JITTER_MM, Findings
from medresnet3d.data.phantoms.lung_trees import lung_trees
from medresnet3d.data.phantoms.thorax import make_thorax


@pytest.fixture(scope="module")
def findings() -> Findings:
    rng = np.random.default_rng(10)
    canvas = Canvas((120, 100, 72), (1.6, 1.6, 1.6), hu=-850.0)
    thorax = make_thorax(rng, canvas.half_mm)
    findings = Findings(canvas, thorax, rng, *lung_trees(rng, thorax))
    findings.add_distractors(20)
    findings.add_nodules(10, (6.0, 12.0), ["solid"], ["smooth"])
    return findings


def test_what_is_no_nodule_is_mostly_a_fork_of_a_vessel(findings: Findings) -> None:
    kinds = Counter(known["kind"] for _, known in findings.candidates)
    assert kinds["nodule"] == 10
    assert set(kinds) == {"nodule", "vessel", "airway", "pleura", "scar"}
    assert kinds["vessel"] == max(kinds[kind] for kind in kinds if kind != "nodule")


def test_findings_keep_their_distance(findings: Findings) -> None:
    nodules = [(middle, known["diameter_mm"] / 2) for middle, known in findings.nodules]
    for number, (middle, radius) in enumerate(nodules):
        for other, other_radius in nodules[:number]:
            assert np.linalg.norm(middle - other) > radius + other_radius + GAP_MM


def test_places_are_what_they_are_called(findings: Findings) -> None:
    places = Counter(known["place"] for _, known in findings.nodules)
    assert set(places) == {"free", "vessel", "pleura"}
    for middle, known in findings.nodules:
        depth = float(findings.thorax.lung_depth(*middle.astype(np.float32)[:, None])[0])
        radius = known["diameter_mm"] / 2
        assert 0 < depth < 0.8 * radius if known["place"] == "pleura" else depth > 0.75 * radius


def test_forks_are_points_of_the_trees_they_belong_to(findings: Findings) -> None:
    for kind, trees in findings.trees.items():
        forks = np.concatenate([tree.forks()[0] for tree in trees])
        for position, known in findings.candidates:
            if known["kind"] == kind:
                assert np.linalg.norm(forks - position, axis=1).min() < 5 * JITTER_MM


def test_shuffling_keeps_every_candidate(findings: Findings) -> None:
    shuffled = findings.shuffled()
    assert len(shuffled) == len(findings.candidates)
    assert {known["nodule"] for _, known in shuffled} == set(range(11))
