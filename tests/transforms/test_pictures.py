from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor

from medresnet3d.errors import DataError
from medresnet3d.transforms.pictures import Array, PictureTransform, require_colour, white_of


class Negative(PictureTransform):
    def change(self, picture: Array) -> Array:
        assert picture.dtype == np.float32 and picture.ndim == 3
        assert picture.min() >= 0 and picture.max() <= 1
        return 1 - picture


class Beyond(PictureTransform):
    def change(self, picture: Array) -> Array:
        return picture + 2


@settings(max_examples=30, deadline=None)
@given(
    dtype=st.sampled_from((np.uint8, np.uint16, np.float32, np.float64)), flat=st.booleans(), seed=st.integers(0, 99)
)
def test_type_scale_and_shape_come_back(dtype: type, flat: bool, seed: int) -> None:
    whole = np.random.default_rng(seed).integers(0, 256, (3, 5, 4, 1) if flat else (3, 5, 4))
    whole.flat[0] = 200
    values = whole.astype(dtype) * (257 if dtype is np.uint16 else 1)
    white = 65535 if dtype is np.uint16 else 255
    result = Negative()(values)
    assert result.dtype == dtype and result.shape == values.shape
    np.testing.assert_allclose(result.astype(float), white - values.astype(float), atol=0.01)
    np.testing.assert_allclose(Negative()(result).astype(float), values.astype(float), atol=0.01)


def test_tensors_and_metadata_come_back() -> None:
    affine = torch.diag(torch.tensor([2.0, 3.0, 1.0, 1.0], dtype=torch.float64))
    image = MetaTensor(torch.rand(3, 4, 5, 1), affine=affine, meta={"filename_or_obj": "a.png"})
    result = Negative()(image)
    assert isinstance(result, MetaTensor) and result.meta["filename_or_obj"] == "a.png"
    assert torch.equal(result.affine, affine)
    assert type(Negative()(torch.rand(1, 4, 5))) is torch.Tensor


def test_what_leaves_the_scale_is_cut_off() -> None:
    assert (Beyond()(np.full((1, 2, 2), 7, np.uint8)) == 255).all()


@pytest.mark.parametrize("values", [[-0.1, 1.0], [0.0, 70000.0], [0.0, float("nan")]])
def test_values_that_are_no_picture(values: list[float]) -> None:
    with pytest.raises(DataError, match="before normalisation"):
        white_of(np.array(values, dtype=np.float32))


def test_grey_is_no_colour() -> None:
    with pytest.raises(DataError, match=r"hair removal needs a picture with red, green and blue, but this one has 1"):
        require_colour(np.zeros((1, 4, 4), np.float32), "hair removal")
