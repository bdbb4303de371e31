from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from medresnet3d.inferers.rounding import round_kernel


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("sizes", [(3, 3), (3, 3, 3), (1, 1, 1), (2, 5, 4)])
def test_the_sum_over_a_kernel_is_off_by_one_weight_at_most(dtype: torch.dtype, sizes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    weight = torch.randn(6, 5, *sizes)
    axes = tuple(range(2, weight.dim()))
    step = torch.finfo(dtype).eps
    rounded = round_kernel(weight, dtype).double()
    worst = float(weight.abs().max())
    assert float((rounded.sum(axes) - weight.double().sum(axes)).abs().max()) <= step * worst
    assert float((rounded - weight).abs().max()) <= 2 * step * worst


def test_a_smooth_image_is_convolved_better_than_by_plain_rounding() -> None:
    torch.manual_seed(0)
    weight = torch.randn(8, 8, 3, 3, 3)
    image = F.avg_pool3d(torch.rand(1, 8, 24, 24, 24), 9, 1)
    exact = F.conv3d(image, weight)
    errors = [
        float((F.conv3d(image, kernel.float()) - exact).abs().mean())
        for kernel in (round_kernel(weight, torch.bfloat16), weight.bfloat16())
    ]
    assert errors[0] < 0.4 * errors[1]


def test_each_phase_of_a_transposed_convolution_keeps_its_own_sum() -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 4, 4, 4)
    rounded = round_kernel(weight, torch.bfloat16, phases=(2, 2)).double()
    for i in range(2):
        for j in range(2):
            part = (..., slice(i, None, 2), slice(j, None, 2))
            difference = rounded[part].sum((2, 3)) - weight.double()[part].sum((2, 3))
            assert float(difference.abs().max()) <= torch.finfo(torch.bfloat16).eps * float(weight.abs().max())


def test_zeros_stay() -> None:
    weight = torch.randn(2, 2, 3, 3) * (torch.arange(9).view(3, 3) % 2)
    assert bool((round_kernel(weight, torch.bfloat16)[weight == 0] == 0).all())
