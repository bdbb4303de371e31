from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medresnet3d.data.phantoms.mammography import breast_film
from medresnet3d.errors import AmbiguousInputError, ConfigError, DataError
from medresnet3d.transforms.mammography_frames import AsGrey, BreastCrop, FindingCropd

SPACING = np.diag([-0.5, -0.5, 1.0, 1.0])


def picture(columns: int = 40, rows: int = 30) -> MetaTensor:
    """A film (1, columns, rows, 1) whose values say where they are: 1000 i + j."""
    i, j = np.indices((columns, rows))
    values = torch.from_numpy((1000 * i + j).astype(np.float32))[None, ..., None]
    return MetaTensor(values, affine=torch.from_numpy(SPACING))


def crop(item: dict[str, Any], **options: Any) -> MetaTensor:
    return FindingCropd("image", **options)({"image": picture(), **item})["image"]


def test_the_square_around_a_box_has_a_margin_of_its_longer_edge() -> None:
    out = crop({"roi": [10, 12, 18, 16]}, margin=0.25)
    assert out.shape == (1, 12, 12, 1)
    assert out[0, 0, 0, 0] == 1000 * 8 + 8 and out[0, -1, -1, 0] == 1000 * 19 + 19
    torch.testing.assert_close(out.affine[:2, 3], torch.tensor([-4.0, -4.0], dtype=torch.float64))


def test_beyond_the_film_it_is_as_dark_as_the_film_gets() -> None:
    out = crop({"roi": [34, 0, 40, 4]}, margin=0.5)
    assert out.shape == (1, 12, 12, 1)
    values = out.numpy()[0, ..., 0]
    assert (values[9:] == 0).all() and (values[:, :4] == 0).all()
    assert values[0, 4] == 1000 * 31 and values[8, 4] == 1000 * 39


def test_a_point_in_millimetres_is_the_middle_of_its_square() -> None:
    point = SPACING @ [20, 11, 0, 1]
    out = crop({"position": point[:3].tolist()}, point_size_mm=5.0)
    assert out.shape == (1, 10, 10, 1)
    assert abs(float(out[0, 5, 5, 0]) - (1000 * 20 + 11)) <= 1001


def test_a_picture_with_neither_is_the_finding_unless_it_is_a_whole_film() -> None:
    assert torch.equal(crop({}).as_tensor(), picture().as_tensor())
    with pytest.raises(AmbiguousInputError, match=r"40 x 30 pixels, a whole film.*--at"):
        crop({}, film_edge=30)


@pytest.mark.parametrize("roi", [[1, 2, 3], [5, 5, 5, 9], [40, 1, 50, 9], [1, 1, float("nan"), 4], "box"])
def test_a_box_that_is_none_is_refused(roi: Any) -> None:
    with pytest.raises(DataError, match=r"`roi` is .* 40 columns and 30 rows"):
        crop({"roi": roi})


def test_a_point_off_the_film_is_refused() -> None:
    with pytest.raises(DataError, match="`position` is"):
        crop({"position": [100.0, 0.0, 0.0]})
    with pytest.raises(ConfigError, match="margin -1"):
        FindingCropd("image", margin=-1)


def test_grey_is_the_mean_of_the_channels() -> None:
    image = torch.arange(3.0)[:, None, None, None].expand(3, 4, 5, 1)
    assert torch.equal(AsGrey()(image), torch.ones(1, 4, 5))
    with pytest.raises(DataError, match=r"2 channel\(s\)"):
        AsGrey()(torch.zeros(2, 4, 5))
    with pytest.raises(DataError, match="one mammogram"):
        AsGrey()(torch.zeros(1, 4, 5, 3))


@pytest.mark.parametrize("size", [(96, 72), (640, 560)])  # the second is looked at on every second pixel
def test_the_breast_lies_at_the_left_and_nothing_else_is_there(size: tuple[int, int]) -> None:
    film = breast_film(5, size, malignant=False, side="right")
    marked = film.pixels.copy()
    marked[2:12, 2:12] = 4000  # a marker in the air
    out = np.asarray(BreastCrop()(MetaTensor(torch.from_numpy(marked.T[None].astype(np.float32)))))[0].T
    rows, columns = np.nonzero(film.breast)
    tolerance = 2 + 2 * size[0] // 100
    assert abs(out.shape[0] - np.ptp(rows) - 1) <= tolerance and abs(out.shape[1] - np.ptp(columns) - 1) <= tolerance
    assert (out[:, :4] > 700).mean() > (out[:, -4:] > 700).mean()
    assert out.max() < 4000 and out.min() == marked.min()
    with pytest.raises(ConfigError, match="side 'top'"):
        BreastCrop("top")
