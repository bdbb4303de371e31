"""Rings: which slices show them, where they stand, and what the page makes of them."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from medresnet3d.reports import (
    Cases,
    Mark,
    MarkedScan,
    Report,
    detection_card,
    render_report,
    slice_viewer,
    three_plane_view,
)
from medresnet3d.reports.marks import is_cut, mark_columns, ring_radius

AFFINE = np.array([[-2.0, 0, 0, 40], [0, 1.0, 0, -10], [0, 0, 3.0, 5], [0, 0, 0, 1]])
VOLUME = np.random.default_rng(0).normal(size=(20, 24, 12)).astype(np.float32)
HIT = Mark("1", (20.0, 2.0, 20.0), 4.0, "#009E73", "hit", {"probability": 0.9})
FALSE = Mark("2", (8.0, 8.0, 35.0), 3.0, "#E69F00", "false positive", {"probability": 0.5})


def test_a_slice_shows_what_it_cuts_and_at_least_the_nearest() -> None:
    assert is_cut(HIT, 4.0, 1.0) and not is_cut(HIT, 4.1, 1.0)
    tiny = Mark("t", (0, 0, 0), 0.1, "#000000")
    assert is_cut(tiny, 1.4, 3.0) and not is_cut(tiny, 1.6, 3.0)
    assert ring_radius(HIT) > HIT.radius_mm


def test_planes_go_through_the_first_mark_and_show_its_ring_in_place() -> None:
    view = three_plane_view(VOLUME, affine=AFFINE, marks=[HIT, FALSE])
    assert [[ring.name for ring in plane.rings] for plane in view.planes] == [["1"], ["1"], ["1"]]
    axial = view.planes[0].rings[0]
    # 20 voxels of 2 mm from x = 2 to 40: x = 20 is 18 mm, 9.5 voxels, from the first voxel's middle; right is left
    assert axial.place[0] == pytest.approx(1 - 9.5 / 20)
    assert axial.place[1] == pytest.approx(1 - 12.5 / 24)
    assert axial.diameter == pytest.approx(2 * ring_radius(HIT) / 40)
    assert [(entry.name, entry.color) for entry in view.legend] == [("hit", "#009E73"), ("false positive", "#E69F00")]
    assert view.planes[0].marker is None
    assert all(not plane.rings for plane in three_plane_view(VOLUME, affine=AFFINE).planes)


def test_the_viewer_starts_at_the_first_mark_and_keeps_places_on_a_coarser_grid() -> None:
    fine = slice_viewer(VOLUME, affine=AFFINE, marks=[FALSE, HIT])
    assert fine.marks[0].voxel == pytest.approx((3.0, 18.0, 10.0)) and fine.centre == (3, 18, 10) and not fine.marked
    coarse = slice_viewer(VOLUME, affine=AFFINE, marks=[FALSE], max_bytes=2500)
    assert coarse.shape != fine.shape
    back = np.asarray(coarse.affine) @ [*coarse.marks[0].voxel, 1]
    np.testing.assert_allclose(back[:3], FALSE.position, atol=1e-6)


def test_the_page_lists_the_marks_with_buttons_and_hands_their_places_to_the_script() -> None:
    card = detection_card("c", MarkedScan(VOLUME, [HIT, FALSE], AFFINE), scroll=True, badge="2 detections")
    page = render_report(Report("r", blocks=[Cases([card])]))
    assert page.count("data-mark=") >= 2 and "<td>false positive</td>" in page
    meta = json.loads(re.search(r'class="meta">(.*?)</script>', page).group(1))  # type: ignore[union-attr]
    assert [mark["name"] for mark in meta["marks"]] == ["1", "2"] and meta["marks"][0]["radius"] == 4.0
    still = render_report(Report("r", blocks=[Cases([detection_card("c", MarkedScan(VOLUME, [HIT], AFFINE))])]))
    assert still.count('class="ring"') == 3 and "border-color:#009E73" in still


def test_without_a_scan_the_card_has_facts_only() -> None:
    card = detection_card("c", None, rows={"false positives": 2})
    assert card.view is None and card.rows == {"false positives": 2}


def test_columns_of_facts_in_order() -> None:
    other = Mark("3", (0, 0, 0), 1.0, "#000000", "missed", {"diameter, mm": 3.0})
    assert mark_columns([HIT, other]) == ["probability", "diameter, mm"]
