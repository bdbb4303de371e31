from __future__ import annotations

import pytest
import torch
from monai.transforms import Compose

from medresnet3d.errors import ConfigError
from medresnet3d.transforms.breast_mri import slice_preparation


def test_scanners_with_another_unit_give_the_same() -> None:
    values = torch.rand(1, 24, 20, 1, generator=torch.Generator().manual_seed(0))
    one, other = (Compose(slice_preparation())({"image": factor * values + 30})["image"] for factor in (200.0, 1700.0))
    torch.testing.assert_close(torch.as_tensor(one), torch.as_tensor(other), atol=1e-3, rtol=0)
    assert float(one.min()) == 0 and float(one.max()) == 1
    with pytest.raises(ConfigError, match=r"percentiles are \[99, 1\]"):
        slice_preparation([99, 1])
