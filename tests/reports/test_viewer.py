from __future__ import annotations

import json

import numpy as np
import pytest

from medresnet3d.errors import ConfigError, GeometryError
from medresnet3d.reports import Report, render_report, segmentation_card, slice_viewer
from medresnet3d.reports.html import viewer_json
from medresnet3d.reports.viewer import CT_PRESETS
from tests.reports.samples import AFFINE, CT_AFFINE, CT_SHAPE, ball, chest, chest_page, labels
from tests.reports.test_packing import unpack


def test_voxels_come_back_in_ras_order() -> None:
    volume, marks = chest()
    viewer = slice_viewer(volume, affine=CT_AFFINE, layers={"prediction": marks}, modality="CT")
    values = np.asarray(viewer.values)[unpack(viewer.image, viewer.shape, smooth=True)]
    turned = volume[::-1, ::-1]
    assert np.abs(values - turned)[turned < 200].max() <= 6.1
    np.testing.assert_array_equal(unpack(viewer.layers[0].data, viewer.shape, smooth=False), marks[::-1, ::-1])
    assert viewer.affine is not None
    # The first voxel of the turned grid is the last one of the scan in i and j.
    np.testing.assert_allclose(viewer.affine @ np.array([0, 0, 0, 1]), CT_AFFINE @ [47, 39, 0, 1])
    assert (viewer.spacing, viewer.unit) == (pytest.approx((1.0, 1.2, 3.0)), "HU")


def test_panes_have_the_proportions_and_letters_of_the_patient() -> None:
    viewer = slice_viewer(chest()[0], affine=CT_AFFINE)
    assert [(one.number, one.name, one.count) for one in viewer.panes] == [
        (0, "axial", 20), (1, "coronal", 40), (2, "sagittal", 48),
    ]  # fmt: skip
    assert [one.size for one in viewer.panes] == [
        pytest.approx((48, 48)), pytest.approx((48, 60)), pytest.approx((48, 60)),
    ]  # fmt: skip
    assert ["".join(one.letters) for one in viewer.panes] == ["RLAP", "RLSI", "APSI"]


def test_windows_in_hounsfield_units_are_for_ct_only() -> None:
    volume, marks = chest()
    ct = slice_viewer(volume, affine=CT_AFFINE, layers={"x": marks}, modality="CT")
    assert tuple(ct.presets) == CT_PRESETS
    assert not slice_viewer(volume, affine=CT_AFFINE, modality="MR").presets
    assert not slice_viewer(volume, affine=CT_AFFINE).presets
    # What a bundle has scaled to 0 .. 1 is no CT any more.
    assert not slice_viewer(volume / 2000 + 0.5, affine=CT_AFFINE, modality="CT").presets


@pytest.mark.parametrize(("voxel", "window"), [((20, 4, 9), (-1350.0, 150.0)), ((30, 30, 9), (-125.0, 225.0))])
def test_the_window_fits_what_is_shown_first(voxel: tuple[int, int, int], window: tuple[float, float]) -> None:
    volume = chest()[0]
    volume[:8] = 0
    point = (CT_AFFINE @ [*voxel, 1])[:3].tolist()
    viewer = slice_viewer(volume, affine=CT_AFFINE, modality="CT", position=point)
    assert viewer.window == window and viewer.marked
    assert viewer.centre == (47 - voxel[0], 39 - voxel[1], voxel[2])


def test_structures_are_measured_on_the_scan_itself() -> None:
    """However coarse the slices in the page are."""
    volume, marks = chest()
    for max_bytes in (6_000_000, 9_000):
        viewer = slice_viewer(
            volume, affine=CT_AFFINE, layers={"prediction": marks, "truth": marks * 0}, labels={1: "bone"},
            modality="CT", max_bytes=max_bytes,
        )  # fmt: skip
        bone, air = viewer.structures
        assert (bone.name, air.name) == ("bone", "label 2")
        assert bone.volumes_ml == {"prediction": pytest.approx(8 * 40 * 20 * 3.6 / 1000), "truth": 0.0}
        assert bone.diameters_mm["prediction"] == pytest.approx(np.hypot(8, 48))


def test_a_page_stays_small_and_says_so() -> None:
    volume = np.random.default_rng(0).normal(100, 30, (90, 80, 60)).astype(np.float32)
    viewer = slice_viewer(volume, spacing=(0.5, 0.5, 2.0), max_bytes=100_000)
    assert 60_000 < 4 / 3 * len(viewer.image) <= 100_000
    assert viewer.shape[2] == 60 and viewer.shape[0] < 90
    reduced = " x ".join(map(str, viewer.shape))
    assert f"reduced from 90 x 80 x 60 to {reduced} voxels" in viewer.notes[0]
    extent = np.asarray(viewer.shape) * viewer.spacing
    np.testing.assert_allclose(extent, [45.0, 40.0, 120.0])
    assert not any("reduced" in note for note in slice_viewer(volume, spacing=(0.5, 0.5, 2.0)).notes)


def test_a_tilted_or_unknown_orientation_is_told() -> None:
    angle = np.deg2rad(20)
    turned = np.eye(4)
    turned[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    assert "up to 20° off" in slice_viewer(ball(), affine=turned @ AFFINE).notes[0]
    assert "unknown" in slice_viewer(ball()).notes[0]
    assert slice_viewer(ball(), affine=AFFINE).notes == []


def test_numbers_of_labels_may_be_large() -> None:
    marks = labels().astype(np.int32) * 1000
    viewer = slice_viewer(ball(), affine=AFFINE, layers={"x": marks}, labels={2000: "core"})
    assert [(one.code, one.name) for one in viewer.structures] == [(1, "label 1000"), (2, "core")]
    np.testing.assert_array_equal(unpack(viewer.layers[0].data, viewer.shape, smooth=False), labels()[::-1])


def test_a_single_slice_has_one_pane() -> None:
    (pane,) = slice_viewer(ball()[:, :, :1], affine=AFFINE).panes
    assert (pane.name, pane.count) == ("axial", 1)


def test_holes_of_nan_are_black() -> None:
    volume = ball()
    volume[10:20] = np.nan
    viewer = slice_viewer(volume, affine=AFFINE)
    assert (unpack(viewer.image, viewer.shape, smooth=True)[20:30] == 0).all()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(GeometryError, match="differ in shape"):
        slice_viewer(ball(), layers={"x": np.zeros((4, 4, 4))})
    with pytest.raises(GeometryError, match="colour cannot be scrolled"):
        slice_viewer(np.zeros((5, 6, 1, 3), dtype=np.uint8))
    with pytest.raises(ConfigError, match="'spleen' is unknown"):
        slice_viewer(ball(), window="spleen")


def test_the_script_is_only_in_pages_that_need_it() -> None:
    card = segmentation_card("c", ball(), labels(), affine=AFFINE)
    assert card.viewer is None
    assert "class Viewer" in render_report(chest_page())
    assert "class Viewer" not in render_report(Report("Empty"))


def test_names_cannot_break_out_of_the_data() -> None:
    viewer = slice_viewer(ball(), layers={"x": labels()}, labels={1: "</script><script>alert(1)</script>"})
    text = viewer_json(viewer)
    assert "</" not in text
    assert json.loads(text)["structures"][0]["name"] == "</script><script>alert(1)</script>"


def test_the_case_has_its_table_without_a_script() -> None:
    text = render_report(chest_page())
    assert "bone &lt;left&gt;" in text and "bone <left>" not in text
    assert text.count('<img width="') == 3 and CT_SHAPE == (48, 40, 20)
