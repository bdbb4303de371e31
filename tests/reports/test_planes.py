from __future__ import annotations

import io
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from medresnet3d.errors import ConfigError, GeometryError
from medresnet3d.reports import Plane, three_plane_view
from medresnet3d.reports.planes import PALETTE, WINDOWS, focus, grey_window, label_color, legend, orient
from tests.reports.samples import AFFINE, ball, labels


def pixels(png: bytes) -> NDArray[Any]:
    return np.asarray(Image.open(io.BytesIO(png)))


def planes_of(*args: Any, **options: Any) -> dict[str, Plane]:
    return {plane.name: plane for plane in three_plane_view(*args, **options).planes}


def test_three_planes_in_true_proportions() -> None:
    planes = planes_of(ball(), affine=AFFINE)
    assert list(planes) == ["axial", "coronal", "sagittal"]
    extents = {"axial": (40 * 0.8, 32 * 1.5), "coronal": (40 * 0.8, 14 * 3), "sagittal": (32 * 1.5, 14 * 3)}
    for name, (width, height) in extents.items():
        columns, rows = planes[name].size
        assert pixels(planes[name].image).shape == (rows, columns)
        assert columns / rows == pytest.approx(width / height, rel=0.02)


def test_all_planes_have_one_scale() -> None:
    planes = planes_of(ball(), affine=AFFINE)
    assert planes["axial"].size[0] == planes["coronal"].size[0]
    assert planes["axial"].size[1] == planes["sagittal"].size[0]
    assert planes["coronal"].size[1] == planes["sagittal"].size[1]


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SAL", "ILA"])
def test_the_patients_right_is_on_the_left_whatever_the_storage(codes: str) -> None:
    """One bright voxel far to the right, front and top of the patient must be at the top left of every picture."""
    volume = np.zeros((20, 22, 24), dtype=np.float32)
    volume[16:19, 17:20, 19:22] = 1.0
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(codes))
    )
    stored = nib.orientations.apply_orientation(volume, turn)
    affine = nib.orientations.inv_ornt_aff(turn, volume.shape)
    planes = planes_of(stored, affine=affine, layers={"spot": stored > 0}, window=(0.0, 1.0))
    for name, corner in {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}.items():
        assert "".join(planes[name].letters) == corner
        rows, columns = np.nonzero(pixels(planes[name].image) > 128)
        height, width = pixels(planes[name].image).shape
        assert rows.mean() < 0.3 * height and columns.mean() < 0.3 * width


