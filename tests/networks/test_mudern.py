"""MuDeRN: routed questions, magnifications that are missing, and a tree that is better than an average."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medresnet3d.errors import ConfigError
from medresnet3d.networks.classifier import build_classifier
from medresnet3d.networks.mudern import MuDeRN, build_mudern
from medresnet3d.networks.transfer import start_from
from tests.networks.base import NetworkSuite


class TestMuDeRN(NetworkSuite):
    dims = (2,)
    in_channels = 6
    counts = (({}, 621_492), ({"share": "none"}, 1_859_316), ({"share": "all"}, 312_036))
    scriptable = False

    def build(self, spatial_dims: int = 2, **options: Any) -> nn.Module:
        return build_mudern("resnet10", 2, **{"share": "magnification", "size": "slim", "grid": (2, 2), **options})

    def output_shape(self, image: Tensor) -> tuple[int, ...]:
        return (image.shape[0], 8)


def small(seed: int = 0, **options: Any) -> MuDeRN:
    torch.manual_seed(seed)
    network = build_mudern("resnet10", 2, width=0.0625, grid=(2, 1), **{"share": "magnification", **options})
    network.train()(torch.rand(4, 6, 48, 32))  # statistics that fit
    return network.eval()


def cases(count: int = 6, seed: int = 1) -> Tensor:
    return torch.rand(count, 6, 48, 32, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("share", ["none", "magnification", "all"])
def test_what_is_found_benign_is_never_asked_for_its_malignant_type(share: str) -> None:
    network, image = small(share=share), cases(12)
    with torch.no_grad():
        for magnification in range(2):  # both natures occur
            head = network.heads[3 * magnification]
            nature = network.answers(image, magnification)[0]
            head.bias += torch.tensor([0.0, float((nature[:, 0] - nature[:, 1]).median())])
        before = network.opinions(image)
        for question, first, last in ((1, 0, 4), (2, 4, 8)):
            for magnification in range(2):
                network.heads[3 * magnification + question].weight.normal_(0, 3)
            after = network.opinions(image)
            natures = torch.stack([network.answers(image, m)[0].argmax(1) for m in range(2)], 1)
            asked = natures == question - 1
            assert asked.any() and not asked.all()
            assert torch.equal(after[~asked], before[~asked]), "another nature was found, and the answer changed"
            assert not torch.equal(after[asked], before[asked])
            winners = after.argmax(2)
            assert ((winners[asked] >= first) & (winners[asked] < last)).all()
            before = after
        torch.testing.assert_close(before.exp().sum(2), torch.ones(12, 2))
        torch.testing.assert_close(before.exp()[:, :, 4:].sum(2)[:, 0], network.answers(image, 0)[0][:, 1].exp())


def test_a_step_teaches_the_network_of_the_true_nature_alone() -> None:
    network = small().train()
    outputs = network(cases())
    assert len(outputs) == 3 and not outputs[0].requires_grad
    sum(nn.functional.cross_entropy(each, torch.zeros(6, dtype=torch.long)) for each in outputs[1:]).backward()
    for magnification in range(2):
        nature, benign, malignant = (network.heads[3 * magnification + q].weight.grad for q in range(3))
        assert nature.abs().sum() > 0 and benign.abs().sum() > 0
        assert malignant.abs().max() < 1e-6
    torch.testing.assert_close(outputs[1].exp().sum(1), torch.ones(6))


def test_patches_of_an_image_are_averaged() -> None:
    network, image = small(), cases(2)
    maps = network.trunks[0].feature_map(image[:, :3])
    halves = [
        nn.functional.adaptive_avg_pool2d(half, 1).flatten(1) for half in maps.split(math.ceil(maps.shape[2] / 2), 2)
    ]
    expected = torch.stack([network.heads[0](half).softmax(1) for half in halves]).mean(0)
    torch.testing.assert_close(network.answers(image, 0)[0].exp(), expected)


def test_a_missing_magnification_has_no_say() -> None:
    network, image = small(), cases()
    network.tree.set_nodes([0], [0.0], [-1], [-1], [[1.0, 0.0]])  # trusts the first, whatever it says
    network.put("fitted_tree", True)
    with torch.no_grad():
        both = network.opinions(image)
        assert torch.equal(network(image), both[:, 0])
        image[:3, :3] = 0
        opinions = network.opinions(image)
        torch.testing.assert_close(opinions[:3, 0], torch.full((3, 8), -math.log(8)))
        answer = network(image)
        torch.testing.assert_close(answer[:3], both[:3, 1])
        torch.testing.assert_close(answer[3:], both[3:, 0])
        nothing = network(torch.zeros(1, 6, 48, 32))
    torch.testing.assert_close(nothing, torch.full((1, 8), -math.log(8)))


def test_magnifications_are_averaged_until_the_tree_is_fitted() -> None:
    network, image = small(), cases()
    with torch.no_grad():
        mean = network.opinions(image).exp().mean(1)
        torch.testing.assert_close(network(image).exp(), mean)
        network.put("fitted_tree", True)
        network.decision = "average"
        torch.testing.assert_close(network(image).exp(), mean)


def reliable_if_sure(seed: int, count: int = 400) -> tuple[Tensor, Tensor]:
    """Opinions (N, 2, 8): the first magnification is right where its entropy is low, and misled elsewhere.

    The second knows the type in 70 of 100 cases, and is never very sure.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(8, (count,), generator=generator)
    wrong = (labels + torch.randint(1, 8, (count,), generator=generator)) % 8
    sharp = torch.rand(count, generator=generator) < 0.5
    first = torch.full((count, 8), 0.02)
    first[torch.arange(count), torch.where(sharp, labels, wrong)] = 0.86
    first[~sharp] = 0.6 * first[~sharp] + 0.05  # surer of the wrong type than the second of the right one
    second = torch.full((count, 8), 0.08)
    known = torch.rand(count, generator=generator) < 0.7
    second[torch.arange(count), torch.where(known, labels, wrong)] = 0.44
    return torch.stack([first, second], 1).log(), labels


