from __future__ import annotations

import pytest
import torch
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.networks.classifier import ARCHITECTURES, build_classifier


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_is_built_by_name_in_2d_and_3d(arch: str) -> None:
    for spatial_dims in (2, 3):
        network = build_classifier(
            arch, spatial_dims, in_channels=2, num_classes=5, width=0.03125, stem_stride=1
        ).eval()
        image = torch.zeros(1, 2, *[40 if arch in ("alexnet", "inception_v3", "inception_v4") else 32] * spatial_dims)
        with torch.no_grad():
            assert network(image).shape == (1, 5)
            assert network.forward_features(image).shape == (1, network.classifier.in_features)


def test_size_slim_is_a_quarter_of_the_width() -> None:
    with torch.device("meta"):
        slim, paper = build_classifier("resnet18", size="slim"), build_classifier("resnet18", size="paper")
        own = build_classifier("resnet18", width=0.5)
    assert [n.classifier.in_features for n in (slim, own, paper)] == [128, 256, 512]


@pytest.mark.parametrize("size", ["slim", "paper"])
def test_paper_size_has_the_frozen_counts(size: str) -> None:
    frozen = {
        "resnet18": (2_078_674, 33_161_026),
        "resnet50": (2_899_794, 46_159_170),
        "densenet121": (722_978, 11_244_674),
        "vgg16": (3_943_122, 63_022_914),
        "vgg19": (4_938_770, 78_949_442),
        "mobilenet_v1": (235_906, 3_298_306),
        "xception": (1_456_760, 21_262_778),
    }
    with torch.device("meta"):
        for arch, counts in frozen.items():
            network = build_classifier(arch, size=size)
            assert sum(p.numel() for p in network.parameters()) == counts[size == "paper"], arch


def test_stem_stride_reaches_every_family_that_has_one() -> None:
    for arch in ("resnet10", "densenet121", "mobilenet_v1", "xception"):
        first = [
            next(
                m for m in build_classifier(arch, 3, width=0.0625, stem_stride=s).modules() if isinstance(m, nn.Conv3d)
            )
            for s in (1, 2)
        ]
        assert [conv.stride for conv in first] == [(1, 1, 1), (2, 2, 2)], arch


@pytest.mark.parametrize(
    ("options", "hint"), [({"arch": "resnet81"}, "'resnet18'"), ({"arch": "resnet18", "size": "slm"}, "'slim'")]
)
def test_unknown_name_lists_the_choices_and_the_nearest(options: dict[str, str], hint: str) -> None:
    with pytest.raises(ConfigError, match=f"choose one of .*Did you mean {hint}"):
        build_classifier(**options)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["resnet50", "densenet121", "vgg16", "vgg19", "mobilenet_v1", "xception"])
def test_published_size_runs_forward(arch: str) -> None:
    with torch.no_grad():
        output = build_classifier(arch, size="paper").eval()(torch.zeros(1, 1, 32, 32, 32))
    assert output.shape == (1, 2)
    assert torch.isfinite(output).all()
