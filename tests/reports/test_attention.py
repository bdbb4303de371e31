from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.networks.cluster_densenet import ClusterDenseNet, PatchPlan
from medresnet3d.networks.multi_view import build_multi_view
from medresnet3d.networks.slice_vote import SliceVote
from medresnet3d.reports import class_map
from medresnet3d.reports.attention import last_spatial_layers


class SpotNet(nn.Module):
    """Class 1 is the mean brightness: exactly the voxels of a bright spot speak for it."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.ReLU(inplace=True), nn.AvgPool3d(2))
        self.classifier = nn.Linear(2, 2)
        with torch.no_grad():
            self.features[0].weight.zero_()
            self.features[0].weight[0, 0, 1, 1, 1] = 1.0
            self.features[0].weight[1, 0, 1, 1, 1] = -1.0
            self.features[0].bias.zero_()
            self.classifier.weight.copy_(torch.tensor([[-20.0, 20.0], [20.0, -20.0]]))
            self.classifier.bias.zero_()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(image).mean(dim=(2, 3, 4)))


@pytest.fixture
def image() -> torch.Tensor:
    image = torch.zeros(1, 1, 16, 16, 16)
    image[..., 8:12, 2:6, 10:14] = 1.0
    return image


@pytest.mark.parametrize("method", ["gradcam", "occlusion", "auto"])
def test_the_map_is_where_the_evidence_is(image: torch.Tensor, method: str) -> None:
    found = class_map(SpotNet(), image, 1, method=method)  # type: ignore[arg-type]
    assert found.shape == (16, 16, 16)
    assert found.min() >= 0 and found.max() == pytest.approx(1.0)
    centre = [float((found * grid).sum() / found.sum()) for grid in np.indices(found.shape)]
    np.testing.assert_allclose(centre, [9.5, 3.5, 11.5], atol=1.0)


def test_the_likeliest_class_is_the_default(image: torch.Tensor) -> None:
    np.testing.assert_array_equal(class_map(SpotNet(), image), class_map(SpotNet(), image, 1))


def test_the_other_class_has_no_evidence_there(image: torch.Tensor) -> None:
    found = class_map(SpotNet(), image, 0, method="gradcam")
    assert found[8:12, 2:6, 10:14].max() < 0.2


def test_the_network_is_left_as_it_was(image: torch.Tensor) -> None:
    network = SpotNet().train()
    network.classifier.weight.requires_grad_(False)
    class_map(network, image)
    assert network.training and network.features[1].inplace
    assert not network.classifier.weight.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks or module._backward_hooks for module in network.modules())


def test_the_layer_is_the_last_with_room(image: torch.Tensor) -> None:
    assert last_spatial_layers(SpotNet(), image) == ["features"]
    assert last_spatial_layers(nn.Sequential(nn.Flatten(), nn.Linear(4096, 2)), image) == []


def test_networks_without_feature_maps_are_occluded(image: torch.Tensor) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4096, 2))
    with torch.no_grad():
        network[1].weight.copy_(torch.stack([-image.flatten(), image.flatten()]) * 0.1)
    found = class_map(network, image, 1)
    assert found[8:12, 2:6, 10:14].mean() > 3 * found.mean()
    with pytest.raises(ConfigError, match="no spatial feature maps"):
        class_map(network, image, 1, method="gradcam")


def test_flat_images_work_too() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    assert class_map(network, torch.rand(1, 3, 12, 14)).shape == (12, 14)


@pytest.mark.parametrize("method", ["auto", "gradcam", "occlusion"])
@pytest.mark.parametrize(("region", "corner"), [(6, (1, 0)), (2, (0, 1))])
def test_a_network_of_regions_is_explained_by_the_region_that_counts(
    region: int, corner: tuple[int, int], method: str
) -> None:
    """All regions have the same features, and the last layer has weights for one of them alone."""
    torch.manual_seed(0)
    plan = PatchPlan(patches=2, patch_size=12)
    options = {"plan": plan, "clusters": 1, "blocks": (1, 1), "width": 0.0625, "stem_stride": 1, "act": "leakyrelu"}
    network = ClusterDenseNet(2, region_features=4, **options).eval()  # type: ignore[arg-type]
    whole = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        network.classifier.weight.zero_()
        signs = network.feature_map(whole)[0].flatten(1)[:, region].sign()
        for number, sign in ((0, -1), (1, 1)):
            network.classifier.weight.view(2, 4, 9)[number, :, region] = sign * signs
    found = class_map(network, whole, 1, method=method)  # type: ignore[arg-type]
    quarters = found.reshape(2, 16, 2, 16).mean(axis=(1, 3))
    assert found.shape == (32, 32)
    assert np.unravel_index(quarters.argmax(), (2, 2)) == corner
    assert quarters[1 - corner[0], 1 - corner[1]] < 0.1 * quarters[corner]


class FlatSpotNet(nn.Module):
    """The same in two dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(inplace=True))
        self.classifier = nn.Linear(2, 2)
        with torch.no_grad():
            self.features[0].weight.copy_(torch.tensor([1.0, -1.0])[:, None, None, None])
            self.features[0].bias.zero_()
            self.classifier.weight.copy_(torch.tensor([[-20.0, 20.0], [20.0, -20.0]]))
            self.classifier.bias.zero_()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(image).mean(dim=(2, 3)))


@pytest.mark.parametrize("method", ["gradcam", "occlusion"])
def test_slices_that_vote_have_a_map_each(method: str) -> None:
    image = torch.zeros(1, 5, 16, 16)
    image[0, 3, 4:8, 9:13] = 1.0
    found = class_map(SliceVote(FlatSpotNet()), image, 1, method=method, apart=True)  # type: ignore[arg-type]
    assert found.shape == (5, 16, 16)
    assert found[3, 4:8, 9:13].mean() > 0.5
    assert np.delete(found, 3, axis=0).max() < 0.1


@pytest.mark.parametrize("share_weights", [False, True])
def test_views_have_a_map_each_whether_their_trunks_are_one_or_three(share_weights: bool) -> None:
    torch.manual_seed(0)
    network = build_multi_view("resnet10", share_weights=share_weights, width=0.0625, stem_stride=1).eval()
    layers = last_spatial_layers(network, torch.rand(1, 3, 32, 32))
    assert [layer.split(".")[:2] for layer in layers] == [["trunks", str(n)] for n in range(1 if share_weights else 3)]
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    image[:, 2] = 0.0  # of which a network without biases of its own sees nothing
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.zeros_(module.bias)
    target = int(network(image).argmax(1))
    found = class_map(network, image, target, method="gradcam", apart=True)
    assert found.shape == (3, 32, 32)
    assert found[:2].max() == 1.0 and found[2].max() == 0


def test_planes_that_one_layer_mixes_share_their_map_and_occlusion_tells_them_apart() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([1.0, -1.0])[:, None, None, None].expand(2, 3, 1, 1))
        network[0].bias.zero_()
        network[4].weight.copy_(torch.tensor([[-20.0, 20.0], [20.0, -20.0]]))
        network[4].bias.zero_()
    image = torch.zeros(1, 3, 16, 16)
    image[0, 1, 4:8, 9:13] = 1.0
    mixed = class_map(network, image, 1, method="gradcam", apart=True)
    assert np.array_equal(mixed[0], mixed[1]) and np.array_equal(mixed[0], mixed[2]) and mixed[1, 5, 10] == 1.0
    apart = class_map(network, image, 1, method="occlusion", apart=True)
    assert apart[1, 4:8, 9:13].mean() > 0.5 and apart[[0, 2]].max() < 1e-5
