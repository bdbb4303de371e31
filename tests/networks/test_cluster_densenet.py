from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medresnet3d.errors import ConfigError
from medresnet3d.networks.cluster_densenet import ClusterDenseNet, PatchPlan, RegionDenseNet, build_cluster_densenet
from medresnet3d.networks.transfer import freeze_depths, start_from
from tests.networks.base import ClassifierSuite

TINY: dict[str, Any] = {
    "plan": PatchPlan(patches=2, patch_size=12),
    "clusters": 2,
    "blocks": (1, 1),
    "width": 0.0625,
    "stem_stride": 1,
    "components": 4,
    "descriptor_size": 4,
    "region_features": 4,
}


def fit_clusters(network: ClusterDenseNet, images: Tensor) -> ClusterDenseNet:
    for region, crop in zip(network.regions, network.region_crops(images), strict=True):
        region.clusters.fit(region.clusters.describe(region.patches(crop)))  # type: ignore[operator, union-attr]
    return network


class TestClusterDenseNet(ClassifierSuite):
    steps = 30
    learning_rate = 1e-2
    counts = (
        ({"spatial_dims": 3, "size": "paper"}, 6_395_546),
        ({"spatial_dims": 3, "size": "slim", "patch_size": 14}, 548_642),
        ({"spatial_dims": 2, "size": "slim", "patch_size": 14}, 57_170),
    )

    def build(self, spatial_dims: int = 3, **options: Any) -> ClusterDenseNet:
        if "size" in options:
            return build_cluster_densenet(spatial_dims, **options)
        return ClusterDenseNet(spatial_dims, **TINY | {"pooling": "mean", "act": "leakyrelu"} | options)

    def seeded(self, spatial_dims: int, seed: int = 0) -> nn.Module:
        torch.manual_seed(seed)
        return fit_clusters(self.build(spatial_dims), self.image(spatial_dims, batch=8))


@pytest.fixture(scope="module")
def flat() -> ClusterDenseNet:
    torch.manual_seed(0)
    return fit_clusters(ClusterDenseNet(2, **TINY), torch.rand(8, 1, 32, 32)).eval()


def test_every_region_sees_its_place_and_no_other(flat: ClusterDenseNet) -> None:
    image = torch.rand(1, 1, 32, 32)
    changed = image.clone()
    changed[:, :, 26:, :5] += 5  # the lower left corner (i to the right, j forward) belongs to one region alone
    with torch.no_grad():
        before, after = flat.feature_map(image), flat.feature_map(changed)
    differs = (before != after).any(1)[0]
    assert before.shape == (1, 4, 3, 3)
    assert differs.nonzero().tolist() == [[2, 0]]
    assert flat.region_names()[6] == "right posterior"
    assert len(set(flat.region_names())) == 9


def test_each_patch_goes_through_the_network_of_its_cluster(flat: ClusterDenseNet) -> None:
    """The features of a region, computed patch by patch."""
    region: Any = flat.regions[4]
    crop = flat.region_crops(torch.rand(3, 1, 32, 32))[4]
    for largest in (True, False):
        region.largest = largest
        with torch.no_grad():
            found = region.pooled(crop)
            for case in range(3):
                patches = region.patches(crop[case : case + 1])
                numbers = region.clusters(patches)
                means = []
                for cluster in numbers.unique().tolist():
                    own = patches[numbers == cluster]
                    means.append(torch.cat([region.trunks[cluster](patch[None]) for patch in own]).mean(0))
                joined = torch.stack(means).amax(0) if largest else torch.stack(means).mean(0)
                torch.testing.assert_close(found[case], joined, rtol=1e-4, atol=1e-5)
    region.largest = True


def test_an_image_without_patches_of_a_cluster_is_answered_and_trains_the_others(flat: ClusterDenseNet) -> None:
    region: Any = flat.regions[0]
    crop = flat.region_crops(torch.zeros(2, 1, 32, 32))[0]
    numbers = region.clusters(region.patches(crop)).unique()
    assert len(numbers) == 1, "equal patches are in one cluster"
    flat.train()
    flat.zero_grad()
    region(crop).sum().backward()
    flat.eval()
    idle = region.trunks[1 - int(numbers)]
    gradients = [parameter.grad for parameter in idle.parameters()]
    assert all(gradient is not None and not gradient.any() for gradient in gradients), "zero, and there"
    assert all(torch.isfinite(value).all() for value in idle.state_dict().values())
    flat.zero_grad()


def test_unfitted_all_patches_go_through_the_first_network() -> None:
    network = ClusterDenseNet(2, **TINY)
    assert not any(region.clusters(region.patches(torch.rand(2, 1, 16, 16))).any() for region in network.regions)  # type: ignore[operator, union-attr]


