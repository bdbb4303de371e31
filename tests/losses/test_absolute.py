from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.losses import build_loss


@pytest.mark.parametrize("target_shape", [(5,), (5, 1)])
def test_both_agree_with_torch(target_shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    output = 10 * torch.randn(5, 1, generator=generator)
    target = 10 * torch.randn(5, generator=generator).double()
    plain = target.float()[:, None]
    given = target.reshape(target_shape)
    torch.testing.assert_close(build_loss("absolute")(output, given), F.l1_loss(output, plain))
    torch.testing.assert_close(build_loss("huber", delta=3.0)(output, given), F.huber_loss(output, plain, delta=3.0))
    assert build_loss("absolute", reduction="none")(output, given).shape == (5,)


def test_an_outlier_pulls_no_more_than_delta() -> None:
    output = torch.tensor([[0.0], [0.0]], requires_grad=True)
    build_loss("huber", delta=2.0, reduction="sum")(output, torch.tensor([1.0, 100.0])).backward()
    assert output.grad is not None and output.grad.flatten().tolist() == [-1.0, -2.0]


def test_half_precision_is_computed_in_full() -> None:
    output = torch.tensor([[300.0]], dtype=torch.bfloat16)
    assert build_loss("huber", delta=1000.0)(output, torch.tensor([0.0])).item() == 45000.0


def test_classes_are_refused() -> None:
    with pytest.raises(DataError, match="one number a sample"):
        build_loss("absolute")(torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))
    with pytest.raises(ConfigError, match="positive"):
        build_loss("huber", delta=0.0)
