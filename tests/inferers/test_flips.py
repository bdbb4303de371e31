from __future__ import annotations

import torch
from monai.inferers import SlidingWindowInferer
from torch import nn

from medresnet3d.inferers.flips import FlipInferer


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(1, 2, 3, padding=1).eval()


IMAGE = torch.randn(1, 1, 6, 8, generator=torch.Generator().manual_seed(0))


def test_no_axis_is_the_plain_output() -> None:
    net = network()
    assert torch.equal(FlipInferer(axes=())(IMAGE, net), net(IMAGE))


def test_every_combination_of_axes_is_averaged() -> None:
    net = network()
    expected = sum(net(IMAGE.flip(axes)).flip(axes) if axes else net(IMAGE) for axes in ([], [2], [3], [2, 3])) / 4
    assert torch.allclose(FlipInferer(axes=(0, 1))(IMAGE, net), expected, atol=1e-6)


def test_answer_for_the_mirror_image_is_the_mirrored_answer() -> None:
    net, inferer = network(), FlipInferer(axes=(0,))
    mirrored = inferer(IMAGE.flip(2), net)
    assert torch.allclose(mirrored.flip(2), inferer(IMAGE, net), atol=1e-6)
    assert not torch.allclose(net(IMAGE.flip(2)).flip(2), net(IMAGE), atol=1e-3)


def test_another_inferer_can_do_the_work() -> None:
    net = network()
    whole = FlipInferer(axes=(0,))(IMAGE, net)
    windows = FlipInferer(axes=(0,), inferer=SlidingWindowInferer((6, 8), 1))(IMAGE, net)
    assert torch.allclose(whole, windows, atol=1e-6)


def test_logits_of_a_classifier_are_averaged_as_they_are() -> None:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    views = [IMAGE, IMAGE.flip(2), IMAGE.flip(3), IMAGE.flip(2, 3)]
    expected = sum(net(view) for view in views) / 4
    answer = FlipInferer(axes=(0, 1))(IMAGE, net)
    assert answer.shape == (1, 2)
    assert torch.allclose(answer, expected, atol=1e-6)
    assert torch.allclose(FlipInferer(axes=(0, 1))(IMAGE.flip(3), net), answer, atol=1e-6)
    assert not torch.allclose(net(IMAGE), answer, atol=1e-4)
