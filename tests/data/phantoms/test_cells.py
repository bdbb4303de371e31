"""Phantom cells: kinds of blood cells, and the official layouts that their adapters read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medresnet3d.data import items, load_manifest
from medresnet3d.data.phantoms.cells import (
    I3A,
    ICPR2012,
    LINEAGES,
    SIGNS,
    blood_cell,
    write_i3a,
    write_icpr2012,
    write_pbc,
)
from medresnet3d.errors import ConfigError


def dark_share(kind: str, difficulty: float = 0.0) -> np.ndarray:
    """Share of the picture that methylene blue makes dark (nucleus and blue granules), for 20 cells of a kind."""
    drawn = [blood_cell([seed, 7], kind, (64, 64), difficulty=difficulty) for seed in range(20)]
    return np.array([(picture[..., 0] < 110).mean() for picture in drawn])


def test_the_same_seed_draws_the_same_cell() -> None:
    picture = blood_cell([1, 2], "eosinophil", (48, 56))
    assert picture.shape == (48, 56, 3) and picture.dtype == np.uint8
    assert np.array_equal(picture, blood_cell([1, 2], "eosinophil", (48, 56)))


def test_kinds_differ_in_their_nuclei_and_granules() -> None:
    dark = {kind: dark_share(kind).mean() for kind in SIGNS}
    assert dark["platelet"] < 0.3 * dark["erythroblast"] < dark["lymphocyte"] < dark["monocyte"]
    assert dark["neutrophil"] < dark["ig"]

    def redness(kind: str) -> float:
        drawn = [
            blood_cell([seed, 7], kind, (64, 64), difficulty=0.0)[20:44, 20:44].astype(float) for seed in range(20)
        ]
        return float(np.mean([np.quantile(picture[..., 0] - picture[..., 1], 0.9) for picture in drawn]))

    assert redness("eosinophil") > 1.4 * redness("basophil")


def test_at_full_difficulty_the_kinds_of_a_lineage_are_one_and_the_lineages_are_not() -> None:
    assert sorted(kind for kinds in LINEAGES for kind in kinds) == sorted(SIGNS)
    one, other = dark_share("lymphocyte", 1.0), dark_share("monocyte", 1.0)
    assert abs(one.mean() - other.mean()) < 1e-9, "the same seeds draw the same cells"
    assert dark_share("erythroblast", 1.0).mean() < 0.6 * one.mean()


def test_red_cells_say_nothing_of_the_kind() -> None:
    corners = [
        [blood_cell([seed, number], kind, (48, 48))[:6, :6].mean() for seed in range(40)]
        for number, kind in enumerate(("neutrophil", "lymphocyte"))
    ]
    assert abs(np.mean(corners[0]) - np.mean(corners[1])) < 2.5 * np.std(corners[0]) / np.sqrt(20)


def test_the_layouts_are_prepared_by_their_adapters(tmp_path: Path) -> None:
    pbc = load_manifest(write_pbc(tmp_path / "pbc", 24, size=(32, 32)))
    assert list(pbc.labels) == sorted(SIGNS)
    listed = items(pbc, "all")
    assert [item["label"] for item in listed].count(0) == 3 and len(listed) == 24
    assert {item["subtype"] for item in listed} >= {"MY", "MMY", "PMY", "BNE", "SNE", "BA"}
    contest = load_manifest(write_icpr2012(tmp_path / "icpr2012", 24, 12, size=24))
    assert contest.labels == ICPR2012
    assert len({item["patient"] for item in items(contest, "all")}) == 18
    assert {item["intensity"] for item in items(contest, "training")} == {"positive", "intermediate"}
    task1 = load_manifest(write_i3a(tmp_path / "i3a", 24, size=24))
    assert list(task1.labels) == list(I3A)
    assert len({item["patient"] for item in items(task1, "all")}) == 12


def test_impossible_wishes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Kind of cell"):
        blood_cell(0, "basophile")
    with pytest.raises(ConfigError, match="difficulty is -1"):
        blood_cell(0, "basophil", difficulty=-1)
    with pytest.raises(ConfigError, match="4 cells cannot have all 8 kinds"):
        write_pbc(tmp_path, 4)
    with pytest.raises(ConfigError, match="4 cells cannot have all 6 patterns"):
        write_i3a(tmp_path, 4)