def test_oblique_scans_are_shown_along_the_nearest_axes() -> None:
    angle = np.deg2rad(20)
    turned = np.eye(4)
    turned[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    assert planes_of(ball(), affine=turned @ AFFINE)["axial"].letters == ("R", "L", "A", "P")


def test_without_affine_there_are_no_letters_but_the_spacing_counts() -> None:
    (first, *_) = three_plane_view(ball(), spacing=(1.0, 2.0, 1.0)).planes
    assert first.letters == ("", "", "", "")
    assert first.size[1] / first.size[0] == pytest.approx(64 / 40, rel=0.02)


def test_planes_go_through_the_largest_labelled_area() -> None:
    assert focus((40, 32, 14), [labels()]) == (12, 10, 8)
    assert focus((40, 32, 14), [np.zeros((40, 32, 14)), labels()]) == (12, 10, 8)
    assert focus((40, 32, 14)) == (20, 16, 7)
    assert focus((40, 32, 14), [labels()], voxel=(3.4, 99.0, -5.0)) == (3, 31, 0)


def test_a_position_is_cut_through_and_marked() -> None:
    point = AFFINE @ [12, 10, 8, 1]
    planes = planes_of(ball(), affine=AFFINE, position=point[:3])
    assert planes["axial"].detail == "slice 9 of 14"
    marker = planes["axial"].marker
    assert marker is not None
    # Column 12 of 40 runs to the left in this affine, and the patient's left is on the right.
    assert marker == (pytest.approx(12.5 / 40), pytest.approx(1 - 10.5 / 32))
    picture = pixels(planes["axial"].image)
    height, width = picture.shape
    assert picture[int(marker[1] * height), int(marker[0] * width)] > 200


def test_overlays_have_the_size_of_the_picture_and_the_colour_of_their_label() -> None:
    view = three_plane_view(ball(), affine=AFFINE, layers={"prediction": labels()}, labels=["", "rim", "core"])
    for plane in view.planes:
        layer = pixels(plane.layers["prediction"])
        assert layer.shape[:2] == pixels(plane.image).shape
        shown = layer[layer[..., 3] > 0][:, :3]
        expected = {tuple(bytes.fromhex(PALETTE[index][1:])) for index in (0, 1)}
        assert {tuple(color) for color in np.unique(shown, axis=0).tolist()} == expected
        assert (layer[..., 3] == 0).mean() > 0.5  # the rest of the picture stays clear
    assert [(entry.name, entry.color) for entry in view.legend] == [("rim", PALETTE[0]), ("core", PALETTE[1])]


def test_a_heat_map_is_a_layer_with_its_legend() -> None:
    view = three_plane_view(ball(), affine=AFFINE, heat=torch.as_tensor(labels()).float())
    assert list(view.layers) == ["attention"]
    layer = pixels(view.planes[0].layers["attention"])
    assert layer[..., 3].max() > 100 and layer[..., 3].min() == 0
    assert view.legend[-1].name == "speaks for the answer"
    cold = three_plane_view(ball(), affine=AFFINE, heat=np.zeros((40, 32, 14)))
    assert pixels(cold.planes[0].layers["attention"])[..., 3].max() == 0


def test_a_single_slice_gives_a_single_picture() -> None:
    (plane,) = three_plane_view(ball()[:, :, :1], affine=AFFINE).planes
    assert plane.name == "axial" and plane.detail == ""
    (plane,) = three_plane_view(ball()[:, :, 0]).planes
    assert plane.name == "image"


def test_colour_is_shown_as_it_is() -> None:
    colours = np.zeros((20, 30, 1, 3), dtype=np.uint8)
    colours[:10, :, :, 0], colours[10:, :, :, 2] = 250, 120
    (plane,) = three_plane_view(
        colours, affine=np.diag([-1.0, -1.0, 1.0, 1.0]), layers={"x": colours[..., 0] > 0}
    ).planes
    picture = pixels(plane.image)
    assert picture.shape[2] == 3 and plane.name == "axial"
    assert picture[40, 40].tolist() == [250, 0, 0] and picture[40, -40].tolist() == [0, 0, 120]
    deep = planes_of(colours.astype(np.uint16) * 257)["image"]
    assert pixels(deep.image)[40, -40].tolist() in ([0, 0, 119], [0, 0, 120])


def test_channel_and_tensor_are_taken() -> None:
    one = three_plane_view(torch.as_tensor(ball())[None], affine=torch.as_tensor(AFFINE))
    assert one.planes[0].image == three_plane_view(ball(), affine=AFFINE).planes[0].image


@given(seed=st.integers(0, 1000), low=st.floats(-2000, 2000), spread=st.floats(0.1, 3000))
@settings(max_examples=30, deadline=None)
def test_the_window_holds_most_values(seed: int, low: float, spread: float) -> None:
    volume = low + spread * np.random.default_rng(seed).uniform(size=(8, 8, 8))
    start, stop = grey_window(volume)
    assert start < stop
    assert ((volume >= start - 1e-3) & (volume <= stop + 1e-3)).mean() > 0.97


def test_windows() -> None:
    assert grey_window(ball(), "lung") == WINDOWS["lung"]
    assert grey_window(ball(), (0, 10)) == (0.0, 10.0)
    assert grey_window(np.full((4, 4, 4), np.nan)) == (0.0, 1.0)
    low, high = grey_window(np.zeros((4, 4, 4)))
    assert low < high
    with pytest.raises(ConfigError, match="'spleen' is unknown; choose one of lung"):
        grey_window(ball(), "spleen")


def test_holes_of_nan_are_black() -> None:
    volume = ball()
    volume[10:20] = np.nan
    assert pixels(planes_of(volume, affine=AFFINE)["axial"].image).min() == 0


def test_more_labels_than_colours() -> None:
    assert len(set(PALETTE)) == len(PALETTE) >= 15
    assert label_color(len(PALETTE) + 1) == label_color(1)
    names = [entry.name for entry in legend([np.array([0, 3, 9])], {3: "three"})]
    assert names == ["three", "label 9"]


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(GeometryError, match="differ in shape"):
        three_plane_view(ball(), layers={"prediction": np.zeros((4, 4, 4))})
    with pytest.raises(GeometryError, match="three axes"):
        three_plane_view(np.zeros((3, 4, 4, 4)))
    with pytest.raises(GeometryError, match="three independent directions"):
        orient({"image": ball()}, np.diag([1.0, 0.0, 1.0, 1.0]))


def test_only_compact_structures_are_outlined() -> None:
    """A ball has an outline in every plane; a chequerboard would be all outline and has none."""
    solid = three_plane_view(ball(), affine=AFFINE, layers={"x": labels()})
    folded = (np.indices((40, 32, 14)).sum(axis=0) % 2).astype(np.uint8)
    fine = three_plane_view(np.repeat(ball(), 8, axis=0), layers={"x": np.repeat(folded, 8, axis=0)}, longest=100)
    for plane in solid.planes:
        assert len(np.unique(pixels(plane.layers["x"])[..., 3])) == 3
    for plane in fine.planes:
        assert len(np.unique(pixels(plane.layers["x"])[..., 3])) == 2
