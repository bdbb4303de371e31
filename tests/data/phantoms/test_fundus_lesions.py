"""Phantoms of three kinds in the layouts that the adapters read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from medresnet3d.data import items
from medresnet3d.data.phantoms.fundus_lesions import (
    fundus_photograph,
    write_eophtha,
    write_hei_med,
    write_idrid_lesions,
)
from medresnet3d.errors import ConfigError
from medresnet3d.io import load
from medresnet3d.transforms.fundus import field_of_view


def test_the_same_seed_draws_the_same_and_kinds_differ_in_their_spots() -> None:
    drawn = {kind: fundus_photograph(5, kind) for kind in ("healthy", "drusen", "exudates")}
    assert np.array_equal(drawn["drusen"].picture, fundus_photograph(5, "drusen").picture)
    assert not drawn["healthy"].exudates.any() and not drawn["drusen"].exudates.any()
    assert 0.001 < drawn["exudates"].exudates.mean() < 0.05
    assert not (drawn["exudates"].exudates & drawn["exudates"].optic_disc).any()
    with pytest.raises(ConfigError, match="healthy, drusen, exudates"):
        fundus_photograph(0, "cotton")


def test_single_spots_look_alike_in_both_kinds() -> None:
    """Brightness says nothing of the class: what is brightest beside the optic disc is as bright in either."""
    brightest: dict[str, list[float]] = {"drusen": [], "exudates": []}
    for seed in range(20):
        for kind in brightest:
            drawn = fundus_photograph(seed, kind, (128, 160))
            green = drawn.picture[..., 1].astype(float)
            away = ndimage.binary_dilation(drawn.optic_disc, iterations=4)
            brightest[kind].append(float(np.percentile(green[~away], 99.8)))
    means = [np.mean(values) for values in brightest.values()]
    assert abs(means[0] - means[1]) < 12


def test_the_disc_is_found() -> None:
    drawn = fundus_photograph(1)
    inside = field_of_view(drawn.picture.transpose(2, 1, 0))
    assert 0.5 < inside.mean() < 0.98


@pytest.mark.parametrize("write", [write_eophtha, write_hei_med])
def test_classes_and_masks(write: object, tmp_path: Path) -> None:
    task = {"write_eophtha": "exudate_present", "write_hei_med": "edema"}[write.__name__]  # type: ignore[attr-defined]
    manifest = write(tmp_path, 6, 6, size=(48, 64), task=task)  # type: ignore[operator]
    listed = [item for section in ("training", "validation", "test") for item in items(manifest, section)]
    assert Counter(item["label"] for item in listed) == {0: 6, 1: 6}
    for item in listed:
        assert bool((load(item["mask"], constant_ok=True).array > 0).any()) == (item["label"] == 1)


def test_idrid_labels_hard_exudates_3_and_the_optic_disc_5(tmp_path: Path) -> None:
    manifest = write_idrid_lesions(tmp_path, 5, 2, size=(48, 64))
    assert [len(items(manifest, section)) for section in ("test",)] == [2]
    assert set(np.unique(load(items(manifest, "test")[0]["label"]).array).tolist()) == {0, 3, 5}
