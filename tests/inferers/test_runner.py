from __future__ import annotations

import pytest
import torch
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.inferers.runner import Extras, Runner, home
from medresnet3d.inferers.views import Views

CPU = torch.device("cpu")
WINDOW = torch.randn(1, 1, 12, 12, generator=torch.Generator().manual_seed(0))
BOXES = [(slice(4, 16), slice(0, 12))]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))


def test_fast_copy_is_in_eval_mode_and_the_network_stays_as_it_is() -> None:
    net = network().train()
    with torch.no_grad():
        found = Runner(net, CPU, precision="fp32").forward(WINDOW, BOXES)
        assert net.training
        assert torch.allclose(found, net.eval()(WINDOW), atol=1e-5)


def test_low_precision_is_close() -> None:
    net = network().eval()
    runner = Runner(net, CPU, precision="bf16")
    assert runner.precision == "bf16"
    with torch.no_grad():
        assert torch.allclose(runner.forward(WINDOW, BOXES).float(), net(WINDOW), atol=0.05)


def test_exact_runs_the_network_itself() -> None:
    net = network().eval()
    runner = Runner(net, CPU, precision="bf16", exact=True)
    assert (runner.network, runner.precision, runner.prepared) == (net, "fp32", False)


def test_autocast_around_the_call_does_not_change_a_fast_copy() -> None:
    net = network().eval()
    runner = Runner(net, CPU, precision="fp32")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = runner.forward(WINDOW, BOXES)
    assert found.dtype == torch.float32
    with torch.no_grad():
        assert torch.allclose(found, net(WINDOW), atol=1e-5)


def test_function_runs_as_it_is_and_gets_floating_point_numbers() -> None:
    seen = []
    runner = Runner(lambda window: seen.append(window.dtype) or window, CPU)
    runner.forward(WINDOW.to(torch.int16), BOXES)
    assert seen == [torch.float32]
    for options in ({"precision": "bf16"}, {"backend": "openvino"}):
        with pytest.raises(ConfigError, match=r"needs a torch\.nn\.Module"):
            Runner(lambda window: window, CPU, **options)


def test_extras_follow_the_window() -> None:
    condition = torch.arange(2 * 20 * 14.0).view(2, 1, 20, 14)
    extras = Extras(args=(5,), kwargs={"name": "x"}, condition=condition, with_coord=True)
    given = {}

    def net(window: torch.Tensor, places: list[list[slice]], number: int, **named: object) -> torch.Tensor:
        given.update(named, places=places, number=number)
        return window

    assert extras.any
    assert not Extras().any
    Runner(net, CPU, extras=extras).forward(WINDOW, BOXES, image=1)
    assert given["places"] == [[slice(1, 2), slice(None), *BOXES[0]]]
    assert (given["number"], given["name"]) == (5, "x")
    assert torch.equal(given["condition"], condition[1:2, :, 4:16, :12])


def test_views_are_averaged() -> None:
    net = network().eval()
    runner = Runner(net, CPU, precision="fp32", views=Views((0,)))
    with torch.no_grad():
        expected = (net(WINDOW) + net(WINDOW.flip(2)).flip(2)) / 2
    assert torch.allclose(runner.forward(WINDOW, BOXES), expected, atol=1e-5)


def test_home_of_a_network() -> None:
    meta = torch.empty(1, device="meta")
    assert home(network(), meta) == CPU
    assert home(nn.ReLU(), meta) == home(abs, meta) == torch.device("meta")
