from __future__ import annotations

import pytest
import torch
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.inferers import FlipInferer
from medresnet3d.inferers.views import Views

IMAGE = torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(1, 2, 3, padding=1).requires_grad_(False)


def test_no_view_is_the_plain_output() -> None:
    net = network()
    assert Views().count == 1
    assert torch.equal(Views().forward(IMAGE, net), net(IMAGE))


def test_flips_are_those_of_the_flip_inferer() -> None:
    net = network()
    assert Views((0, 1)).count == 4
    assert torch.allclose(Views((0, 1)).forward(IMAGE, net), FlipInferer((0, 1))(IMAGE, net), atol=1e-6)


@pytest.mark.parametrize("flips", [(), (0,), (0, 1)])
def test_answer_for_a_turned_image_is_the_turned_answer(flips: tuple[int, ...]) -> None:
    net, views = network(), Views(flips, turns=(0, 1))
    assert views.count == 4 * 2 ** len(flips)
    turned = views.forward(IMAGE.rot90(1, (2, 3)), net)
    assert torch.allclose(turned.rot90(-1, (2, 3)), views.forward(IMAGE, net), atol=1e-6)
    assert not torch.allclose(net(IMAGE.rot90(1, (2, 3))).rot90(-1, (2, 3)), net(IMAGE), atol=1e-3)


def test_several_outputs_are_averaged_each() -> None:
    net = network()
    both = Views((0,)).forward(IMAGE, lambda view: {"b": net(view), "a": 2 * net(view)})
    assert torch.allclose(both["a"], 2 * both["b"], atol=1e-6)
    assert torch.allclose(both["b"], FlipInferer((0,))(IMAGE, net), atol=1e-6)


def test_the_networks_own_output_is_not_changed() -> None:
    kept = torch.ones(2, 1, 6, 6)
    Views((0,)).forward(IMAGE, lambda view: kept)
    assert torch.equal(kept, torch.ones(2, 1, 6, 6))


def test_turns_need_a_plane() -> None:
    with pytest.raises(ConfigError, match="two spatial axes"):
        Views(turns=(1, 1))
