from __future__ import annotations

import pytest
import torch
from torch import nn

from medresnet3d.networks.classifier import build_classifier
from medresnet3d.networks.msresnet import build_msresnet
from medresnet3d.networks.multi_input import build_multi_input
from medresnet3d.networks.multi_view import build_multi_view
from medresnet3d.networks.regressor import build_regressor
from medresnet3d.networks.svm_classifier import build_svm_classifier
from medresnet3d.networks.trunks import trunks_of

SMALL = {"arch": "resnet10", "width": 0.03125}
BUILT = {
    "classifier": (lambda: build_classifier(spatial_dims=2, **SMALL), [""]),
    "three views": (lambda: build_multi_view(**SMALL), ["trunks.0.", "trunks.1.", "trunks.2."]),
    "one trunk for all views": (lambda: build_multi_view(share_weights=True, **SMALL), ["trunks.0."]),
    "three inputs": (lambda: build_multi_input(**SMALL), ["trunks.0.", "trunks.1.", "trunks.2."]),
    "slices that vote": (lambda: build_msresnet(2, size="slim"), ["network."]),
    "a volume": (lambda: build_msresnet(3, size="slim"), [""]),
    "a number": (lambda: build_regressor(**SMALL), ["backbone."]),
    "a support vector machine": (lambda: build_svm_classifier(**SMALL), ["network."]),
    "something else": (lambda: nn.Sequential(nn.Linear(2, 2)), [""]),
}


@pytest.mark.parametrize("name", BUILT)
def test_trunks_by_the_beginning_of_their_names(name: str) -> None:
    build, prefixes = BUILT[name]
    with torch.device("meta"):
        network = build()
    trunks = trunks_of(network)
    assert list(trunks) == prefixes
    for prefix, trunk in trunks.items():
        assert {prefix + own for own in trunk.state_dict()} <= set(network.state_dict())