def test_stages_are_those_of_all_networks_and_freeze_all_of_them() -> None:
    network = ClusterDenseNet(2, **TINY)
    assert list(freeze_depths(network)) == ["none", "stem", "stage1", "stage2", "stage3", "all_but_head"]
    start_from(network, freeze_until="stage2")
    free = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert {name.split(".")[2] for name in free if name.startswith("regions")} == {"project"}
    assert {"classifier.weight", "classifier.bias"} < free
    start_from(network, freeze_until="stage1")
    assert any("denseblock2" in name for name, p in network.named_parameters() if p.requires_grad)


def test_numbers_that_make_no_network_are_refused() -> None:
    with pytest.raises(ConfigError, match="leave 1 after 2 dense blocks"):
        ClusterDenseNet(2, **TINY | {"stem_stride": 2})
    with pytest.raises(ConfigError, match="choose one of max, mean"):
        ClusterDenseNet(2, **TINY | {"pooling": "sum"})
    with pytest.raises(ConfigError, match=r"regions of \(10, 16\)"):
        ClusterDenseNet(2, **TINY)(torch.zeros(1, 1, 20, 32))
    with pytest.raises(ConfigError, match="slim"):
        build_cluster_densenet(2, size="huge")


# --- the special part: a network for each kind of patch ----------------------------------------------------------

KINDS = torch.tensor([0, 1, 1, 2])
"""Of patches: half of them are of the second."""

SIGNS = torch.tensor([1.0, -1.0, 1.0])
"""Of the dots of class 1 on each kind of patch."""


def several_kinds(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Regions of four patches, whose upper rows are dark, grey or bright and whose lower rows have dots.

    Of class 1 the dots are bright on dark and on bright patches and dark on grey ones, of class 0 the other way round:
    neither the kind of a patch alone nor its dots alone say anything of the class. No unit of the networks sees both.
    """
    label = torch.arange(count) % 2
    kinds = KINDS[torch.randint(4, (count, 4), generator=generator)]
    image = 0.2 * torch.randn(count, 1, 44, 44, generator=generator)
    for sample, wanted, four in zip(image[:, 0], label.tolist(), kinds.tolist(), strict=True):
        for number, kind in enumerate(four):
            patch = sample[22 * (number // 2) :, 22 * (number % 2) :][:22, :22]
            patch[:4] += kind - 1
            rows, columns = (torch.randint(*ends, (6,), generator=generator) for ends in ((17, 21), (1, 21)))
            patch[rows, columns] += 1.5 * float(SIGNS[kind]) * (1 if wanted else -1)
    return image, label


class OneRegion(nn.Module):
    """The part under test: the networks of one region, and a last layer."""

    def __init__(self, clusters: int, width: float) -> None:
        super().__init__()
        plan = PatchPlan(patches=2, patch_size=22)
        options = TINY | {"plan": plan, "blocks": (1,), "clusters": clusters, "width": width, "region_features": 8}
        region: Any = ClusterDenseNet(2, **options).regions[0]
        self.region: RegionDenseNet = region
        self.classifier = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.region(x))


def accuracy(clusters: int, width: float, seed: int, rate: float, steps: int = 40) -> float:
    generator = torch.Generator().manual_seed(seed)
    (train, label), (test, truth) = several_kinds(96, generator), several_kinds(192, generator)
    torch.manual_seed(seed)
    network = OneRegion(clusters, width)
    network.region.clusters.fit(network.region.clusters.describe(network.region.patches(train)), seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    for _ in range(steps):
        part = torch.randperm(96, generator=generator)[:32]
        loss = nn.functional.cross_entropy(network(train[part]), label[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        return float((network(test).argmax(1) == truth).float().mean())


RATES = (0.01, 0.03)
MANY, ONE = (3, 0.0625), (1, 0.125)
"""Clusters, and the share of the channels that gives both arms as many parameters."""


def best(arm: tuple[int, float], seed: int) -> float:
    """The better of two learning rates, for each arm of its own."""
    return max(accuracy(*arm, seed, rate) for rate in RATES)


def test_a_network_for_each_kind_of_patch_knows_what_one_for_all_cannot_see() -> None:
    """At equal parameters and steps."""
    sizes = [sum(parameter.numel() for parameter in OneRegion(*arm).parameters()) for arm in (MANY, ONE)]
    assert abs(sizes[1] / sizes[0] - 1) < 0.1
    assert best(MANY, 0) - best(ONE, 0) > 0.2


@pytest.mark.slow
def test_the_clusters_decide_over_five_seeds() -> None:
    gains = np.array([best(MANY, seed) - best(ONE, seed) for seed in range(5)])
    assert gains.mean() - 2.776 * gains.std(ddof=1) / np.sqrt(5) > 0
