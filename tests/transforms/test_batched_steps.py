from __future__ import annotations

import numpy as np
import pytest
from monai.transforms import (
    MapTransform,
    RandAdjustContrastd,
    RandAffined,
    RandBiasFieldd,
    RandCoarseDropoutd,
    RandFlipd,
    RandRotate90d,
    RandScaleIntensityd,
)

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.transforms.batched_steps import AffineStep, DropoutStep, FlipStep, Rotate90Step, steps_of


def test_matrices_of_flips_and_turns() -> None:
    flip = FlipStep(RandFlipd("image", prob=1.0, spatial_axis=(0, 2)))
    np.testing.assert_array_equal(flip.draw((4, 5, 6)), [[-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 0]])
    turn = Rotate90Step(RandRotate90d("image", prob=1.0, max_k=1, spatial_axes=(0, 1)))
    np.testing.assert_array_equal(turn.draw((4, 4)), [[0, 1, 0], [-1, 0, 0]])
    affine = AffineStep(RandAffined("image", prob=1.0, translate_range=((3, 3), (2, 2))))
    np.testing.assert_allclose(affine.draw((4, 4)), [[1, 0, 3], [0, 1, 2]])


def test_what_does_not_happen_has_no_matrix() -> None:
    assert FlipStep(RandFlipd("image", prob=0.0)).draw((4, 4)) is None
    assert Rotate90Step(RandRotate90d("image", prob=0.0)).draw((4, 5)) is None
    assert AffineStep(RandAffined("image", prob=0.0, rotate_range=1.0)).draw((4, 4)) is None


def test_turns_need_equal_sides() -> None:
    with pytest.raises(DataError, match="4 x 5 cannot be turned by 90 degrees in a batch"):
        Rotate90Step(RandRotate90d("image", prob=1.0)).draw((4, 5))


def test_a_row_has_room_for_all_holes() -> None:
    step = DropoutStep(RandCoarseDropoutd("image", holes=1, max_holes=5, spatial_size=2, fill_value=0.0, prob=1.0))
    lengths = {len(step.draw((8, 8))) for _ in range(20)}
    assert lengths == {step.size(2)} == {20}


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        ([RandBiasFieldd("image")], "RandBiasFieldd has no batched form; use RandFlipd, "),
        ([RandScaleIntensityd("image", 0.1), RandFlipd("image")], "RandFlipd follows a change of intensity"),
        ([RandAffined("image", rotate_range=1.0), RandAffined("image", scale_range=0.1)], "several RandAffined"),
        ([RandFlipd("image"), RandFlipd("label")], "must have the same keys"),
        ([RandScaleIntensityd("image", 0.1, channel_wise=True)], "RandScaleIntensityd has an option"),
        ([RandAdjustContrastd("image", retain_stats=True)], "RandAdjustContrastd has an option"),
        ([RandCoarseDropoutd("image", holes=1, spatial_size=2)], "RandCoarseDropoutd has an option"),
        ([RandAffined("image", spatial_size=(8, 8), rotate_range=1.0)], "RandAffined has an option"),
    ],
)
def test_what_has_no_batched_form_is_refused(transforms: list[MapTransform], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        steps_of(transforms)
