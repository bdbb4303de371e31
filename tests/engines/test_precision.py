from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from monai.networks.nets import UNet
from torch import nn

from medresnet3d.engines.precision import (
    Precision,
    SafeConvolutions,
    cpu_has_bf16,
    self_test,
    weight_gradient_error,
)
from medresnet3d.errors import ConfigError

CPU = torch.device("cpu")
ROUNDING = 0.02  # bf16 has 8 bits: a sum's relative error is a few thousandths

fast_bf16 = pytest.mark.skipif(not cpu_has_bf16(), reason="this CPU has no bf16 instructions: no such gradient")


@pytest.mark.slow
def test_self_test_tries_this_torch_on_this_cpu() -> None:
    found = self_test()
    assert found.guarded
    assert found.torch == str(torch.__version__)
    assert found.affected == (_error_in_another_process({}) > ROUNDING)


@pytest.mark.slow
@fast_bf16
def test_the_case_kernel_3_stride_1_depth_2_is_wrong_with_avx512_bf16_kernels() -> None:
    """Wrong in torch 2.13 and 2.15, unless the processor has AMX: oneDNN then takes other kernels, which are right."""
    if not torch.__version__.startswith("2.13."):
        pytest.skip("which other versions of torch have the fault is not known")
    assert _error_in_another_process({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}) > 0.5


def _error_in_another_process(environment: dict[str, str]) -> float:
    """Relative error of the unguarded gradient; infinity where the process crashes, as it does now and then."""
    script = "from medresnet3d.engines.precision import weight_gradient_error; print(weight_gradient_error())"
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    return float("inf") if done.returncode < 0 else float(done.stdout)


@pytest.mark.parametrize(("kernel", "depth"), [(3, 1), (3, 2), (3, 3), (3, 4), (5, 2), (5, 3), (5, 4), (5, 5), (7, 4)])
def test_guarded_weight_gradients_are_right(kernel: int, depth: int) -> None:
    assert weight_gradient_error(guard=True, depth=depth, kernel=kernel) < ROUNDING


@pytest.mark.parametrize(("kernel", "stride", "depth"), [(7, 2, 5), (7, 2, 6), (7, 2, 7), (9, 3, 8), (11, 2, 10)])
@pytest.mark.parametrize("padding", [None, (3, 2, 1)])
def test_large_kernels_with_a_stride_are_guarded_in_fp32(
    kernel: int, stride: int, depth: int, padding: tuple[int, ...] | None
) -> None:
    """Without the guard, torch 2.13 reads what was never written here; now and then the process crashes."""
    torch.manual_seed(0)
    image, weight = torch.randn(2, 16, depth, 8, 12), torch.randn(11, 16, kernel, kernel, kernel)
    exact, found = [], []
    for gradients, flags in ((exact, False), (found, True)):
        inputs = image.clone().requires_grad_(), weight.clone().requires_grad_()
        with torch.backends.mkldnn.flags(enabled=flags), Precision("fp32", guard=flags).active(CPU):
            output = F.conv3d(*inputs, None, stride, padding or kernel // 2)
            gradients += [output.detach(), *torch.autograd.grad(output.square().mean(), inputs)]
    for one, other in zip(found, exact, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * float(other.abs().max()))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_transposed_convolutions_are_guarded(depth: int) -> None:
    torch.manual_seed(0)
    layer = nn.ConvTranspose3d(16, 16, 3, padding=1)
    image = torch.randn(2, 16, depth, 4, 4)
    gradients: list[torch.Tensor] = []
    for name in ("fp32", "bf16"):
        with Precision(name).active(CPU):
            output = layer(image)
        gradients += torch.autograd.grad(output.float().square().mean(), layer.weight)
    assert torch.linalg.norm(gradients[1] - gradients[0]) < ROUNDING * torch.linalg.norm(gradients[0])


@fast_bf16
def test_a_whole_network_with_a_shallow_bottleneck_trains_like_fp32() -> None:
    """A UNet whose lowest level is 2 voxels deep: its gradient would be NaN or nonsense without the guard."""
    torch.manual_seed(0)
    network = UNet(3, 1, 2, channels=(8, 16, 32), strides=(2, 2), norm="instance")
    image, label = torch.randn(1, 1, 8, 16, 16), torch.randint(0, 2, (1, 8, 16, 16))
    gradients = []
    for name in ("fp32", "bf16"):
        network.zero_grad()
        with Precision(name).active(CPU):
            output = network(image)
        F.cross_entropy(output.float(), label).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters()]))  # type: ignore[union-attr]
    # instance normalisation over 2x4x4 voxels amplifies rounding; a wrong gradient is off by its own size and more
    assert torch.linalg.norm(gradients[1] - gradients[0]) < 0.3 * torch.linalg.norm(gradients[0])


def test_only_shallow_layers_leave_bf16() -> None:
    seen = []

    class Spy(SafeConvolutions):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            seen.append(getattr(func, "__name__", ""))
            return super().__torch_function__(func, types, args, kwargs)

    weight = torch.randn(4, 4, 3, 3, 3)
    with torch.autocast("cpu", torch.bfloat16), Spy():
        deep, shallow = (F.conv3d(torch.randn(1, 4, depth, 4, 4), weight, padding=1) for depth in (4, 2))
    assert deep.dtype == shallow.dtype == torch.bfloat16
    assert seen.count("conv3d") == 2
    exact = F.conv3d(torch.ones(1, 4, 2, 4, 4) / 3, weight, padding=1)
    with torch.autocast("cpu", torch.bfloat16), SafeConvolutions():
        guarded = F.conv3d(torch.ones(1, 4, 2, 4, 4) / 3, weight, padding=1)
    assert torch.equal(guarded, exact.bfloat16())  # computed in fp32, rounded once at the end


def test_outside_autocast_nothing_changes() -> None:
    image, weight = torch.randn(1, 2, 2, 4, 4), torch.randn(3, 2, 3, 3, 3)
    expected = F.conv3d(image, weight, padding=1)
    with SafeConvolutions():
        assert torch.equal(F.conv3d(image, weight, padding=1), expected)
    with Precision("fp32").active(CPU):
        assert torch.equal(F.conv3d(image, weight, padding=1), expected)


def test_auto_takes_bf16_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for capable, name in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr("medresnet3d.engines.precision.cpu_has_bf16", lambda capable=capable: capable)
        assert Precision("auto").resolve(CPU) == name
    assert Precision("fp32").resolve(CPU) == "fp32"


def test_impossible_precisions() -> None:
    with pytest.raises(ConfigError, match='precision is "int8"; use one of auto, fp32, bf16, fp16'):
        Precision("int8")
    with pytest.raises(ConfigError, match="needs a CUDA device"):
        Precision("fp16").resolve(CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_autocast_on_cuda(name: str) -> None:
    device = torch.device("cuda")
    with Precision(name).active(device):
        output = F.conv3d(torch.randn(1, 2, 4, 4, 4, device=device), torch.randn(3, 2, 3, 3, 3, device=device))
    assert output.dtype == {"bf16": torch.bfloat16, "fp16": torch.float16}[name]