@pytest.mark.parametrize("seed", range(5))
def test_the_tree_is_better_than_an_average_where_low_entropy_tells_whom_to_trust(seed: int) -> None:
    network, there = small(), torch.ones(400, 2, dtype=torch.bool)
    logs, labels = reliable_if_sure(2 * seed)
    network.tree.fit(logs, labels)
    network.put("fitted_tree", True)
    logs, labels = reliable_if_sure(2 * seed + 1)

    def right(decision: str) -> float:
        network.decision = decision
        return float((network.decide(logs, there).argmax(1) == labels).float().mean())

    assert right("tree") > right("average") + 0.1


def test_published_weights_go_into_every_trunk_and_frozen_stages_stay(tmp_path: Path) -> None:
    torch.manual_seed(3)
    published = build_classifier("resnet10", 2, 3, 1000, size="slim").state_dict()
    torch.save({name.replace("classifier.", "fc."): value for name, value in published.items()}, tmp_path / "net.pth")
    network = start_from(build_mudern("resnet10", 2, size="slim", share="none"), tmp_path / "net.pth", "stage1")
    assert len(network.trunks) == 6
    for trunk in network.trunks:
        assert torch.equal(trunk.layer4[0].conv1.weight, published["layer4.0.conv1.weight"])
        assert not trunk.conv1.weight.requires_grad and trunk.layer2[0].conv1.weight.requires_grad


def test_impossible_wishes() -> None:
    with pytest.raises(ConfigError, match="Share of trunks 'some' is unknown"):
        build_mudern("resnet10", 2, share="some")
    with pytest.raises(ConfigError, match="Decision 'vote' is unknown"):
        small(decision="vote")
    with pytest.raises(ConfigError, match="1 trunks for share 'none' of 2"):
        MuDeRN(list(build_mudern("resnet10", 1, share="all", size="slim").trunks), 2, share="none")
