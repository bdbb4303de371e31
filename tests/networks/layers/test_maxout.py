from __future__ import annotations

import pytest
import torch
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.networks.layers.maxout import DoubleActivation, Maxout, MaxoutConv, MaxPieces, use_maxout, widened


def test_dense_maxout_is_the_largest_of_its_affine_functions() -> None:
    torch.manual_seed(0)
    layer, x = Maxout(4, 3, pieces=5), torch.randn(6, 4)
    weight, bias = layer[0].weight.reshape(3, 5, 4), layer[0].bias.reshape(3, 5)
    expected = (torch.einsum("ijf,bf->bij", weight, x) + bias).max(2).values
    torch.testing.assert_close(layer(x), expected)
    assert sum(p.numel() for p in layer.parameters()) == 5 * (4 * 3 + 3)


def test_two_pieces_make_relu_and_the_absolute_value_exactly() -> None:
    x = torch.linspace(-3, 3, 25)[:, None]
    layer = Maxout(1, 1, bias=False)
    for pieces, expected in (((1.0, 0.0), x.relu()), ((1.0, -1.0), x.abs())):
        with torch.no_grad():
            layer[0].weight.copy_(torch.tensor(pieces)[:, None])
        assert torch.equal(layer(x), expected)


@pytest.mark.parametrize("spatial_dims", [1, 2, 3])
def test_convolutional_maxout_takes_the_larger_filter_at_each_place(spatial_dims: int) -> None:
    torch.manual_seed(0)
    layer, image = MaxoutConv(spatial_dims, 2, 3, 3, padding=1), torch.randn(2, 2, *[5] * spatial_dims)
    wide = layer[0](image)
    assert wide.shape[1] == 6
    torch.testing.assert_close(layer(image), torch.maximum(wide[:, 0::2], wide[:, 1::2]))


def test_double_activation_is_relu_of_the_maximum_and_halves_the_channels_of_its_convolution() -> None:
    torch.manual_seed(0)
    layer, image = DoubleActivation(2, 1, 4, 3, padding=1), torch.randn(2, 1, 6, 6)
    wide = layer[0](image)
    output = layer(image)
    assert (wide.shape[1], output.shape[1]) == (8, 4)
    torch.testing.assert_close(output, torch.maximum(wide[:, 0::2], wide[:, 1::2]).clamp_min(0))
    output.sum().backward()
    assert float(layer[0].weight.grad.abs().sum()) > 0


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(6, 4),
        nn.Conv2d(6, 4, 3, padding=1, bias=False),
        nn.Conv3d(6, 6, 3, stride=2, padding=1, groups=6),
        nn.Conv1d(6, 4, 3, groups=2, dilation=2),
        nn.ConvTranspose2d(6, 4, 4, stride=2, padding=1, output_padding=1),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_widened_layer_fits_where_the_layer_was(layer: nn.Module) -> None:
    axes = 0 if isinstance(layer, nn.Linear) else layer.weight.dim() - 2
    x = torch.randn(2, 6, *[7] * axes)
    assert widened(layer, 3)(x).shape == layer(x).shape


def test_a_widened_depthwise_convolution_competes_within_its_channel() -> None:
    layer = widened(nn.Conv2d(3, 3, 1, groups=3, bias=False), 2)
    with torch.no_grad():
        layer[0].weight.copy_(torch.tensor([1.0, -1.0, 2.0, -2.0, 3.0, -3.0]).reshape(6, 1, 1, 1))
    image = torch.randn(1, 3, 2, 2)
    torch.testing.assert_close(layer(image), image.abs() * torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1))


def test_new_weights_keep_the_mean_square_through_many_layers() -> None:
    torch.manual_seed(0)
    x = torch.randn(2000, 200)
    for _ in range(10):
        x = widened(nn.Linear(200, 200), 2)(x)
    assert 0.3 < float(x.detach().square().mean()) < 3


def test_a_whole_network_keeps_its_shapes_and_what_is_named_linear() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 2))
    image = torch.randn(3, 1, 4, 4)
    use_maxout(network, 2, linear=r"^3$")
    assert network(image).shape == (3, 2)
    assert sum(isinstance(layer, MaxPieces) for layer in network.modules()) == 1
    assert isinstance(network[3], nn.Linear)


@pytest.mark.parametrize(
    "make", [lambda: Maxout(2, 2, pieces=0), lambda: use_maxout(nn.Sequential(nn.Linear(1, 1)), 0)]
)
def test_less_than_one_piece_is_refused(make: object) -> None:
    with pytest.raises(ConfigError, match="1 or more"):
        make()
