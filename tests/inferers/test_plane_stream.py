"""Slab after slab, a network gives what it gives in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from monai.networks.nets import BasicUNet, SegResNet, UNet
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.inferers.execution import prepare
from medresnet3d.inferers.plane_stream import PlaneStream
from medresnet3d.networks.voxresnet import VoxResNet


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.inference_mode():
        yield


class TwoPaths(nn.Module):
    """A short and a long way, added in place, joined, and a second output that is ready earlier."""

    def __init__(self) -> None:
        super().__init__()
        self.short = nn.Conv3d(2, 4, 1)
        self.long = nn.Sequential(nn.Conv3d(2, 4, 5, padding=2), nn.ReLU(inplace=True), nn.Conv3d(4, 4, 3, padding=1))
        self.last = nn.Conv3d(6, 3, 3, padding="same")

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        early = self.short(x)
        late = self.long(x).add_(early)
        return {"early": early.sigmoid(), "late": self.last(torch.cat([x, late], dim=1)) * 2}


class Padded(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool3d(F.pad(x, [1, 1, 0, 2, 1, 1], value=0.5), (3, 3, 3), stride=1)


def chain(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers).eval()


def unet(**options: Any) -> nn.Module:
    return UNet(3, 2, 3, (4, 8, 16), (2, 2), num_res_units=2, norm="batch", **options).eval()


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "kernels": lambda: chain(nn.Conv3d(2, 3, (5, 3, 1), padding=(2, 1, 0)), nn.Conv3d(3, 2, 3, padding=2, dilation=2)),
    "strides": lambda: chain(nn.Conv3d(2, 4, 3, 2, 1), nn.BatchNorm3d(4), nn.ConvTranspose3d(4, 2, 2, 2)),
    "skipping": lambda: chain(nn.Conv3d(2, 4, 1, 4), nn.ConvTranspose3d(4, 2, 4, 4)),
    "output padding": lambda: chain(nn.Conv3d(2, 4, 3, 2, 1), nn.ConvTranspose3d(4, 2, 3, 2, 1, 1)),
    "wide kernel": lambda: chain(nn.Conv3d(2, 4, 4, 4), nn.ConvTranspose3d(4, 2, 6, 4, 1)),
    "pooling": lambda: chain(nn.MaxPool3d(2), nn.Conv3d(2, 2, 3, padding=1), nn.Upsample(scale_factor=2)),
    "linear": lambda: chain(nn.AvgPool3d(2), nn.Upsample(scale_factor=2, mode="trilinear")),
    "twice linear": lambda: chain(nn.AvgPool3d(4), *[nn.Upsample(scale_factor=2, mode="trilinear") for _ in range(2)]),
    "two paths": TwoPaths,
    "padded": Padded,
    "unet": unet,
    "voxresnet": lambda: VoxResNet(3, 2, 3, width=4).eval(),
    "segresnet": lambda: SegResNet(3, 4, 2, 3, norm=("batch", {"affine": True})).eval(),
}


def tensors(output: Any) -> list[torch.Tensor]:
    return list(output.values()) if isinstance(output, dict) else [output]


def streamed(network: Callable[[torch.Tensor], Any], image: torch.Tensor, slab: int) -> list[torch.Tensor]:
    parts = [tensors(output) for output in PlaneStream(network).run(image.split(slab, 2))]
    return [torch.cat(some, 2) for some in zip(*parts, strict=True)]


@pytest.mark.parametrize("slab", [8, 24])
@pytest.mark.parametrize("name", NETWORKS)
def test_slabs_equal_one_pass(name: str, slab: int) -> None:
    network = NETWORKS[name]().eval()
    image = torch.randn(1, 2, 64, 16, 24)
    for found, expected in zip(streamed(network, image, slab), tensors(network(image)), strict=True):
        assert found.shape == expected.shape
        assert float((found - expected).abs().max()) < 1e-5 * max(float(expected.abs().max()), 1)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["unet", "voxresnet", "segresnet"])
def test_fast_copy_goes_slab_by_slab(name: str, precision: str) -> None:
    network = NETWORKS[name]().eval()
    ready = prepare(network, device="cpu", precision=precision)
    image = torch.randn(1, 2, 48, 16, 24)
    expected = ready(image).float()
    found = streamed(ready, image, 8)[0].float()
    bound = 1e-5 if precision == "fp32" else 0.02
    assert float((found - expected).abs().max()) <= bound * float(expected.abs().max())


def test_no_layer_computes_much_more_than_a_slab_at_a_time() -> None:
    network, seen = unet(), dict[str, int]()
    convolutions = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Conv3d)}
    for name, layer in convolutions.items():
        layer.register_forward_hook(
            lambda _module, _args, output, name=name: seen.update({name: max(seen.get(name, 0), output.shape[2])})
        )
    slabs = list(PlaneStream(network).run(torch.randn(1, 2, 128, 16, 16).split(8, 2)))
    assert max(slab.shape[2] for slab in slabs) == 8
    assert set(seen) == set(convolutions)
    assert max(seen.values()) == 8
    assert sum(slab.shape[2] for slab in slabs) == 128


layer = st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(0, 3), st.integers(1, 2), st.booleans())


@given(st.lists(layer, min_size=1, max_size=4), st.integers(1, 6), st.integers(20, 40))
@example([(1, 2, 0, 1, False), (1, 2, 0, 1, False), (2, 2, 1, 1, True)], 1, 20)  # its end is known late
@settings(max_examples=60, deadline=None)
def test_any_chain_of_convolutions(layers: list[tuple[int, int, int, int, bool]], slab: int, length: int) -> None:
    torch.manual_seed(0)
    modules: list[nn.Module] = []
    for kernel, stride, padding, dilation, up in layers:
        common = {"stride": (stride, 1), "dilation": (dilation, 1)}
        inside = (min(padding, dilation * (kernel - 1)), 1)
        kind = nn.ConvTranspose2d if up else nn.Conv2d
        modules.append(kind(2, 2, (kernel, 3), padding=inside, **common))  # type: ignore[arg-type]
    assume(not any(up and dilation * (kernel - 1) + 1 < stride for kernel, stride, _, dilation, up in layers))
    network = nn.Sequential(*modules).eval()
    image = torch.randn(1, 2, length, 5)
    try:
        expected = network(image)
    except RuntimeError:  # nothing is left of the image
        return
    found = streamed(network, image, slab)[0]
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=1e-5 * max(float(expected.abs().max()), 1))


def test_gaps_between_the_kernels_of_a_transposed_convolution_are_refused() -> None:
    network = nn.ConvTranspose2d(2, 2, (1, 3), stride=(2, 1), padding=(0, 1)).eval()
    with pytest.raises(ConfigError, match="gaps"):
        streamed(network, torch.randn(1, 2, 20, 5), 4)


class Whimsical(nn.Module):
    """Computes something else for a thin slab."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[2] < 8:
            return F.max_pool3d(x, 1)
        return F.conv3d(x, torch.ones(1, 1, 1, 1, 1))


class Blind(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros(x.shape)


class Cropping(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.narrow(2, 1, x.shape[2] - 1)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Whimsical(), "calls max_pool3d for one slab of the image where it calls conv3d before"),
        (Blind(), "does not depend on the image"),
        (Cropping(), "crops planes"),
        (BasicUNet(3, 1, 2, (4, 4, 4, 4, 4, 4), norm="batch").eval(), "padding with the image's own planes"),
        (nn.MaxPool3d(3, 1, 1), "pooling with padding"),
        (nn.Upsample(scale_factor=1.5), "by a fraction"),
        (nn.Conv3d(1, 1, 4, padding="same"), "an even kernel"),
    ],
)
def test_what_cannot_be_done_is_said(network: nn.Module, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        list(PlaneStream(network).run(torch.randn(1, 1, 36, 32, 32).split(16, 2)))
