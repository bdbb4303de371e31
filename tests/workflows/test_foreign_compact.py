from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import Activationsd, AsDiscreted, Compose, EnsureTyped, Invertd, KeepLargestConnectedComponentd

from medresnet3d.inferers import SlidingWindowInferer
from medresnet3d.workflows.foreign_compact import label_inferer, split_argmax

ARGMAX = AsDiscreted("pred", argmax=True)
SOFTMAX = Activationsd("pred", softmax=True)
LARGEST = KeepLargestConnectedComponentd("pred", applied_labels=[1])


@pytest.mark.parametrize("chain", [[SOFTMAX, ARGMAX, LARGEST], [ARGMAX, LARGEST]])
def test_what_is_left_to_do_with_labels_gives_the_same(chain: list[object]) -> None:
    values = torch.as_tensor(np.random.default_rng(0).normal(size=(3, 6, 6, 6)), dtype=torch.float32)
    split = split_argmax(Compose(chain))
    assert split is not None and split[1]
    expected = Compose(chain)({"pred": values.clone()})["pred"]
    torch.testing.assert_close(split[0]({"pred": values.argmax(0, keepdim=True)})["pred"].float(), expected.float())


def test_an_inversion_before_it_becomes_one_of_labels() -> None:
    preprocessing = Compose([EnsureTyped("image")])
    inversion = Invertd("pred", preprocessing, "image", nearest_interp=False)
    split = split_argmax(Compose([SOFTMAX, inversion, ARGMAX]))
    assert split is not None and not split[1]
    (left,) = split[0].transforms
    assert left.nearest_interp == (True,) and left.transform is preprocessing
    assert inversion.nearest_interp == (False,)


@pytest.mark.parametrize(
    "chain",
    [
        [],
        [SOFTMAX],
        [Activationsd("pred", sigmoid=True), ARGMAX],
        [AsDiscreted("pred", argmax=True, to_onehot=3)],
        [AsDiscreted("pred", threshold=0.5)],
        [EnsureTyped("pred"), ARGMAX],
        [AsDiscreted("other", argmax=True)],
    ],
)
def test_nothing_else_is_touched(chain: list[object]) -> None:
    assert split_argmax(Compose(chain)) is None


def test_the_inferer_of_labels_is_another_one() -> None:
    inferer = SlidingWindowInferer(8, strategy="windows")
    assert label_inferer(inferer).output == "labels"
    assert inferer.output == "logits"
